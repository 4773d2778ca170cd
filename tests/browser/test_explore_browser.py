"""Explore in a real browser, one story a test."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from seeing import PATIENCE, drawn, keyed, ready

pytestmark = pytest.mark.browser
CHARTS = 6


@pytest.fixture
def watched(page: Page) -> Page:
    """A page whose console errors and requests to other machines fail the test at its end."""
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if _leaves(request.url) else None)
    page.set_default_timeout(PATIENCE)
    yield page
    assert problems == []


def _leaves(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def headline(page: Page) -> str:
    return keyed(page, "headline", "p").first.inner_text().replace("\u00a0", " ")


def slide(page: Page, key: str, presses: str, times: int = 1) -> None:
    """Moves a slider with the keyboard and lets go."""
    thumb = keyed(page, key, "input[type=range]")
    thumb.focus()
    for _ in range(times):
        thumb.press(presses)


def test_the_first_view_teaches_without_a_click(watched: Page, app_url: str):
    """All charts are drawn, each asks a question and has a sentence; a first-time visitor reads what happened."""
    watched.goto(app_url)
    ready(watched, CHARTS)
    assert "Removing 80.0 % of the network's 2,720 weights" in headline(watched)
    titles = watched.locator(".gtitle").all_text_contents()
    assert len(titles) == CHARTS
    assert all(title.endswith("?") for title in titles)
    named = watched.locator("[data-testid=stPlotlyChart] [aria-label], [data-testid=stPlotlyChart][aria-label]")
    assert named.count() >= CHARTS


def test_moving_the_sparsity_moves_everything(watched: Page, app_url: str):
    """A released slider changes the sentence, the chart's mark and the address; the link opens the same view elsewhere."""
    watched.goto(app_url)
    ready(watched, CHARTS)
    before = headline(watched), watched.get_by_text(re.compile(r"^yours: ")).first.text_content()
    slide(watched, "sparsity", "ArrowRight", 10)
    expect(watched.get_by_text("Removing 90.0 %", exact=False)).to_be_visible(timeout=PATIENCE)
    ready(watched, CHARTS)
    after = headline(watched), watched.get_by_text(re.compile(r"^yours: ")).first.text_content()
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert "sparsity=0.9" in watched.url


def test_a_copied_link_opens_the_same_view(watched: Page, app_url: str, browser: Browser):
    """In a fresh profile the same address shows the same sentence."""
    watched.goto(f"{app_url}/?damping=1e-5&samples=100&update=joint&sparsity=0.85&scope=layer&seed=3")
    ready(watched, CHARTS)
    stranger = browser.new_context().new_page()
    stranger.goto(watched.url)
    ready(stranger, CHARTS)
    assert headline(stranger) == headline(watched)
    assert "85.0 %" in headline(stranger)
    stranger.context.close()


def test_damping_and_samples_move_the_statistic(watched: Page, app_url: str):
    """Each control's own note follows it, and so do the charts."""
    watched.goto(app_url)
    ready(watched, CHARTS)
    before = drawn(watched).nth(2).inner_html()
    slide(watched, "damping", "ArrowLeft", 4)
    expect(watched).to_have_url(re.compile("damping=1e-5"), timeout=PATIENCE)
    expect(watched.get_by_text(re.compile(r"--damping 1e-05")).first).to_be_attached(timeout=PATIENCE)
    ready(watched, CHARTS)
    assert drawn(watched).nth(2).inner_html() != before
    slide(watched, "samples", "ArrowLeft", 3)
    expect(watched.get_by_text("7.7 % of the 1,297 training images", exact=False)).to_be_visible(timeout=PATIENCE)
    ready(watched, CHARTS)


def test_relative_damping_is_in_the_link(watched: Page, app_url: str, browser: Browser):
    """One click makes the slider's value a multiple of the mean curvature, shows the λ in force, and is in the address."""
    watched.goto(f"{app_url}/?samples=100")
    ready(watched, CHARTS)
    before = headline(watched)
    keyed(watched, "damping-scale").get_by_text("relative", exact=True).click()
    note = watched.get_by_text(re.compile(r"^λ = 0.001 × "))
    expect(note).to_be_visible(timeout=PATIENCE)
    ready(watched, CHARTS)
    assert headline(watched) != before
    slide(watched, "damping", "End")
    expect(watched).to_have_url(re.compile("damping=1e3"), timeout=PATIENCE)
    expect(watched.get_by_text(re.compile(r"^λ = 1000 × "))).to_be_visible(timeout=PATIENCE)
    ready(watched, CHARTS)
    stranger = browser.new_context().new_page()
    stranger.goto(watched.url)
    ready(stranger, CHARTS)
    assert "damping-scale=relative" in watched.url
    assert headline(stranger) == headline(watched)
    stranger.context.close()


def test_the_paper_network(watched: Page, app_url: str, mnist_root):
    """MLPNet on MNIST: chosen from the list, pruned, explained."""
    watched.goto(app_url)
    ready(watched, CHARTS)
    watched.get_by_role("combobox", name=re.compile("Network")).click()
    watched.get_by_role("option", name="mlpnet").click()
    finished = keyed(watched, "headline").get_by_text("32,360 weights", exact=False)
    asked = watched.get_by_role("button", name="Compute it")  # a machine busy with other work asks first
    expect(finished.or_(asked)).to_be_visible(timeout=PATIENCE)
    if asked.is_visible():
        asked.click()
    expect(finished).to_be_visible(timeout=PATIENCE)
    ready(watched, CHARTS)
    assert "model=mlpnet" in watched.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out(watched: Page, app_url: str, scheme: str, width: int):
    """Narrow or wide, light or dark: the page never scrolls sideways."""
    watched.emulate_media(color_scheme=scheme)
    watched.set_viewport_size({"width": width, "height": 900})
    watched.goto(app_url)
    ready(watched, CHARTS)
    assert watched.evaluate("document.documentElement.scrollWidth") <= width
    background = watched.locator(".stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    bright = sum(int(n) for n in re.findall(r"\d+", background)[:3]) / 3 > 128
    assert bright == (scheme == "light")


def test_missing_data_is_explained_and_a_failed_download_said(page: Page, app_without_data: str):
    """Without MNIST the page says what to do; a download that cannot reach anything ends in a sentence, not a traceback."""
    page.goto(f"{app_without_data}/?model=mlpnet")
    expect(page.get_by_text("This network needs MNIST", exact=False)).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Download MNIST").click()
    failed = page.get_by_text("The download failed: MNIST: the download failed", exact=False)
    expect(failed).to_be_visible(timeout=PATIENCE)
    expect(failed).to_contain_text("Check the network")
    expect(page.get_by_test_id("stException")).to_have_count(0)
