"""The Sensitivity page through Streamlit's own test runner."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.shared import workspace
from woodfisher_core.experiments import PruneConfig

MAIN = Path(__file__).parents[2] / "app" / "main.py"
CHARTS = 3


@pytest.fixture(autouse=True)
def _fresh_workspace():
    workspace.clear()
    yield
    workspace.clear()


def open_page(**query: str) -> AppTest:
    page = AppTest.from_file(MAIN, default_timeout=180)
    for name, value in query.items():
        page.query_params[name] = value
    return page.switch_page("app_pages/sensitivity.py").run()


def test_default_view_explains_itself():
    """Three charts, each with a sentence, no error; the sentence counts all cells of the plane."""
    page = open_page(samples="200")
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error
    assert len(page.get("plotly_chart")) == CHARTS
    assert any(caption.value.startswith("Of 48 settings") for caption in page.caption)
    assert any(caption.value.startswith("Drag the slider: with N = 200") for caption in page.caption)


@pytest.mark.parametrize("measure", ["overlap", "rank correlation", "predicted loss", "measured loss"])
def test_every_measure(measure):
    page = open_page(measure=measure, sparsity="0.9", update="joint")
    assert not page.exception, [e.message for e in page.exception]
    assert len(page.get("plotly_chart")) == CHARTS


def test_the_table_holds_the_numbers_of_the_runs():
    """A cell of the table is the accuracy of that very run."""
    page = open_page()
    table = page.dataframe[0].value
    row = table[(table["samples"] == 100) & (table["damping"] == 1e-3)].iloc[0]
    config = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=100, damping=1e-3, solver="spectral")
    assert row["accuracy"] == workspace().evaluation(config).accuracy
