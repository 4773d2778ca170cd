"""A run's life in a real browser: kept on Explore, pinned, opened again, downloaded, deleted, brought back."""

import re
import zipfile

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, drawn, keyed, ready

pytestmark = pytest.mark.browser
LINK = "?model=digits-mlp&samples=100&sparsity=0.85&update=joint&with=magnitude"
ROW, HEAD, BOX = 35, 35, 15  # pixels of the table, which is drawn on a canvas


def go(page: Page, name: str) -> None:
    """Follows a link of this name."""
    page.get_by_role("link", name=name).first.click()
    title = {"Runs": "What have I tried?", "See your runs": "What have I tried?"}.get(
        name, "What does this setting do?"
    )
    expect(page.get_by_role("heading", name=title)).to_be_visible(timeout=PATIENCE)
    ready(page)


def press(page: Page, key: str) -> None:
    keyed(page, key, "button").first.click()


def tick(page: Page, row: int) -> None:
    """Ticks a row of the table, the newest run being 0."""
    frame = page.get_by_test_id("stDataFrame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.click(box["x"] + BOX, box["y"] + HEAD + ROW * row + ROW / 2)


def headline(page: Page) -> str:
    return keyed(page, "headline", "p").first.inner_text()


def test_the_life_of_a_run(page: Page, app_url: str, tmp_path):
    page.set_viewport_size({"width": 1400, "height": 1600})
    page.goto(app_url + "/" + LINK)
    ready(page)
    first = headline(page)
    press(page, "keep")
    expect(page.get_by_text(re.compile(r"Kept as run \d+\."))).to_be_visible(timeout=PATIENCE)
    page.goto(app_url + "/" + LINK.replace("0.85", "0.7"))
    ready(page)
    press(page, "keep")
    expect(page.get_by_text(re.compile(r"Kept as run \d+\."))).to_be_visible(timeout=PATIENCE)
    ready(page)
    go(page, "See your runs")
    # The older one becomes the baseline, and the address says so.
    tick(page, 1)
    press(page, "pin")
    banner = keyed(page, "baseline-banner")
    expect(banner).to_contain_text("85", timeout=PATIENCE)
    pinned = re.search(r"baseline=([0-9a-f]{12})\b", page.url)
    assert pinned
    # It stays over the other page, and Explore holds it against its own result.
    go(page, "Explore")
    expect(page.get_by_text("Against the baseline")).to_be_visible(timeout=PATIENCE)
    assert pinned[0] in page.url
    expect(drawn(page).first).to_contain_text("baseline: ", timeout=PATIENCE)
    go(page, "Runs")
    expect(banner).to_be_visible()
    # Opened again, it is the view it came from, whatever the controls said since.
    tick(page, 1)
    expect(page.get_by_role("link", name="Open in Explore")).to_be_visible(timeout=PATIENCE)
    go(page, "Open in Explore")
    expect(page.get_by_text("This is the baseline")).to_be_visible(timeout=PATIENCE)
    assert headline(page).split(" The best")[0] == first.split(" The best")[0]
    assert "sparsity=0.85" in page.url
    # Both as a file, then one deleted and brought back.
    go(page, "Runs")
    with page.expect_download(timeout=PATIENCE) as download:
        press(page, "download")
    download.value.save_as(tmp_path / "runs.zip")
    assert {"manifest.json", "runs.csv"} <= set(zipfile.ZipFile(tmp_path / "runs.zip").namelist())
    # Other tests' runs may be there too: all tests share the server's store.
    everything = page.get_by_text(re.compile(r"^\d+ runs\.$"))
    count = int(everything.inner_text().split()[0])
    assert count >= 2
    tick(page, 0)
    press(page, "delete")
    expect(page.get_by_text("1 run deleted.")).to_be_visible(timeout=PATIENCE)
    left = f"{count - 1} run." if count == 2 else f"{count - 1} runs."
    expect(page.get_by_text(left, exact=True)).to_be_visible()
    press(page, "undo")
    expect(page.get_by_text(f"{count} runs.", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("1 run deleted.")).to_have_count(0)
