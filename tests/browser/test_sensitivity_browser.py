"""Sensitivity in a real browser: the λ slider moves the chart while it is dragged, without the server."""

import re

import pytest
from playwright.sync_api import Page, expect
from seeing import PATIENCE, drawn, keyed, ready

pytestmark = pytest.mark.browser


def test_the_damping_moves_while_dragged(page: Page, app_url: str):
    page.goto(f"{app_url}/sensitivity?samples=200")
    ready(page, charts=3)
    chart = drawn(page).first
    label = chart.locator(".slider-label").first  # the current value; the others belong to the ticks
    before, bars = label.text_content(), chart.locator(".bars").first.inner_html()
    chart.scroll_into_view_if_needed()
    grip = chart.locator(".slider-grip-rect").bounding_box()
    middle = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 150, middle[1], steps=8)
    expect(label).not_to_have_text(before, timeout=5_000)  # still held: the button is not up yet
    assert chart.locator(".bars").first.inner_html() != bars
    page.mouse.up()
    assert re.match(r"λ = .*: \d+\.\d %", label.text_content())


def test_the_bar_leads_from_page_to_page(page: Page, app_url: str):
    page.goto(app_url)
    expect(page.get_by_text("Removing 80.0 %", exact=False)).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="Sensitivity").click()
    expect(page.get_by_text("Drag the slider", exact=False).first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="Explore").click()
    expect(page.get_by_text("Removing 80.0 %", exact=False)).to_be_visible(timeout=PATIENCE)


def test_stopping_a_fill_keeps_what_is_done(page: Page, app_url: str):
    """A click while the plane fills ends the work, draws the cells there are, and a second click computes the others."""
    page.goto(f"{app_url}/sensitivity?model=digits-cnn&update=joint&samples=500&vary=block&seed=7")
    page.get_by_text("What varies against the damping", exact=True).wait_for(timeout=PATIENCE)
    stop, go_on = keyed(page, "stop", "button"), keyed(page, "go-on", "button")
    expect(stop).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(re.compile(r"^\d+ of 48 settings computed\. Stopping keeps them"))).to_be_visible(
        timeout=PATIENCE
    )
    stop.click()
    expect(go_on).to_have_text(re.compile("Continue"), timeout=PATIENCE)
    expect(stop).to_have_count(0)
    partial = page.get_by_text(re.compile(r"^\d+ of 48 settings computed, the others are blank"))
    expect(partial).to_be_visible()
    done = int(re.match(r"\d+", partial.inner_text()).group())
    assert 0 < done < 48
    chart = drawn(page, "Where does WoodFisher keep its accuracy?")
    expect(chart.locator(".heatmap-label")).to_have_count(done)
    page.wait_for_timeout(1500)  # nothing goes on by itself
    assert int(re.match(r"\d+", partial.inner_text()).group()) == done
    go_on.click()
    expect(page.get_by_text(re.compile("^Of 48 settings, "))).to_be_visible(timeout=2 * PATIENCE)
    expect(chart.locator(".heatmap-label")).to_have_count(48)
    expect(stop.or_(go_on)).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_seeds_show_their_spread_and_are_in_the_link(page: Page, app_url: str):
    """Three seeds at a click: each cell has its mean and spread; the link shows the same to someone else."""
    page.goto(f"{app_url}/sensitivity?samples=50&vary=update+scale")
    chart = drawn(page, "Where does WoodFisher keep its accuracy?")
    expect(chart.locator(".heatmap-label")).to_have_count(48, timeout=PATIENCE)
    ready(page)
    keyed(page, "draws").get_by_text("3", exact=True).click()
    expect(page.get_by_text("Noise of the draw", exact=False)).to_be_visible(timeout=PATIENCE)
    ready(page)
    expect(chart.locator(".heatmap-label").first).to_contain_text("±")
    assert "draws=3" in page.url
    seen = chart.locator(".heatmap-label").all_text_contents()
    assert len(seen) == 48
    other = page.context.browser.new_page()
    other.goto(page.url)
    ready(other)
    again = drawn(other, "Where does WoodFisher keep its accuracy?")
    expect(again.locator(".heatmap-label")).to_have_count(48)
    assert again.locator(".heatmap-label").all_text_contents() == seen
    other.close()
