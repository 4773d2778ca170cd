"""The Sensitivity page through Streamlit's own test runner."""

import pytest

from app.shared import workspace
from woodfisher_core.experiments import PruneConfig

CHARTS = 3


PAGE = "app_pages/sensitivity.py"


def test_default_view_explains_itself(opened):
    """Three charts, each with a sentence, no error; the sentence counts all cells of the plane."""
    page = opened(PAGE, samples="200")
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error
    assert len(page.get("plotly_chart")) == CHARTS
    assert any(caption.value.startswith("Of 48 settings") for caption in page.caption)
    assert any(caption.value.startswith("Drag the slider: with N = 200") for caption in page.caption)


@pytest.mark.parametrize("measure", ["overlap", "rank correlation", "predicted loss", "measured loss"])
def test_every_measure(opened, measure):
    page = opened(PAGE, measure=measure, sparsity="0.9", update="joint")
    assert not page.exception, [e.message for e in page.exception]
    assert len(page.get("plotly_chart")) == CHARTS


def test_the_table_holds_the_numbers_of_the_runs(opened):
    """A cell of the table is the accuracy of that very run."""
    page = opened(PAGE)
    table = page.dataframe[0].value
    row = table[(table["samples"] == 100) & (table["damping"] == 1e-3)].iloc[0]
    config = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=100, damping=1e-3, solver="spectral")
    assert row["accuracy"] == workspace().evaluation(config).accuracy
