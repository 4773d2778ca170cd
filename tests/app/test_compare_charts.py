"""The figures of Compare show exactly the numbers of their tables."""

import pandas as pd
import pytest
import torch

from app.charts import comparison, layer_panels, pareto
from app.charts.style import method_style
from app.explain_compare import finding, images_sentence
from woodfisher_core.evaluation import Evaluation
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
    marks = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "markers"]
    assert [list(mark.x) for mark in marks] == ([[0.6, 0.9]] * 2 if baseline == "Magnitude" else [])
    assert sum(bool(mark.showlegend) for mark in marks) == (baseline == "Magnitude")
    titles = [note.text for note in figure.layout.annotations]
    assert titles[:3] == ["Magnitude", "L-OBS", "SNIP"]
    ranges = {tuple(figure.layout[name].range) for name in ("xaxis", "xaxis2", "xaxis3")}
    assert ranges == {(0, 1.02)}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_column_of_panels_says_what_is_across(count):
    """Its lowest panel has ticks and their name, also above an empty place; the others have none, and the line is named once."""
    panels = pd.concat([LAYERS[:2].assign(label=str(place)) for place in range(count)])
    figure = layer_panels(panels, 0.83, "0", "Where from?")
    columns = {}
    for bar in (trace for trace in figure.data if trace.type == "bar"):
        axis = figure.layout[bar.xaxis.replace("x", "xaxis")]
        columns.setdefault(axis.domain[0], []).append(axis)
    assert len(columns) == min(count, 2)
    for axes in columns.values():
        assert [axis.showticklabels for axis in axes] == [False] * (len(axes) - 1) + [True]
        assert [bool(axis.title.text) for axis in axes] == [False] * (len(axes) - 1) + [True]
    lines = [trace for trace in figure.data if trace.type == "scatter" and trace.mode == "lines"]
    assert [(line.name, line.line.dash) for line in lines] == [("the whole network: 83 %", "dot")]
    assert [(shape.x0, shape.line.dash) for shape in figure.layout.shapes] == [(0.83, "dot")] * count


def test_methods_that_keep_the_same_have_no_winner():
    """At sparsity 0 nobody keeps most."""
    level = pd.DataFrame({"label": ["a", "b"], "accuracy": [97.2, 97.2], "verdict": [EQUAL, EQUAL]})
    assert finding(level, level, "a", 97.2, "0 % sparsity") == (
        "At 0 % sparsity all methods keep the same, **97.20\u00a0%** (dense 97.20\u00a0%)."
    )


@pytest.mark.parametrize(("most", "none"), [(10.4, True), (12.6, True), (13.5, False)])
def test_guessing_is_nothing_kept(most, none):
    """500 images, 50 of each class: 10 % by guessing, and luck brings it to 12.6 %; one class alone answered is no more."""
    targets = torch.arange(10).repeat(50)
    guessing = Evaluation(97.2, 0.1, targets, targets).guessing
    assert guessing == pytest.approx((10.0, 1.96 * 30 / 500**0.5))
    low = pd.DataFrame({"label": ["a", "b"], "accuracy": [most, 9.8], "verdict": [EQUAL, EQUAL]})
    low = low.assign(difference=0.0, noise=1.0)
    words = finding(low, low, "b", 97.2, "98 % sparsity", guessing).replace("\u00a0", " ")
    assert words.startswith("At 98 % sparsity no method keeps anything: the best, a, has **") is none
    assert ("keeps most" in words) is not none


def few_images(*means: float, counts: tuple[int, ...] = (100, 200, 500, 1000)) -> pd.DataFrame:
    """A line that is the best at last, and one below it."""
    best = pd.DataFrame({"label": "WoodFisher", "images": counts, "mean": means})
    return pd.concat([best, best.assign(label="Magnitude", mean=[10.0] * len(means))], ignore_index=True)


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((80.0, 93.5, 93.0, 93.8), "93.80 %; from 200 images on it is within a point of that."),
        ((94.0, 93.5, 95.6, 93.8), "93.80 %. The highest mean of all is its own with 500 images, 95.60 %."),
        (
            (94.0, 80.0, 93.9, 93.8),
            "93.80 %; from 500 images on it is within a point of that. The highest mean of all is ",
        ),
        ((80.0, 81.0, 82.0, 93.8), "93.80 %."),
        ((93.0, 93.5, float("nan"), 93.8), "93.80 %."),
    ],
)
def test_few_images_in_words(means, said):
    """Only where all later points are near, both ways; never from the last one on."""
    words = images_sentence(few_images(*means), 0.8).replace("\u00a0", " ")
    begin = "At 80 % and 1,000 images WoodFisher keeps most, "
    assert words.startswith(begin + said)
    assert words == begin + said or said.endswith(" ")


def test_few_images_where_another_is_the_best_with_fewer():
    points = few_images(80.0, 81.0, 82.0, 93.8)
    points.loc[points["label"] == "Magnitude", "mean"] = [99.0, 50.0, 50.0, 50.0]
    words = images_sentence(points, 0.8).replace("\u00a0", " ")
    assert words.endswith("93.80 %. The highest mean of all is that of Magnitude with 100 images, 99.00 %.")
    assert "no method gives a result" in images_sentence(points.assign(mean=float("nan")), 0.8)
