"""What an address says goes along from page to page, in a real browser."""

import re

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, keyed, ready

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    "asked", ["?sparsity=0.9&update=none&samples=100", "?hide=sparsity,seed&sparsity=0.9&samples=100"]
)
def test_the_setting_of_a_link_is_that_of_the_next_page(page: Page, app_url: str, asked: str):
    """Whoever opens a link and goes on to another page at once keeps its setting there, and in the address; so does a class."""
    page.goto(f"{app_url}/{asked}")
    ready(page)
    for title in ("Compensate", "Explore"):
        page.get_by_role("link", name=title, exact=True).first.click()
        expect(page).to_have_url(re.compile("sparsity=0.9"), timeout=PATIENCE)
        ready(page)
        expect(keyed(page, "sparsity", "input[type=range]")).to_have_value("0.9")
        for part in asked.removeprefix("?").replace(",", "%2C").split("&"):
            expect(page).to_have_url(re.compile(re.escape(part)))


def test_what_a_link_asks_for_in_vain_is_said(page: Page, app_url: str):
    page.goto(f"{app_url}/?sparsity=7&samples=100&damping=much")
    ready(page, notices=1)
    expect(page.get_by_text("not on offer here: ", exact=False)).to_have_text(
        re.compile(r"here: (sparsity 7 \(shown: 0\.8\), damping much|damping much \(shown: 1e-3\), sparsity 7)")
    )
    keyed(page, "sparsity", "input[type=range]").press("ArrowRight")
    expect(page).to_have_url(re.compile("sparsity=0.81"), timeout=PATIENCE)
    ready(page)
