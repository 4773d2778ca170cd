"""The figures of the Trust page show exactly the numbers of their tables."""

import numpy as np
import pandas as pd
import pytest

from app.charts import (
    curvature_map,
    curvature_scale,
    loss_growth,
    predicted_measured,
    spectrum_frames,
    step_path,
)
from app.charts.symlog import SymLog
from app.charts.trust import ACROSS
from app.explain_trust import finding, fisher_sentence, growth_sentence, hessian_sentence, path_sentence, verdict
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.curvatures import BlockCurvatures


@pytest.fixture
def path() -> pd.DataFrame:
    """A parabola that is right up to t = 0.5 and three times too low at the end."""
    times = np.array([0.0, 0.5, 1.0])
    common = {"t": times, "predicted": 0.1 * times**2, "measured": [0.0, 0.03, 0.3], "magnitude": [0.0, 0.1, 0.5]}
    held_out = pd.DataFrame({**common, "samples": "held-out samples", "hessian": 0.2 * times**2})
    return pd.concat([held_out, held_out.assign(samples="Fisher samples", hessian=np.nan)], ignore_index=True)


@pytest.fixture
def grown() -> pd.DataFrame:
    rows = [
        (method, update, sparsity, predicted, measured)
        for method, update in (("woodfisher", "none"), ("woodfisher", "joint"), ("magnitude", "none"))
        for sparsity, predicted, measured in ((0.2, -0.002, 0.002), (0.5, 0.01, 0.015), (0.9, 0.1, 0.9))
    ]
    return pd.DataFrame(rows, columns=["method", "update", "sparsity", "predicted", "measured"])


def test_symlog_keeps_order_and_signs():
    values = np.array([-1e-2, -1e-6, 0.0, 1e-7, 1e-3, 1.0])
    scale = SymLog.of(values)
    there = scale(values)
    assert (np.diff(there) > 0).all()
    assert scale([0.0])[0] == 0.0
    assert scale([-3e-4])[0] == -scale([3e-4])[0]
    assert scale.threshold == pytest.approx(1e-6, rel=0.01) or scale.threshold < 1e-6
    places, labels = scale.ticks(-1e-2, 1.0)
    assert places == sorted(places)
    assert len(set(labels)) == len(labels) == len(places)
    assert "0" in labels
    assert places[labels.index("10⁰")] == pytest.approx(scale([1.0])[0])
    assert SymLog.of([0.0, 0.0]).threshold == 1.0


def test_every_weight_is_a_point():
    """Kept and removed differ in symbol too; both axes are the same, with the line of agreement; hovering gives the numbers."""
    table = pd.DataFrame(
        {
            "predicted": [1e-3, -1e-5, 0.0, 2e-2],
            "measured": [2e-3, 1e-5, 0.0, 1e-2],
            "name": [f"fc1[0, {place}]" for place in (4, 5, 6, 7)],
            "weight": [0.1, 0.2, 0.3, 0.4],
            "kept": [True, False, False, True],
        }
    )
    figure = predicted_measured(table, "predicted", "gᵀδ", "Foreseen?")
    line, kept, removed = figure.data
    assert list(line.x) == list(line.y) == list(figure.layout.xaxis.range) == list(figure.layout.yaxis.range)
    assert (len(kept.x), len(removed.x)) == (2, 2)
    assert kept.marker.symbol != removed.marker.symbol
    assert kept.customdata[1].tolist() == ["fc1[0, 7]", 0.4, 2e-2, 1e-2]
    scale = SymLog.of(table[["predicted", "measured"]])
    np.testing.assert_allclose(removed.y, scale([1e-5, 0.0]))
    assert set(figure.layout.xaxis.ticktext) <= set(figure.layout.yaxis.ticktext)
    assert len(figure.layout.xaxis.ticktext) <= ACROSS + 2  # they stand side by side, on a phone too
    assert figure.layout.title.text == "Foreseen?"
    many = pd.concat([table] * 300, ignore_index=True)
    assert {trace.type for trace in predicted_measured(many, "predicted", "x", "?").data[1:]} == {"scattergl"}


def test_path_has_every_line(path):
    figure = step_path(path)
    by_name = {trace.name: trace for trace in figure.data}
    assert len(by_name) == 6
    assert list(by_name["measured, held-out samples"].y) == [0.0, 0.03, 0.3]
    assert list(by_name["predicted with the Hessian"].y) == pytest.approx([0.0, 0.05, 0.2])
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) == 6
    assert "nats" in figure.layout.yaxis.title.text


def test_growth_leaves_out_what_a_logarithm_cannot_show(grown):
    figure = loss_growth(grown, 0.8)
    drawn = {(trace.name, trace.line.dash): trace for trace in figure.data if trace.x[0] is not None}
    assert list(drawn["joint update", "dot"].y) == [0.01, 0.1]
    assert list(drawn["joint update", "solid"].y) == [0.002, 0.015, 0.9]
    assert list(drawn["joint update", "solid"].x) == [20.0, 50.0, 90.0]
    assert len(drawn) == 5  # the baseline is measured only
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.shapes[0].x0 == 80.0


def test_spectrum_moves_its_damping():
    """One frame a λ that moves nothing but the line; the slider begins at the damping in force; many layers become one line."""
    table = pd.DataFrame(
        {"layer": ["a"] * 3 + ["b"] * 2, "rank": [1, 2, 3, 1, 2], "eigenvalue": [1, 0.1, 0.01, 2, 0.2]}
    )
    directions = pd.DataFrame({"damping": [1e-3, 1e-2, 1e-1], "above": [5, 4, 3], "effective": [4.9, 4.2, 3.0]})
    figure = spectrum_frames(table, directions, 40, 1e-2)
    assert [frame.name for frame in figure.frames] == [
        "λ = 10⁻³: 5 of 40 directions",
        "λ = 10⁻²: 4 of 40 directions",
        "λ = 10⁻¹: 3 of 40 directions",
    ]
    assert [list(frame.data[0].y) for frame in figure.frames] == [[d, d] for d in directions["damping"]]
    assert all(list(frame.traces) == [2] for frame in figure.frames)
    assert list(figure.data[2].y) == [1e-2, 1e-2]
    assert figure.layout.sliders[0].active == 1
    assert list(figure.data[1].y) == [2, 0.2]
    many = pd.concat([table[table["layer"] == "a"].assign(layer=str(i)) for i in range(20)], ignore_index=True)
    lines = spectrum_frames(many, directions, 900, 1.0).data
    assert [trace.name for trace in lines] == ["all layers together", "damping λ"]
    assert max(lines[0].x) == 60


def test_curvatures_share_their_colours():
    first, second = np.array([[1.0, -0.1], [-0.1, 0.5]]), np.array([[10.0, 0.0], [0.0, 0.01]])
    scale = curvature_scale(first, second)
    maps = [curvature_map(matrix, np.array([7, 8]), scale, "?").data[0] for matrix in (first, second)]
    assert maps[0].zmin == maps[1].zmin == -maps[0].zmax == -maps[1].zmax
    assert maps[1].z[0][0] == pytest.approx(maps[1].zmax)
    assert maps[0].z[0][1] == pytest.approx(-scale[0]([0.1])[0])
    assert list(maps[0].x) == ["7", "8"]
    assert maps[0].customdata[1][1] == 0.5
    empty = curvature_map(np.zeros((2, 2)), np.array([0, 1]), curvature_scale(np.zeros((2, 2))), "?").data[0]
    assert (empty.z == 0).all()


def test_sentences_say_what_the_tables_say(path, grown):
    removals = pd.DataFrame({"removal": "alone", "measured": [1.0, 2.0, 3.0], "predicted": [1.0, 2.0, 4.0]})
    removals["magnitude"], removals["statistic"] = [3.0, 2.0, 1.0], [1.0, 3.0, 2.0]
    config = PruneConfig(model="digits-mlp", update="joint")
    text = finding(path, removals, config, 0.8)
    for part in (
        "80.0\u00a0%",
        "joint update",
        "+0.100",
        "+0.300",
        "3 times as much",
        "+0.200",
        "**1.00**",
        "**0.50**",
        "−1.00",
    ):
        assert part in text
    assert "nothing is removed" in finding(path, removals, config, 0.0)
    assert "within a factor of 2 up to t = 0.50, no longer at t = 1.00" in path_sentence(path)
    text = growth_sentence(grown)
    assert text.count("off by more than a factor of 2 already at 20\u00a0%") == 2
    assert "being zero or less: 2." in text


@pytest.mark.parametrize(
    ("predicted", "measured", "said"),
    [
        (0.1, 0.15, "within a factor of 2"),
        (0.1, 1.0, "10 times as much"),
        (0.1, 0.02, "only 20\u00a0% of it"),
        (0.1, -0.1, "not even the sign is right"),
        (1e-5, 9e-4, "both below 0.001 nats, too small to matter"),
    ],
)
def test_verdicts(predicted, measured, said):
    assert verdict(predicted, measured) == said


def test_block_sentences():
    hessian = np.diag([2.0, -1.0])
    block = BlockCurvatures("fc1", np.arange(2), hessian, 0.5 * hessian, np.zeros((2, 2)), 30)
    assert "on 30 images. 1 of its 2 eigenvalues is negative; the largest is 2." in hessian_sentence(block)
    text = fisher_sentence(block.true, block, "true")
    assert "cosine with the Hessian 1.00" in text
    assert "and 50\u00a0% its size" in text
    assert "nothing to compare" in fisher_sentence(block.sampled, block, "sampled")
