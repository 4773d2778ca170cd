"""An automated accessibility check (axe-core) of every page, light and dark: nothing serious in what we add."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from seeing import PATIENCE

pytestmark = pytest.mark.browser

PAGES = (
    *("", "learn", "sensitivity", "trust", "compensate", "compare", "gradual", "speed", "your_model", "runs"),
    "?hide=damping,block&seed=3",
)
BACKGROUND = "() => getComputedStyle(document.querySelector('.stApp')).backgroundColor"
SERIOUS = {"serious", "critical"}
# What Streamlit's own markup brings: rule → how such an element begins. Nothing of ours is in these.
STREAMLITS = {
    # The chosen words of a multiselect are white on the primary colour, which in the dark must itself be read on dark.
    "color-contrast": '<span title="',
}


def found(page) -> list[str]:
    """Serious findings, ``rule: place: why``, without Streamlit's own; colours on their way from one to another do not count."""
    page.add_style_tag(content="* { transition: none !important; animation: none !important }")
    page.wait_for_function("document.getAnimations().every(one => !(one instanceof CSSTransition))")
    answer = Axe().run(page).response
    return [
        f"{violation['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']} {node['html'][:200]}"
        for violation in answer["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
        if not node["html"].startswith(STREAMLITS.get(violation["id"], "nothing of theirs"))
    ]


@pytest.mark.parametrize("path", PAGES)
def test_nothing_serious(app_url, new_context, path):
    """Names, roles, contrast and order are as WCAG asks, in the light and in the dark."""
    page = new_context(color_scheme="light", viewport={"width": 1300, "height": 900}).new_page()
    page.goto(f"{app_url}/{path}")
    if path == "runs":
        page.get_by_role("heading", level=1).wait_for(timeout=60_000)
    else:
        page.get_by_text("Up to date").first.wait_for(timeout=120_000)
    expect(page.locator("[data-test-script-state=notRunning]")).to_have_count(1, timeout=PATIENCE)
    assert found(page) == []
    before = page.evaluate(BACKGROUND)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"({BACKGROUND})() !== '{before}'")
    assert found(page) == []


def test_the_check_finds_what_is_wrong(app_url, page):
    """An image and a button without names, put into the page, are found."""
    page.goto(f"{app_url}/runs")
    page.get_by_role("heading", level=1).wait_for(timeout=60_000)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<main><img src=x.png><button></button></main>')")
    rules = {finding.partition(":")[0] for finding in found(page)}
    assert {"image-alt", "button-name"} <= rules
