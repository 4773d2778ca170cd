"""The figures of Compensate show exactly the numbers of their tables, and tell things apart by more than colour."""

import numpy as np
import pandas as pd
import pytest

from app.charts import (
    EFFECTS,
    independent_against_joint,
    layer_moves,
    learn,
    pair_plane,
    survivors_that_move,
    trust,
    two_weights_frames,
    update_effects,
    with_and_without,
)
from app.charts.compensate import MOST_POINTS, UPDATE_STYLES
from app.charts.two_weights import TOUCHING
from app.explain_compensate import (
    agreement_sentence,
    effects_sentence,
    layers_sentence,
    pair_sentence,
    removal_words,
    saved_sentence,
    survivors_sentence,
)
from woodfisher_core.experiments.compensation import Removal
from woodfisher_core.experiments.pair_surface import Surface
from woodfisher_core.experiments.two_weights import TwoWeights, contour_set, over_correlations, places
from woodfisher_core.experiments.update_effects import MoveAgreement, agreement, anybody_moves

PAIR = TwoWeights(1.0, 0.7, 1.0, 4.0, 0.0)


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_a_frame_a_correlation():
    """Each is named with both losses, and its markers stand where the table says."""
    spots, rings = over_correlations(PAIR, 1, (-0.5, 0.0, 0.8))
    figure = two_weights_frames(spots, rings, 0.8, 1)
    assert [frame.name for frame in figure.frames] == [
        "ρ = −0.50: OBD loses 0.50, OBS 0.38",
        "ρ = 0.00: OBD loses 0.50, OBS 0.50",
        "ρ = 0.80: OBD loses 0.50, OBS 0.18",
    ]
    slider = figure.layout.sliders[0]
    assert slider.active == 2
    assert [step.args[0][0] for step in slider.steps] == [frame.name for frame in figure.frames]
    assert list(named(figure, "OBS: the other moves").x) == [1.0, 0.0]
    assert named(figure, "OBS: the other moves").y[1] == pytest.approx(1.1)
    assert list(named(figure, "OBD: the other stays").y) == [0.7, 0.7]
    assert slider.font.size < 2 < slider.currentvalue.font.size
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 0.0
    assert two_weights_frames(spots, rings, 0.8, 2).layout.shapes[0].y0 == 0.0


def test_the_pair_has_measured_contours_at_the_same_heights():
    pair = PAIR.correlated(0.5)
    grid = pd.DataFrame([(x, y, x + y) for x in (0.0, 1.0) for y in (0.0, 2.0)], columns=["first", "second", "nats"])
    window = ((-1.0, 2.0), (-1.0, 2.0))
    figure = pair_plane(places(pair, 1), contour_set(pair, 1), grid, ("fc1[0, 1]", "fc1[0, 2]"), window, 0.25)
    measured = named(figure, "measured")
    assert measured.z.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert (measured.contours.start, measured.contours.size) == (0.25, 0.25)
    assert measured.line.dash == "dash"
    assert "fc1[0, 1]" in figure.layout.xaxis.title.text
    assert any("every 0.25 nats" in str(trace.name) for trace in figure.data)
    touching = named(figure, TOUCHING)
    assert touching.line.dash not in {measured.line.dash, "solid"}
    spots, rings = over_correlations(PAIR, 1, (0.5,))
    assert named(two_weights_frames(spots, rings, 0.5, 1), TOUCHING).line.dash == touching.line.dash
    bare = pair_plane(places(pair, 1), contour_set(pair, 1), None, ("a", "b"), window, 0.25)
    assert not [trace for trace in bare.data if trace.name == "measured"]


def survivors(count: int = 3) -> pd.DataFrame:
    rows = [(f"fc1[0, {i}]", "fc1", 0.5, 0.1 / (i + 1), 0.2, i != 1) for i in range(count)]
    return pd.DataFrame(rows, columns=["weight", "layer", "value", "move", "correlation", "kept"])


def test_survivors_are_told_from_those_that_go():
    figure = survivors_that_move(survivors(), "fc1[0, 9]")
    assert list(named(figure, "stays").x) == pytest.approx([0.1, 0.1 / 3])
    assert list(named(figure, "goes as well").y) == ["fc1[0, 1]"]
    assert named(figure, "goes as well").marker.pattern.shape == "/"
    assert list(named(figure, "stays").text) == ["20 %", "7 %"]
    assert "fc1[0, 9]" in figure.layout.title.text
    assert list(figure.layout.yaxis.categoryarray) == ["fc1[0, 2]", "fc1[0, 1]", "fc1[0, 0]"]
    assert len(survivors_that_move(survivors(0), "x").data[0].x) == 0


def test_with_and_without_have_whiskers():
    changes = pd.DataFrame(
        [
            ("without", "model|½δᵀFδ", 0.2, 0.0),
            ("with", "model|½δᵀFδ", 0.1, 0.0),
            ("without", "measured on|x", 0.3, 0.1),
        ],
        columns=["update", "term", "nats", "error"],
    )
    figure = with_and_without(changes)
    assert list(named(figure, "without the move").y) == [0.2, 0.3]
    assert list(named(figure, "without the move").error_y.array) == pytest.approx([0.0, 0.196])
    assert named(figure, "with the move").marker.pattern.shape != named(figure, "without the move").marker.pattern.shape
    assert "nats" in figure.layout.yaxis.title.text


def one_removed(**changes) -> Removal:
    values = {
        "index": 7, "name": "fc2[2, 30]", "value": -0.5, "gone": True, "rank": 1, "curvature": 2.0, "inverse_diagonal": 1.0,
        "partner": 3, "partner_correlation": 0.5, "lost_share": 0.0, "saved": {}, "survivors": survivors(),
        "changes": pd.DataFrame(),
    }  # fmt: skip
    return Removal(**{**values, **changes})


@pytest.mark.parametrize(
    ("rank", "total", "turn"), [(1, 2720, "0.04"), (2176, 2720, "80.00"), (1, 25_000_000, "0.000004"), (1, 20, "5.00")]
)
def test_a_weight_goes_at_its_own_sparsity(rank, total, turn):
    """The k-th of d at k/d, whatever the sparsity on the page."""
    text = removal_words(one_removed(rank=rank), total, 0.8)
    assert f"number {rank:,} of {total:,}" in text
    assert f"takes it from sparsity {turn}\u00a0% on. At your sparsity of 80.0\u00a0% it is gone." in text
    assert "−0.5" in text
    assert "80.0\u00a0% it stays." in removal_words(one_removed(rank=rank, gone=False), total, 0.8)


def test_who_does_not_move_has_no_numbers():
    still = one_removed(survivors=survivors(0), saved={"Fisher samples": (5e-17, 7e-17)})
    assert survivors_sentence(still).startswith("Nobody moves measurably")
    assert (
        saved_sentence(still) == "Nobody moves, so nothing is saved: by the model removing fc2[2, 30] costs 0.25 nats."
    )


@pytest.mark.parametrize(
    ("rise", "says"), [(1.1, "They lie near each other"), (30.0, "rises 30 times as far"), (-1.0, "not at all")]
)
def test_contours_that_differ_are_said_to(rise, says):
    """The measured surface is the model's, ``rise`` times as high."""
    pair = PAIR.correlated(0.5)
    x, y = (side.ravel() for side in np.meshgrid(np.linspace(-1, 3, 41), np.linspace(-1, 2, 41)))
    grid = pd.DataFrame({"first": x, "second": y, "nats": rise * pair.loss(x, y)})
    spots = places(pair, 1).assign(measured=0.1, error=0.01)
    text = pair_sentence(pair, one_removed(), "fc1[0, 2]", Surface(grid, spots, 300))
    assert says in text
    assert ("the quadratic model is not true here" in text) == (rise != 1.1)
    assert TOUCHING in text


def effects_table() -> pd.DataFrame:
    rows = [
        (update, sparsity, 90.0, loss, moved)
        for update, losses, moved in (("none", (0.1, 0.9), 0.0), ("joint", (0.2, 0.3), 0.25))
        for sparsity, loss in zip((0.5, 0.9), losses, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["update", "sparsity", "accuracy", "loss", "moved"])
    return table.assign(gain=0.0, gain_error=1.0)


def test_the_sentence_is_about_what_is_drawn():
    table = effects_table()
    loss = effects_sentence(table, "loss")
    assert (
        "costs less than none at 1 of 2 sparsities, and differs most from it at 90\u00a0% (0.3 instead of 0.9 nats)"
        in loss
    )
    assert "points" not in loss
    size = effects_sentence(table, "size of the move")
    assert "25.0\u00a0% at 50\u00a0% to 25.0\u00a0% at 90\u00a0% under the joint update" in size
    assert effects_sentence(table.assign(moved=0.0), "size of the move") == "Nobody moves."
    assert "held out" in effects_sentence(table.assign(loss=np.nan), "loss")
    assert effects_sentence(table).startswith("Of the updates, ")


def test_moves_of_rounding_are_none():
    table = moves(50)
    assert anybody_moves(table)
    still = table.assign(independent=1e-14 * table["independent"], joint=0.0)
    assert not anybody_moves(still)
    assert agreement(still) is None


@pytest.mark.parametrize("what", list(EFFECTS))
def test_effects_draw_each_update(what):
    rows = [(u, s, 90.0 + s, 1.0, 0.1, 0.01, 0.2) for u in ("none", "independent", "joint") for s in (0.5, 0.8)]
    columns = ["update", "sparsity", "accuracy", "standard_error", "loss", "loss_error", "moved"]
    effects = pd.DataFrame(rows, columns=columns)
    figure = update_effects(effects, what, 97.0, 0.8)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [list(line.y) for line in lines] == [effects[EFFECTS[what][0]][:2].tolist()] * 3
    assert len({(line.line.dash, line.marker.symbol) for line in lines}) == 3
    assert figure.layout.title.text.endswith("?")
    assert figure.layout.yaxis.title.text == EFFECTS[what][2]
    written = " ".join(note.text for note in figure.layout.annotations)
    assert ("dense 97.00 %" in written) == (what == "accuracy")
    if what == "accuracy":  # away from the line of the setting
        assert next(note for note in figure.layout.annotations if "dense" in note.text).xanchor == "left"


def moves(count: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    columns = {name: generator.normal(size=count) for name in ("value", "independent", "joint")}
    return pd.DataFrame({"layer": "fc1", **columns})


@pytest.mark.parametrize(("count", "kind"), [(50, "scatter"), (2000, "scattergl"), (MOST_POINTS + 1, "heatmap")])
def test_many_survivors_are_drawn_otherwise(count, kind):
    table = moves(count)
    figure = independent_against_joint(table)
    assert figure.data[0].type == kind
    if kind == "heatmap":
        assert np.nansum(figure.data[0].customdata) == count
    else:
        assert list(figure.data[0].x) == table["joint"].tolist()
        assert list(figure.data[0].y) == table["independent"].tolist()
    assert list(named(figure, "equal").x) == list(named(figure, "equal").y)


def test_layers_with_their_spread():
    rows = [("fc1", "independent", 0.01, 0.1, 0.5, 10), ("fc1", "joint", 0.0, 0.2, 0.6, 10)]
    table = pd.DataFrame(rows, columns=["layer", "update", "low", "median", "high", "survivors"])
    figure = layer_moves(table)
    assert list(named(figure, "independent update").x) == [0.1]
    assert named(figure, "independent update").error_x.array[0] == pytest.approx(0.4)
    assert named(figure, "joint update").error_x.arrayminus[0] < 0.2  # from a zero the line ends at the left edge
    assert figure.layout.xaxis.type == "log"


def test_every_update_has_a_dash_and_a_marker_of_its_own():
    assert len({(style.dash, style.symbol) for style in UPDATE_STYLES.values()}) == len(UPDATE_STYLES)
    assert {learn.UPDATES[name][1] for name in learn.UPDATES if name in UPDATE_STYLES} <= set(UPDATE_STYLES.values())
    assert trust.UPDATE_STYLES is UPDATE_STYLES


def test_an_independent_move_uphill_is_not_called_too_long():
    """Where the best multiple of it is negative, no length of it helps."""
    found = MoveAgreement(-0.16, 0.34, 0.2, 0.3, 0.5, 27)
    assert "however short" in agreement_sentence(found, -2.2)
    assert "too long: 0.5 times" in agreement_sentence(found, 0.5)
    assert "too short: 2.1 times" in agreement_sentence(found, 2.1)


def test_where_nobody_moves_no_layer_moves_most():
    table = pd.DataFrame({"layer": ["a", "b"], "update": ["joint"] * 2, "median": [0.0, 0.0]})
    assert layers_sentence(table) == "Nobody moves."
    assert layers_sentence(table.assign(median=[0.0, 0.2])).startswith("Most in b under")
