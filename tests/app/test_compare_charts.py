"""The figures of Compare show exactly the numbers of their tables."""

import pandas as pd
import pytest

from app.charts import comparison, layer_panels, pareto
from app.charts.style import method_style
from app.explain_compare import finding
from woodfisher_core.experiments.verdicts import EQUAL

POINTS = pd.DataFrame(
    {
        "label": ["Magnitude"] * 2 + ["WoodFisher"] * 2,
        "style": ["magnitude"] * 2 + ["woodfisher"] * 2,
        "sparsity": [0.5, 0.9] * 2,
        "mean": [90.0, 60.0, 95.0, 80.0],
        "error": [0.0, 0.0, 1.0, 2.0],
    }
)
PRICED = pd.DataFrame(
    {
        "label": ["a", "b", "c"],
        "style": ["magnitude", "taylor", "woodfisher"],
        "seconds": [0.001, 0.1, 1.0],
        "accuracy": [80.0, 70.0, 90.0],
        "noise": [0.0, 3.0, 4.0],
        "beaten_by": ["", "a", ""],
    }
)
LAYERS = pd.DataFrame(
    {
        "label": ["Magnitude"] * 2 + ["L-OBS"] * 2 + ["SNIP"] * 2,
        "style": ["magnitude"] * 2 + ["l-obs"] * 2 + ["snip"] * 2,
        "layer": ["first", "last"] * 3,
        "total": [100, 50] * 3,
        "sparsity": [0.9, 0.6, 0.8, 0.8, 1.0, 0.4],
    }
)


def test_published_numbers_are_hollow_stars():
    """In the colour of their method, at their own numbers; none where none are given."""
    stars = pd.DataFrame(
        {"label": "WF", "style": "woodfisher", "source": "N = 10", "sparsity": [0.5, 0.9], "accuracy": [94.0, 91.0]}
    )
    figure = comparison(POINTS, "sparsity", 97.0, "Which?", 0.8, stars)
    drawn = [trace for trace in figure.data if trace.marker.symbol == "star-open"]
    assert [(list(trace.x), list(trace.y)) for trace in drawn] == [([0.5, 0.9], [94.0, 91.0])]
    assert drawn[0].name == "WF, published"
    assert drawn[0].marker.color == method_style("woodfisher").color
    assert {shape.x0 for shape in figure.layout.shapes} >= {0.8}
    assert not [t for t in comparison(POINTS, "sparsity", 97.0, "Which?").data if t.marker.symbol == "star-open"]


def test_a_line_without_a_spread_claims_none():
    """One seed: no ± on hover."""
    lines = {trace.name: trace for trace in comparison(POINTS, "sparsity", 97.0, "Which?").data if trace.name}
    assert "±" not in lines["Magnitude"].hovertemplate
    assert "±" in lines["WoodFisher"].hovertemplate


def test_the_front_is_a_line_through_those_nobody_beats():
    figure = pareto(PRICED, 97.0, "What does it cost?")
    front, *marks = figure.data
    assert (list(front.x), list(front.y)) == ([0.001, 1.0], [80.0, 90.0])
    assert front.line.shape == "hv"
    assert [(m.name, m.x[0], m.y[0], m.error_y.array[0]) for m in marks] == list(
        PRICED[["label", "seconds", "accuracy", "noise"]].itertuples(index=False, name=None)
    )
    assert marks[1].marker.size < marks[0].marker.size == marks[2].marker.size
    assert "beaten by a" in marks[1].hovertemplate
    assert figure.layout.xaxis.type == "log"
    assert "seconds" in figure.layout.xaxis.title.text


@pytest.mark.parametrize("baseline", ["Magnitude", "nobody"])
def test_a_panel_a_method_all_on_the_same_axes(baseline):
    """Its bars are its layers' shares, first layer on top, and the marks the baseline's."""
    figure = layer_panels(LAYERS, 0.8, baseline, "Where from?")
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [list(bar.x) for bar in bars] == [[0.6, 0.9], [0.8, 0.8], [0.4, 1.0]]
    assert {tuple(bar.y) for bar in bars} == {("last", "first")}
    assert len({bar.xaxis for bar in bars}) == 3
    marks = [trace for trace in figure.data if trace.type == "scatter"]
    assert [list(mark.x) for mark in marks] == ([[0.6, 0.9]] * 2 if baseline == "Magnitude" else [])
    assert sum(bool(mark.showlegend) for mark in marks) == (baseline == "Magnitude")
    titles = [note.text for note in figure.layout.annotations]
    assert titles[:3] == ["Magnitude", "L-OBS", "SNIP"]
    ranges = {tuple(figure.layout[name].range) for name in ("xaxis", "xaxis2", "xaxis3")}
    assert ranges == {(0, 1.02)}


def test_methods_that_keep_the_same_have_no_winner():
    """At sparsity 0 nobody keeps most."""
    level = pd.DataFrame({"label": ["a", "b"], "accuracy": [97.2, 97.2], "verdict": [EQUAL, EQUAL]})
    assert finding(level, level, "a", 97.2, "0 % sparsity").startswith("At 0 % sparsity all methods keep the same")
