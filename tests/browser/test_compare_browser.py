"""Compare in a real browser: from view to view, another baseline, and the link that says so."""

import re

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, drawn, ready

pytestmark = pytest.mark.browser


def view(page: Page, heading: str) -> None:
    """Waits for the view whose chart bears ``heading``."""
    ready(page)
    expect(drawn(page, heading)).to_be_visible(timeout=PATIENCE)


def test_from_who_wins_to_what_it_costs(page: Page, app_url: str):
    """The finding stands on top; the views follow one another; a link opens the same view in a fresh browser."""
    page.goto(f"{app_url}/compare?model=digits-mlp&samples=100")
    view(page, "Which method keeps most accuracy?")
    expect(page.get_by_text(re.compile("^At 80.% sparsity .* keeps most"))).to_be_visible()
    page.get_by_role("radio", name="cost").click()
    view(page, "What does accuracy cost?")
    expect(page.get_by_text(re.compile("^Nobody is both quicker and better than"))).to_be_visible()
    expect(page).to_have_url(re.compile("view=cost"))
    link = page.url.replace("view=cost", "view=layers") + "&against=kfac"
    fresh = page.context.browser.new_page()
    fresh.goto(link)
    view(fresh, "Where does each method take its weights from?")
    expect(fresh.get_by_text(re.compile("^At 80.% sparsity, against K-FAC"))).to_be_visible()
    fresh.close()
