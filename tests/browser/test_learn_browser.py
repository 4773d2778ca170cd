"""Learn in a real browser: a step forward stands in the link, and the glossary finds a word."""

import re

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, ready

pytestmark = pytest.mark.browser


def test_a_walk_and_its_link(page: Page, app_url: str):
    """Next goes on, the address names the step, and opened anew it shows the same formula; no formula is broken."""
    page.goto(f"{app_url}/learn?samples=100")
    ready(page)
    page.get_by_role("button", name="Next: Taylor").click()
    expect(page.get_by_role("heading", name="What does a change of the weights cost?")).to_be_visible(timeout=PATIENCE)
    ready(page)
    expect(page).to_have_url(re.compile("step=taylor"))
    formula = page.get_by_test_id("stMain").locator(".katex-display").nth(1)
    expect(formula).to_be_visible(timeout=PATIENCE)
    before = formula.text_content()
    other = page.context.new_page()
    other.goto(page.url)
    ready(other)
    expect(other.get_by_test_id("stMain").locator(".katex-display").nth(1)).to_have_text(before, timeout=PATIENCE)
    assert other.locator(".katex-error").count() == 0


def test_the_glossary_finds_a_word(page: Page, app_url: str):
    page.goto(f"{app_url}/learn?samples=100&step=recap")
    ready(page)
    page.get_by_text("Glossary: the words and symbols").click()
    field = page.get_by_label("Find a word or a symbol")
    expect(field).to_be_visible(timeout=PATIENCE)
    field.fill("saliency")
    field.press("Enter")
    expect(page.get_by_role("cell", name="Pruning statistic")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("cell", name="Seed", exact=True)).to_have_count(0, timeout=PATIENCE)
