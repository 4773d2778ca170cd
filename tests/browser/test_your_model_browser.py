"""Bring a model and data, prune them; break the upload in six ways and be told kindly."""

import pickle
import re
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, ready

from woodfisher_core.own import sample_data, sample_weights

pytestmark = pytest.mark.browser


def bring(page: Page, field: int, name: str, content: bytes) -> None:
    chosen = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("input[type=file]").nth(field).set_input_files(chosen)


def zip_of(*entries: tuple[str, bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def test_a_model_and_data_come_in_and_are_pruned(page: Page, app_without_data: str, context):
    page.goto(f"{app_without_data}/your_model?samples=100")
    ready(page)
    bring(page, 0, "my net.safetensors", sample_weights("digits-cnn"))
    expect(page.get_by_text(re.compile("for digits-cnn")).first).to_be_visible(timeout=PATIENCE)
    bring(page, 1, "digs.npz", sample_data("digits"))
    expect(page.get_by_text(re.compile("read by digits-mlp and digits-cnn")).first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(re.compile(r"my net answers 98\.40"))).to_be_visible(timeout=PATIENCE)
    ready(page, notices=2)  # that both have come in
    page.get_by_role("link", name="Prune it in Explore").click()
    headline = page.get_by_text(re.compile(r"^Removing 80\.0.*from 98\.40"))
    expect(headline).to_be_visible(timeout=PATIENCE)
    expect(page).to_have_url(re.compile(r"model=digits-cnn.*weights=own-[0-9a-f]{12}.*data=own-[0-9a-f]{12}"))
    ready(page)
    other = context.browser.new_page()
    other.goto(page.url)
    expect(other.get_by_text(headline.inner_text(), exact=True)).to_be_visible(timeout=PATIENCE)
    other.close()


def test_six_broken_files_are_told_kindly(page: Page, app_without_data: str):
    """Each leaves a sentence in its field, the page whole, and nothing on the disk."""
    page.goto(f"{app_without_data}/your_model?samples=100")
    ready(page)
    good = sample_weights("digits-mlp")
    broken = [
        (0, "wrong.safetensors", good.replace(b"fc1.weight", b"fc9.weight"), "fits none of"),
        (0, "cut.safetensors", good[:-200], "truncated"),
        (1, "bomb.zip", zip_of(("a/1.png", bytes(60_000_000))), "looks like a zip bomb"),
        (1, "up.zip", zip_of(("../../../tmp/owned.png", b"x")), "names a place outside of the archive"),
        (0, "net.pt", pickle.dumps({"a": 1}), "Opening a pickle can run any program"),
        (0, "head.safetensors", (10**10).to_bytes(8, "little") + b"{}", r"head alone is 10\.0 GB"),
    ]
    for field, name, content, words in broken:
        bring(page, field, name, content)
        expect(page.get_by_text(re.compile(words))).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text(re.compile("answers 97"))).to_be_visible(timeout=PATIENCE)
    assert not Path("/tmp/owned.png").exists()
