"""Explore's linked views in a real browser: a clicked layer, chosen weights, a pinned setting for a stranger."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from seeing import PATIENCE, keyed, ready

pytestmark = pytest.mark.browser


def click_on(page: Page, bar: int) -> None:
    """Clicks where a bar is: the chart's own drag layer lies over all of them."""
    place = keyed(page, "layers", ".bars .point").nth(bar)
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    page.mouse.move(box["x"] + 15, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)  # plotly finds what is under the pointer a moment after it has come
    page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2)


def test_a_clicked_layer_is_followed_everywhere(page: Page, app_url: str):
    """A bar chooses its layer: its name is in the address, the histogram is its own; the control shows all again."""
    page.goto(f"{app_url}/?samples=100")
    ready(page)
    bars = keyed(page, "layers", ".bars .point")
    expect(bars).to_have_count(3, timeout=PATIENCE)
    click_on(page, 1)  # the bars stand from the last layer to the first
    expect(page).to_have_url(re.compile(r"layer=fc2\b"), timeout=PATIENCE)
    ready(page)
    expect(keyed(page, "layers", ".yaxislayer-above")).to_contain_text("▸ fc2", timeout=PATIENCE)
    expect(keyed(page, "saliency", ".ytitle")).to_have_text("fc2", timeout=PATIENCE)
    everything = page.get_by_role("option", name="all layers")
    for _ in range(20):  # an open list closes when the page is drawn to its end
        if everything.is_visible():
            break
        keyed(page, "layer").get_by_role("combobox").click()
        page.wait_for_timeout(500)
    everything.click()
    expect(page).not_to_have_url(re.compile("layer="), timeout=PATIENCE)
    ready(page)
    expect(keyed(page, "layers")).not_to_contain_text("▸", timeout=PATIENCE)


def test_weights_drawn_around_are_in_the_table_and_in_the_link(page: Page, app_url: str, browser: Browser):
    """A box over the scatter of a small layer chooses weights; a stranger with the link sees the same ones."""
    page.goto(f"{app_url}/?samples=100&layer=fc3")
    ready(page)
    page.get_by_text("Single weights: which, where", exact=False).click()
    expect(page).to_have_url(re.compile("single="), timeout=PATIENCE)
    plot = keyed(page, "weights-scatter", ".nsewdrag")
    expect(plot).to_be_visible(timeout=PATIENCE)
    ready(page)
    plot.scroll_into_view_if_needed()
    plot.hover()  # only then the chart shows its tools
    keyed(page, "weights-scatter", "[data-val=select]").click()
    box = plot.bounding_box()
    right, top = box["x"] + box["width"], box["y"]
    page.mouse.move(right - 5, top + 5)
    page.mouse.down()
    page.mouse.move(right - 0.3 * box["width"], top + 0.3 * box["height"], steps=8)
    page.mouse.up()
    chosen = page.get_by_text(re.compile(r"\d+ weights?, chosen by number or in the chart"))
    expect(chosen).to_be_visible(timeout=PATIENCE)
    expect(page).to_have_url(re.compile(r"numbers=\d+"), timeout=PATIENCE)
    ready(page)
    stranger = browser.new_context().new_page()
    stranger.goto(page.url)
    ready(stranger)
    numbers = page.get_by_role("textbox", name="Or by their numbers").input_value()
    assert len(numbers.split()) >= 1
    theirs = stranger.get_by_role("textbox", name="Or by their numbers")
    expect(theirs).to_have_value(numbers, timeout=PATIENCE)
    expect(stranger.get_by_text(re.compile(r"\d+ weights?, chosen by number or in the chart"))).to_be_visible()
    stranger.context.close()


def test_a_click_on_a_mark_chooses_its_weight(page: Page, app_url: str):
    """Its number alone is in the field and in the link, another click chooses another, and the table has that one row."""
    page.goto(f"{app_url}/?samples=100&layer=fc3&single=true")
    ready(page)
    numbers, seen = page.get_by_role("textbox", name="Or by their numbers"), set()
    for place in (0.25, 0.75):
        marks = keyed(page, "weights-scatter", ".scatterlayer .trace:first-child .point")
        expect(marks.first).to_be_attached(timeout=PATIENCE)
        plot = keyed(page, "weights-scatter", ".nsewdrag")
        plot.scroll_into_view_if_needed()
        frame = plot.bounding_box()
        boxes = [mark.bounding_box() for mark in marks.all()]
        middles = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
        inside = [
            (x, y)
            for x, y in middles
            if frame["x"] < x < frame["x"] + frame["width"] and frame["y"] < y < frame["y"] + frame["height"]
        ]
        x, y = inside[int(place * len(inside))]
        page.mouse.move(x - 2, y)
        page.wait_for_timeout(300)  # plotly finds what is under the pointer a moment after it has come
        page.mouse.click(x, y)
        expect(page.get_by_text("1 weight, chosen by number or in the chart")).to_be_visible(timeout=PATIENCE)
        expect(numbers).not_to_have_value(next(iter(seen), ""), timeout=PATIENCE)
        ready(page)
        seen.add(numbers.input_value())
        assert f"numbers={numbers.input_value()}" in page.url
    assert len(seen) == 2
    assert all(number.isdigit() for number in seen)


def test_a_pinned_setting_travels_with_the_link(page: Page, app_url: str, browser: Browser):
    """Pin A, move the sparsity, hand the link on: both see A beside the present setting."""
    page.goto(f"{app_url}/?samples=100")
    ready(page)
    page.get_by_role("button", name="Pin this as A").click()
    expect(page.get_by_text("This setting is A", exact=False)).to_be_visible(timeout=PATIENCE)
    thumb = keyed(page, "sparsity", "input[type=range]")
    thumb.focus()
    for _ in range(10):
        thumb.press("ArrowRight")
    pair = page.get_by_text("They differ in: sparsity 0.8 in A, 0.9 here", exact=False)
    expect(pair).to_be_visible(timeout=PATIENCE)
    ready(page)
    assert "pin=" in page.url
    stranger = browser.new_context().new_page()
    stranger.goto(page.url)
    ready(stranger)
    theirs = stranger.get_by_text("They differ in: sparsity 0.8 in A, 0.9 here", exact=False)
    expect(theirs).to_have_text(pair.inner_text(), timeout=PATIENCE)
    stranger.get_by_role("button", name="Unpin A").click()
    expect(theirs).to_have_count(0, timeout=PATIENCE)
    assert "pin=" not in stranger.url
    stranger.context.close()
