"""Every figure asks a question, names its axes and their units, and shows exactly the numbers of its table."""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.io import to_json

from app import charts
from app.charts.drawing import Drawing
from app.charts.style import method_style
from app.explain import class_sentence
from woodfisher_core.experiments import PruneConfig, Workspace, tables
from woodfisher_core.methods import METHODS


@pytest.fixture(scope="module")
def run():
    """One real run on the embedded MLP."""
    space = Workspace()
    config = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=50)
    return space, config, space.problem(config), space.outcome(config), space.evaluation(config)


def figures(run) -> dict:
    space, config, problem, outcome, pruned = run
    # A damping that the exact Hessian bears too.
    curves = {name: space.curve(config.replace(method=name, update=None, damping=1.0), (0.5, 0.9)) for name in METHODS}
    flips = tables.flipped_table(problem.dense, pruned).head(4)
    return {
        "accuracy": charts.accuracy_curve(
            tables.curve_table(curves, 500), problem.dense.accuracy, ("woodfisher", 0.8, pruned.accuracy)
        ),
        "layers": charts.layer_sparsity(tables.layer_table(problem.parameters, outcome.mask.keep), 0.8),
        "saliency": charts.saliency_histograms(
            tables.saliency_table(problem.parameters, outcome.saliency, outcome.mask.keep),
            tables.thresholds_by_layer(problem.parameters, outcome.mask),
            "nats",
        ),
        "loss": charts.loss_change(tables.loss_table(space.loss_change(config))),
        "classes": charts.class_accuracy(tables.class_table(problem.dense, pruned, problem.dataset.classes)),
        "flips": charts.flipped_examples(
            [problem.dataset.test.images[i, 0].numpy() for i in flips["index"]], ["a"] * len(flips)
        ),
    }


def test_figures_are_written_as_plotly_writes_them(run):
    """Ours only takes less time."""
    for name, figure in figures(run).items():
        assert json.loads(figure.to_json()) == json.loads(to_json(go.Figure.to_dict(figure), validate=False)), name
    odd = Drawing({"type": "heatmap", "z": np.arange(6.0).reshape(2, 3), "x": np.array([1, 2, 300]), "y": ["a", "b"]})
    odd.add_scatter(x=np.array([], dtype=float), y=np.array([True, False]), text=np.array(["a", None], dtype=object))
    odd.add_scatter(x=np.arange(8.0)[::2], y=pd.Series([1, 2**40]), customdata=[[1, "a"], [2, "b"]])
    odd.update_layout(xaxis={"range": np.array([0.0, 1.0])}, annotations=[{"text": "a", "x": np.float32(0.5)}])
    odd.frames = [{"name": "one", "data": [{"type": "scatter", "x": np.arange(3, dtype="float32"), "y": [1, 2, 3]}]}]
    drawn = odd.figure()
    assert drawn.to_json() == to_json(go.Figure.to_dict(drawn), validate=False)
    drawn.update_layout(title={"text": "Later?"})
    assert drawn.to_dict()["layout"]["title"]["text"] == "Later?"


def test_every_title_is_a_question(run):
    for name, figure in figures(run).items():
        assert figure.layout.title.text.endswith("?"), name


def test_axes_carry_units(run):
    drawn = figures(run)
    assert "(%)" in drawn["accuracy"].layout.yaxis.title.text
    assert "fraction" in drawn["accuracy"].layout.xaxis.title.text
    assert "nats" in drawn["loss"].layout.xaxis.title.text
    assert "nats" in drawn["saliency"].layout.xaxis3.title.text
    assert "(%)" in drawn["classes"].layout.yaxis.title.text


def test_loss_numbers_stand_beside_lying_bars():
    """Side by side they would touch on a phone; the axis leaves them room, and a minus is one."""
    table = pd.DataFrame({"term": ["a|b", "c"], "samples": "held-out", "nats": [-0.25, 1.0]})
    figure = charts.loss_change(table)
    [bars] = figure.data
    assert (bars.orientation, list(bars.x), list(bars.y)) == ("h", [-0.25, 1.0], ["a<br>b", "c"])
    assert list(bars.text) == ["−0.25", "+1"]
    low, high = figure.layout.xaxis.range
    assert low < -0.25
    assert high > 1.0


@pytest.mark.parametrize(("sparsity", "side"), [(0.9, "left"), (0.2, "right"), (None, "right")])
def test_no_line_strikes_the_dense_networks_name(run, sparsity, side):
    """It stands on the other side than the setting's own sparsity."""
    space, config, *_ = run
    table = tables.curve_table({"woodfisher": space.curve(config, (0.5,))}, 500)
    figure = charts.accuracy_curve(table, 97.2, None if sparsity is None else ("woodfisher", sparsity, 50.0))
    assert next(note for note in figure.layout.annotations if "dense" in note.text).xanchor == side


@pytest.mark.parametrize(
    ("pruned", "says"),
    [
        ([50.0, 60.0, 90.0], "An average hides this: class 0 loses most, from 100.0\u00a0% to 50.0\u00a0%."),
        ([0.0, 90.0, 90.0], "An average hides this: class 0 loses most, from 100.0\u00a0% to 0.0\u00a0%."),
        ([0.0, 0.0, 90.0], "2 of 3 classes are at 0\u00a0%: what accuracy is left comes from one alone."),
        ([0.0, 0.0, 0.0], "3 of 3 classes are at 0\u00a0%: no answer is right any more."),
        ([100.0, 100.0, 100.0], "No class loses."),
    ],
)
def test_classes_that_are_lost_are_counted(pruned, says):
    assert class_sentence(pd.DataFrame({"class": list("012"), "dense": 100.0, "pruned": pruned})) == says


def test_histogram_counts_every_weight(run):
    """Bars of all layers, kept and removed, add up to the weights with a statistic above zero."""
    _, _, problem, outcome, _ = run
    table = tables.saliency_table(problem.parameters, outcome.saliency, outcome.mask.keep)
    zeros = sum(tables.zero_counts(problem.parameters, outcome.saliency).values())
    assert table["kept"].sum() + table["pruned"].sum() + zeros == problem.parameters.num_prunable
    assert table["kept"].sum() == outcome.mask.kept
    drawn = sum(np.sum(trace.y) for trace in figures(run)["saliency"].data if trace.type == "bar")
    assert drawn + zeros == problem.parameters.num_prunable


def test_threshold_stands_between_removed_and_kept(run):
    """The line in the histogram is the largest statistic that was removed."""
    _, _, problem, outcome, _ = run
    threshold = tables.thresholds_by_layer(problem.parameters, outcome.mask)["fc1"]
    assert outcome.saliency[~outcome.mask.keep].max() == threshold
    assert outcome.saliency[outcome.mask.keep].min() > threshold


def test_methods_differ_by_more_than_colour():
    """Each method has its own marker, and a line that no other has, the same in every figure."""
    styles = [method_style(name) for name in METHODS]
    assert len({style.symbol for style in styles}) == len(styles)
    assert len({(style.color, style.dash) for style in styles}) == len(styles)
    assert method_style("unheard-of") == method_style("unheard-of")


def test_the_band_is_the_noise_of_the_test_set(run):
    """±1.96 binomial standard errors around each point."""
    space, config, *_ = run
    table = tables.curve_table({"woodfisher": space.curve(config, (0.5,))}, 500)
    figure = charts.accuracy_curve(table, 97.2)
    band = next(trace for trace in figure.data if trace.fill == "toself")
    share = table["accuracy"].iloc[0] / 100
    margin = 1.96 * 100 * (share * (1 - share) / 500) ** 0.5
    assert max(band.y) == pytest.approx(min(100.0, 100 * share + margin))
    assert min(band.y) == pytest.approx(100 * share - margin)


def test_charts_know_neither_streamlit_nor_torch():
    """Notebooks draw the very same figures."""
    for path in Path(charts.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"streamlit", "torch", "woodfisher_core"}, path.name
