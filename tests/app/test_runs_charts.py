"""The figures of kept runs: questions for titles, axes with units, exactly the numbers of their tables."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from app import charts
from app.charts.style import method_style
from woodfisher_core.methods import METHODS

POINTS = pd.DataFrame(
    [
        (2, "mine", "woodfisher", 0.8, 90.0, True),
        (2, "mine", "woodfisher", 0.5, 97.0, False),
        (2, "mine", "woodfisher", 0.9, 70.0, False),
        (1, "other", "magnitude", 0.7, 80.0, True),
    ],
    columns=["run", "name", "method", "sparsity", "accuracy", "own"],
)
LAYERS = pd.DataFrame(
    [
        (2, "mine", "woodfisher", "fc1", 1, 4, 0.75),
        (2, "mine", "woodfisher", "fc2", 2, 4, 0.5),
        (1, "other", "magnitude", "fc1", 4, 4, 0.0),
    ],
    columns=["run", "name", "method", "layer", "kept", "total", "sparsity"],
)


def test_questions_and_axes():
    for figure in (charts.runs_curve(POINTS), charts.runs_layers(LAYERS)):
        assert figure.layout.title.text.endswith("?")
        assert figure.layout.xaxis.title.text
    assert charts.runs_curve(POINTS).layout.yaxis.title.text == "test accuracy (%)"


def test_curves_and_their_rings():
    """A line and a ring for a run with a curve, a ring alone for one without; each named once in the legend."""
    line, ring, alone = charts.runs_curve(POINTS).data
    assert (list(line.x), list(line.y)) == ([0.5, 0.9], [97.0, 70.0])
    assert (list(ring.x), list(ring.y)) == ([0.8], [90.0])
    assert (list(alone.x), list(alone.y)) == ([0.7], [80.0])
    assert [trace.name for trace in (line, ring, alone) if trace.showlegend is not False] == ["mine", "other"]
    assert ring.marker.symbol.endswith("-open")


def test_the_axis_begins_below_the_lowest():
    assert charts.runs_curve(POINTS).layout.yaxis.range == (60.0, 101.5)
    assert charts.runs_curve(POINTS.assign(accuracy=10.0)).layout.yaxis.range == (0.0, 101.5)


def test_runs_differ_in_more_than_colour():
    points = pd.concat([POINTS.assign(run=run, name=str(run), own=False) for run in range(5)])
    lines = [trace for trace in charts.runs_curve(points).data if trace.mode == "lines+markers"]
    assert len({trace.line.dash for trace in lines}) == len({trace.marker.symbol for trace in lines}) == 5
    layers = pd.concat([LAYERS.assign(run=run, name=str(run)) for run in range(5)])
    assert len({trace.marker.pattern.shape for trace in charts.runs_layers(layers).data}) == 5


def test_a_method_keeps_its_colour():
    """That of every other chart; the first run of each all of its style, further ones other dashes and marks."""
    methods = ["lamp", "woodfisher", "magnitude", "lamp", "woodfisher"]
    points = pd.concat(
        [POINTS.assign(run=run, name=str(run), method=name, own=False) for run, name in enumerate(methods)]
    )
    lines = charts.runs_curve(points).data[::2]
    layers = pd.concat([LAYERS.assign(run=run, name=str(run), method=name) for run, name in enumerate(methods)])
    colours = [method_style(name).color for name in methods]
    assert [line.line.color for line in lines] == colours
    assert [bar.marker.color for bar in charts.runs_layers(layers).data] == colours
    for name, line in zip(methods[:3], lines, strict=False):
        assert (line.line.dash, line.marker.symbol) == (method_style(name).dash, method_style(name).symbol)
    assert len({line.line.dash for line in lines}) == len({line.marker.symbol for line in lines}) == len(lines)


def test_rings_of_one_family_differ():
    """Magnitude's marks are full, LAMP's hollow, in one colour: so must their rings be two."""
    points = pd.concat([POINTS[:1].assign(run=run, method=name) for run, name in enumerate(("magnitude", "lamp"))])
    assert len({(ring.marker.color, ring.marker.symbol) for ring in charts.runs_curve(points).data}) == 2


@pytest.mark.parametrize("method", [*METHODS, "one nobody knows", "x", "y"])
def test_every_method_has_a_ring(method):
    """Plotly knows its mark."""
    points = POINTS[:1].assign(method=method)
    assert "-open" in go.Figure(charts.runs_curve(points).to_dict()).data[0].marker.symbol


def test_layers():
    """The first layer on top; a run without a layer has no bar there."""
    figure = charts.runs_layers(LAYERS)
    assert [(list(t.x), list(t.y), t.name) for t in figure.data] == [
        ([0.75, 0.5], ["fc1", "fc2"], "mine"),
        ([0.0], ["fc1"], "other"),
    ]
    assert figure.layout.yaxis.autorange == "reversed"
    assert list(figure.layout.yaxis.categoryarray) == ["fc1", "fc2"]


@pytest.mark.parametrize(("points", "more"), [(POINTS[:3], 2), (POINTS[3:], 1), (POINTS[:0], 0)])
def test_a_baseline_in_another_figure(points, more):
    """Dotted; named once, whether it has a curve or not; without numbers nothing is drawn."""
    figure = charts.runs_curve(POINTS)
    before = len(figure.data)
    charts.add_baseline(figure, points)
    added = figure.data[before:]
    assert len(added) == more
    assert all(trace.line.dash == "dot" for trace in added if trace.mode == "lines")
    assert len([trace for trace in added if trace.showlegend is not False]) == (more > 0)
    assert all(trace.name.startswith("baseline: ") for trace in added)
