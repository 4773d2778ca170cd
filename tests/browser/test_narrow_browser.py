"""A telephone's width: nothing on any page runs over its edge."""

from contextlib import suppress

import pytest
from playwright.sync_api import TimeoutError

pytestmark = pytest.mark.browser

STEPS = ("question", "taylor", "one-weight", "fisher", "woodbury", "blocks", "many", "recap")
PAGES = (
    *("", "sensitivity", "trust", "compensate", "compare", "gradual", "speed", "your_model"),
    *(f"learn?step={step}" for step in STEPS),
)
# Equations that would have to be scrolled (rounding makes some a pixel or two too wide), and labels and buttons whose right end
# lies beyond the window's.
BEYOND = """() => {
    const main = document.querySelector('[data-testid=stMain]'), right = window.innerWidth;
    const ends = element => element.getBoundingClientRect().right;
    const equations = [...main.querySelectorAll('.katex-display')].filter(one => one.scrollWidth > one.clientWidth + 4);
    const buttons = [...main.querySelectorAll('button, label')].filter(one => one.offsetParent && ends(one) > right);
    const wide = main.scrollWidth > main.clientWidth ? [main] : [];
    return [...equations, ...buttons, ...wide].map(one => one.textContent.slice(0, 60));
}"""


@pytest.mark.parametrize("path", PAGES)
def test_nothing_runs_over(app_url, new_context, path):
    """At 360 pixels, once all is drawn."""
    page = new_context(viewport={"width": 360, "height": 800}).new_page()
    page.goto(f"{app_url}/{path}")
    page.get_by_text("Up to date").first.wait_for(timeout=120_000)
    if path.startswith(("learn", "gradual")):
        page.locator(".katex-display").first.wait_for()
    with suppress(TimeoutError):  # what is still on its way may be too wide for a moment
        page.wait_for_function(f"({BEYOND})().length === 0", timeout=10_000)
    assert page.evaluate(BEYOND) == []


def test_what_runs_over_is_found(app_url, new_context):
    """An equation and a button too wide for the window."""
    page = new_context(viewport={"width": 360, "height": 800}).new_page()
    page.goto(f"{app_url}/learn")
    page.get_by_text("Up to date").first.wait_for(timeout=120_000)
    page.locator(".katex-display .katex").first.wait_for()
    page.evaluate(
        "document.querySelector('.katex-display .katex').style.paddingLeft = '500px';"
        "document.querySelector('[data-testid=stMain] button').style.marginLeft = '500px'"
    )
    assert len(page.evaluate(BEYOND)) >= 2
