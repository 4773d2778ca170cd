"""Sensitivity in a real browser: the λ slider moves the chart while it is dragged, without the server."""

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
PATIENCE = 90_000


def test_the_damping_moves_while_dragged(page: Page, app_url: str):
    page.goto(f"{app_url}/sensitivity?samples=200")
    expect(page.get_by_text("Up to date.", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(3)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    chart = page.get_by_test_id("stPlotlyChart").first
    label = chart.locator(".slider-label")
    before, bars = label.text_content(), chart.locator(".bars").first.inner_html()
    rail = chart.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.move(rail["x"] + rail["width"] * 0.5, rail["y"] + rail["height"] / 2)
    page.mouse.down()
    page.mouse.move(rail["x"] + rail["width"] * 0.1, rail["y"] + rail["height"] / 2, steps=5)
    expect(label).not_to_have_text(before, timeout=5_000)  # still held: the button is not up yet
    assert chart.locator(".bars").first.inner_html() != bars
    page.mouse.up()
    assert re.match(r"λ = .*: \d+\.\d %", label.text_content())


def test_pages_link_to_each_other_and_keep_the_setting(page: Page, app_url: str):
    """From Explore to Sensitivity: the sparsity chosen there is the sparsity here."""
    page.goto(f"{app_url}/?sparsity=0.9&samples=100")
    expect(page.get_by_text("Removing 90.0 %", exact=False)).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="Sensitivity").click()
    expect(page.get_by_text("the accuracy at sparsity 0.9 lies", exact=False)).to_be_visible(timeout=PATIENCE)
    assert "sparsity=0.9" in page.url
