"""Gradual in a real browser with a real worker: the first view runs by itself, fills as one looks, and outlives its tab."""

import re

import pytest
from playwright.sync_api import Page, expect
from seeing import drawn, keyed, ready

pytestmark = pytest.mark.browser
PATIENCE = 240_000  # milliseconds: the worker must start, at low priority
# One job of many small epochs: slow enough to be stopped on a fast machine, quick enough on a slow one.
LONG = "gradual?samples=20&epochs=100&last=1&batch=16&with=woodfisher&seed=11"


def test_the_first_view_ends_by_itself(page: Page, app_url: str):
    """Without a click: the worker starts, the epochs come, the sentence holds the end."""
    page.goto(f"{app_url}/gradual?samples=50&with=magnitude")
    expect(page.get_by_text(re.compile(r"^Pruned to .* at once"))).to_be_visible(timeout=PATIENCE)
    expect(drawn(page)).to_have_count(3, timeout=PATIENCE)
    expect(page.get_by_text(re.compile("with training in between, "))).to_be_visible(timeout=PATIENCE)
    ready(page, patience=PATIENCE)
    expect(page.get_by_text(re.compile("Kept as run \\d"))).to_be_visible()
    # Against magnitude and one step, on the same budget, with a verdict; every chart can be taken home.
    for rival in ("WoodFisher \\(OBS\\), one step", "Magnitude"):
        words = rf"against {rival} \(\d+\.\d+\s%\) it is (equal within the noise|better|worse)"
        expect(keyed(page, "headline")).to_contain_text(re.compile(words))
    expect(page.get_by_role("button", name="Take this chart")).to_have_count(3)


def test_stopped_and_gone_on_with_in_another_tab(page: Page, app_url: str):
    """A stop keeps what is done; another tab sees that and goes on, and it ends though that tab is closed."""
    page.goto(f"{app_url}/{LONG}")
    ask, stop = page.get_by_role("button", name="Run it"), page.locator("[class*=st-key-stop-job] button").first
    expect(ask.or_(stop).first).to_be_visible(timeout=PATIENCE)
    if ask.is_visible():
        ask.click()
    expect(page.get_by_text(re.compile(r"So far \d+ of 100 epochs"))).to_be_visible(timeout=PATIENCE)
    stop.click()
    expect(page.get_by_text(re.compile(r"was stopped after \d+ of 100"))).to_be_visible(timeout=PATIENCE)
    other = page.context.new_page()
    other.goto(f"{app_url}/{LONG}")
    other.get_by_role("button", name="Go on").click(timeout=PATIENCE)
    expect(other.get_by_role("button", name="Go on")).to_have_count(0, timeout=PATIENCE)
    other.close()
    page.wait_for_timeout(1000)
    page.reload()
    expect(page.get_by_text(re.compile("At the end "))).to_be_visible(timeout=PATIENCE)
    ready(page, patience=PATIENCE)
