"""Speed in a real browser: what is measured is said, and the pruned network can be taken home."""

import re

import pytest
from playwright.sync_api import Page, expect
from safetensors.torch import load_file
from seeing import PATIENCE, ready

pytestmark = pytest.mark.browser


def test_measured_again_and_taken_home(page: Page, app_url: str, tmp_path):
    """The finding stands on top, a second measurement replaces the first, and the file holds the weights the page speaks of."""
    page.goto(f"{app_url}/speed?samples=100&model=digits-mlp")
    ready(page, charts=4)
    finding = page.get_by_text(re.compile(r"the dense kernel takes \d+\.\d\d× as long as before"))
    expect(finding).to_be_visible()
    page.get_by_role("radio", name="32").or_(page.get_by_role("button", name="32", exact=True)).first.click()
    expect(page.get_by_text("a call of 32 images", exact=False).first).to_be_visible(timeout=PATIENCE)
    expect(page).to_have_url(re.compile("at-once=32"))
    page.get_by_role("button", name="Measure again").click()
    ready(page)
    page.get_by_text("Take home: the pruned network", exact=False).click()
    with page.expect_download(timeout=PATIENCE) as started:
        page.get_by_role("button", name="Pruned network").click()
    started.value.save_as(tmp_path / "pruned.safetensors")
    tensors = load_file(tmp_path / "pruned.safetensors")
    assert sum(int(mask.sum()) for name, mask in tensors.items() if name.endswith(".mask")) == 543
    expect(page.get_by_test_id("stException")).to_have_count(0)
