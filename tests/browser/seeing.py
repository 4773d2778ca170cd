"""What a person sees of a page: drawn to its end, and without what Streamlit keeps hidden while it draws anew."""

from playwright.sync_api import Locator, Page, expect

PATIENCE = 90_000  # milliseconds: two slow cores may share this with other work
# A chart or control that changed its place is in the document twice until the page is drawn to its end; the old one is hidden.
DRAWN = ":not([data-retained])"


def ready(page: Page, charts: int | None = None, patience: float = PATIENCE, notices: int = 0) -> None:
    """Waits for a view that says it is finished and is, with so many charts, and finds no error and so many notices on it."""
    expect(page.get_by_text("Up to date", exact=False)).to_be_visible(timeout=patience)
    expect(page.locator("[data-test-script-state=notRunning]")).to_have_count(1, timeout=patience)
    expect(page.locator("[data-stale=true]")).to_have_count(0, timeout=patience)
    if charts is not None:
        expect(drawn(page)).to_have_count(charts, timeout=patience)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stAlert")).to_have_count(notices)


def keyed(page: Page, key: str, inside: str = "") -> Locator:
    """What the page drew under ``key``, or what CSS finds ``inside`` it."""
    return page.locator(f".st-key-{key}{DRAWN} {inside}".strip())


def drawn(page: Page, heading: str | None = None) -> Locator:
    """The charts there are; with a ``heading``, those that bear it."""
    charts = page.locator(f"[data-testid=stElementContainer]{DRAWN} [data-testid=stPlotlyChart]")
    return charts if heading is None else charts.filter(has_text=heading)
