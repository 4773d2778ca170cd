"""Trust in a real browser: the finding, the damping that moves while dragged, and a link that opens the same view."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from seeing import PATIENCE, drawn, ready

pytestmark = pytest.mark.browser
QUICK = "samples=200&trust-weights=50&trust-images=100"


def test_a_teacher_shows_where_the_model_breaks(page: Page, app_url: str, browser: Browser):
    page.goto(f"{app_url}/trust?{QUICK}")
    ready(page, charts=8)
    finding = page.get_by_text("the quadratic model foresees", exact=False).first
    assert re.search(r"foresees [+−]\d.* nats on held-out images; measured are [+−]\d", finding.inner_text())

    spectrum = drawn(page, "How many directions does the Fisher know?")
    label = spectrum.locator(".slider-label").first
    before = label.text_content()
    spectrum.scroll_into_view_if_needed()
    grip = spectrum.locator(".slider-grip-rect").bounding_box()
    middle = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 150, middle[1], steps=8)
    expect(label).not_to_have_text(before, timeout=5_000)  # still held: the button is not up yet
    page.mouse.up()
    assert re.match(r"λ = .*: [\d,]+ of 2,720 directions", label.text_content())

    page.get_by_text("statistic", exact=True).first.click()
    expect(page.get_by_text("The statistic is within a factor of 2", exact=False).first).to_be_visible(timeout=PATIENCE)
    expect(page).to_have_url(re.compile("trust-by=statistic"))
    said = [text for text in page.get_by_text("Rank correlation with", exact=False).all_inner_texts()]
    other = browser.new_context().new_page()
    other.goto(page.url)
    ready(other)
    assert [text for text in other.get_by_text("Rank correlation with", exact=False).all_inner_texts()] == said
    other.context.close()


def test_nothing_is_wider_than_a_phone(browser: Browser, app_url: str):
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{app_url}/trust?{QUICK}")
    ready(page)
    assert page.get_by_test_id("stMain").evaluate("element => element.scrollWidth <= element.clientWidth")
    context.close()
