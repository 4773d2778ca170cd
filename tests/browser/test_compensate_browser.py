"""Compensate in a real browser: the two-weight example moves while it is dragged, and a link holds the chosen weight."""

import re

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, drawn, ready

pytestmark = pytest.mark.browser


def test_the_example_moves_while_dragged_and_the_link_holds_the_choice(page: Page, app_url: str):
    page.goto(f"{app_url}/compensate?model=digits-mlp&samples=100")
    ready(page, charts=7)
    chart = drawn(page).first
    label = chart.locator(".slider-label").first  # the current value; the others belong to the ticks
    contours = chart.locator(".scatterlayer .js-line").first
    expect(label).to_have_text(re.compile("ρ = 0.80: OBD loses 0.50, OBS 0.18"))
    before, curve = label.text_content(), contours.get_attribute("d")
    chart.scroll_into_view_if_needed()
    grip = chart.locator(".slider-grip-rect").bounding_box()
    middle = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 120, middle[1], steps=8)
    expect(label).not_to_have_text(before, timeout=5_000)  # still held: the button is not up yet
    assert contours.get_attribute("d") != curve
    page.mouse.up()

    sentence = page.get_by_text("Here it goes alone.")
    first = sentence.inner_text()
    page.get_by_role("radio", name="largest").or_(page.get_by_role("button", name="largest", exact=True)).click()
    expect(page).to_have_url(re.compile("q=largest"), timeout=PATIENCE)
    expect(sentence).not_to_have_text(first, timeout=PATIENCE)  # the link is there before the page is drawn anew
    chosen = sentence.inner_text()
    page.goto(page.url)
    expect(sentence).to_have_text(chosen, timeout=PATIENCE)
