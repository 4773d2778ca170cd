"""The app through Streamlit's own test runner, each test from an empty cache."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import asking
from app.charts.drawing import Drawing
from app.shared import workspace

MAIN = Path(__file__).parents[2] / "app" / "main.py"


@pytest.fixture(autouse=True)
def _fresh_workspace():
    workspace.clear()
    yield
    workspace.clear()


@pytest.fixture(autouse=True)
def _own_store(monkeypatch, tmp_path):
    """No test sees or writes the user's runs."""
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "runs.sqlite"))


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """What waits for a click must not depend on how busy the machine is; tests of the question set it to nothing."""
    monkeypatch.setattr(asking, "ASK_SECONDS", 3600.0)


@pytest.fixture(autouse=True)
def _checked_figures(monkeypatch):
    """Every figure drawn in a test has only properties that plotly knows."""
    quick = Drawing.figure

    def checked(drawing: Drawing):
        assert json.loads(quick(drawing, checked=True).to_json()) == json.loads(quick(drawing).to_json())
        return quick(drawing)

    monkeypatch.setattr(Drawing, "figure", checked)


@pytest.fixture(autouse=True)
def _own_main(monkeypatch):
    """The runner puts each page in the place of __main__, where processes that later tests start would look for theirs."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def opened() -> Callable[..., AppTest]:
    """``opened(page_file, stopped, **settings)``: the app, opened by a link with these settings, a plane stopped before."""

    def open_app(page_file: str | None = None, stopped: object = None, **query: str) -> AppTest:
        page = AppTest.from_file(MAIN, default_timeout=180)
        page.session_state["stopped"] = stopped
        for name, value in query.items():
            page.query_params[name] = value
        return (page.switch_page(page_file) if page_file else page).run()

    return open_app
