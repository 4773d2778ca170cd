"""Charts of single weights and of layers: they draw the numbers of their tables, ring what is chosen, point at a layer."""

import math

import numpy as np
import pandas as pd
import pytest

from app import charts
from app.charts.style import KEPT, translucent
from app.charts.weights import MOST_AS_SVG, SIZE_DECADES
from app.explain_weights import scatter_sentence


@pytest.fixture
def weights() -> pd.DataFrame:
    """Six weights, one of each kind and two ordinary ones more."""
    return pd.DataFrame(
        {
            "position": [3, 5, 8, 9, 11, 12],
            "name": [f"fc[0, {i}]" for i in range(6)],
            "before": [0.5, -0.4, 0.1, -0.2, 0.3, 1e-9],
            "after": [0.55, -0.4, 0.0, -0.25, 0.0, 0.0],
            "statistic": [1e-3, 9e-4, 1e-5, 5e-4, 1e-4, 1e-5],
            "kept": [True, True, False, True, False, False],
            "rival": [True, True, False, False, True, False],
        }
    )


def traces(figure) -> dict:
    return {trace.name: trace for trace in figure.data if trace.name}


def test_every_weight_is_drawn_once_under_its_kind(weights):
    """Symbol and colour both tell kept from removed and the two contested kinds."""
    figure = charts.weight_scatter(weights, "nats", 2e-4, "Magnitude", 0.25)
    drawn = traces(figure)
    assert {name: list(trace.customdata) for name, trace in drawn.items()} == {
        "removed": [8, 12],
        "kept": [3, 5],
        "given up": [11],
        "saved": [9],
    }
    assert len({trace.marker.symbol for trace in drawn.values()}) == 4
    assert len({trace.marker.color for trace in drawn.values()}) == 4
    assert list(drawn["kept"].x) == [0.5, 0.4]
    assert list(drawn["kept"].y) == [1e-3, 9e-4]
    assert drawn["removed"].x[1] == 1e-9
    low, high = figure.layout.xaxis.range  # which is outside the frame at first
    assert high - low == pytest.approx(1.1 * SIZE_DECADES)
    assert low < math.log10(0.25) < high
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert "nats" in figure.layout.yaxis.title.text
    assert {shape.y0 for shape in figure.layout.shapes} | {shape.x0 for shape in figure.layout.shapes} >= {2e-4, 0.25}
    assert {note.y for note in figure.layout.annotations} >= {math.log10(2e-4)}


def test_chosen_weights_are_ringed(weights):
    rings = traces(charts.weight_scatter(weights, "nats", chosen=[9, 12, 999]))["chosen"]
    assert list(rings.customdata) == [9, 12]
    assert rings.marker.symbol == "circle-open"


def test_without_a_rival_and_a_threshold_there_are_no_lines(weights):
    figure = charts.weight_scatter(weights.drop(columns="rival"), "nats", -math.inf)
    assert set(traces(figure)) == {"removed", "kept"}
    assert not figure.layout.shapes


def test_many_marks_go_to_the_graphics_card(weights):
    many = pd.concat([weights] * (MOST_AS_SVG // len(weights) + 1), ignore_index=True)
    assert {trace.type for trace in charts.weight_scatter(many, "nats").data} == {"scattergl"}
    assert {trace.type for trace in charts.weight_scatter(weights, "nats").data} == {"scatter"}
    assert len(charts.weight_scatter(weights.head(0), "nats").data) == 0


def test_moves_join_before_and_after(weights):
    drawn = traces(charts.weight_moves(weights))
    assert list(drawn["before"].x) == list(weights["before"])
    assert list(drawn["after, kept"].y) == ["fc[0, 0]", "fc[0, 1]", "fc[0, 3]"]
    assert list(drawn["after, removed"].x) == [0.0, 0.0, 0.0]
    line = next(trace for trace in charts.weight_moves(weights).data if trace.mode == "lines")
    assert list(line.x[:2]) == [0.5, 0.55]


def test_a_layer_is_drawn_around_zero_with_rings():
    """The colours are symmetric; the first output is on top; rings stand at their places."""
    picture = pd.DataFrame([[1.0, -3.0, np.nan], [0.0, 2.0, 1.0]])
    figure = charts.layer_weights(picture, ({0.0: "0"}, {0.0: "0", 2.0: "2"}), "weight", ([1], [2]))
    heat, *rings = figure.data
    np.testing.assert_array_equal(heat.z, picture.to_numpy())
    assert (heat.zmin, heat.zmax) == (-3.0, 3.0)
    assert heat.colorscale[1] == (0.5, "#DDDDDD")
    assert {(ring.x[0], ring.y[0]) for ring in rings} == {(2, 1)}
    top, bottom = figure.layout.yaxis.range[::-1]
    assert top < bottom
    assert list(figure.layout.xaxis.ticktext) == ["0", "2"]
    assert any(note.text == "weight" for note in figure.layout.annotations)


def test_a_mask_says_in_words_what_its_filling_means():
    whole = charts.layer_mask(pd.DataFrame([[1.0, 0.0]]), ({}, {}))
    assert whole.layout.annotations[0].text == "filled: kept, blank: removed"
    assert whole.data[0].showscale is False
    shares = charts.layer_mask(pd.DataFrame([[0.25, 0.0]]), ({}, {}))
    assert shares.layout.annotations[0].text == "share kept"
    assert shares.data[0].colorbar.tickformat == ".0%"


def test_each_neuron_has_its_frame_and_its_name():
    neurons = pd.DataFrame(
        {"neuron": [4, 1], "kept": [2, 1], "total": 4, "top": 1, "left": [0, 3], "height": 2, "width": 2}
    )
    figure = charts.input_images(pd.DataFrame(np.full((3, 5), np.nan)), neurons)
    assert [note.text for note in figure.layout.annotations[:2]] == ["4: 2", "1: 1"]
    assert [(s.x0, s.x1, s.y0, s.y1) for s in figure.layout.shapes] == [(-0.5, 1.5, 0.5, 2.5), (2.5, 4.5, 0.5, 2.5)]


def test_the_chosen_layer_stands_out_by_more_than_its_colour():
    table = pd.DataFrame({"layer": ["a", "b"], "kept": [1, 2], "total": 4, "sparsity": [0.75, 0.5]})
    figure = charts.layer_sparsity(table, 0.6, chosen="b")
    assert dict(zip(figure.data[0].y, figure.data[0].marker.color, strict=True)) == {
        "a": translucent(KEPT, 0.4),
        "b": KEPT,
    }
    assert list(figure.layout.yaxis.ticktext) == ["<b>▸ b</b>", "a"]
    assert charts.layer_sparsity(table, 0.6).layout.yaxis.ticktext is None


def test_a_pinned_setting_is_drawn_with_a_star_of_its_own():
    curve = pd.DataFrame({"sparsity": [0.1, 0.9], "accuracy": [97.0, 60.0]})
    points = pd.DataFrame(
        {"method": "magnitude", "label": "M", "sparsity": [0.5], "accuracy": [90.0], "standard_error": [1.0]}
    )
    figure = charts.add_pinned(charts.accuracy_curve(points, 97.0), curve, 0.8, 88.0, "A: this")
    line, star = figure.data[-2:]
    assert (list(line.x), list(line.y), line.name) == ([0.1, 0.9], [97.0, 60.0], "A: this")
    assert (star.x[0], star.y[0], star.marker.symbol) == (0.8, 88.0, "star-open")


def test_all_titles_are_questions(weights):
    picture = pd.DataFrame([[1.0]])
    neurons = pd.DataFrame({"neuron": [0], "kept": 1, "total": 1, "top": 0, "left": 0, "height": 1, "width": 1})
    for figure in (
        charts.weight_scatter(weights, "nats"),
        charts.weight_moves(weights),
        charts.layer_weights(picture, ({}, {}), "weight"),
        charts.layer_mask(picture, ({}, {})),
        charts.input_images(picture, neurons),
    ):
        assert figure.layout.title.text.endswith("?")


def test_a_ranking_by_size_is_said_to_be_one(weights):
    """And one that is nearly that has more digits."""
    own = weights.assign(statistic=weights["before"] ** 2).drop(columns="rival")
    assert scatter_sentence(own, own, "Magnitude", "", False, True).startswith(
        f"Magnitude ranks the {len(own)} weights by their size."
    )
    other = own.assign(statistic=1.0 / own["statistic"])
    assert "correlate at −1.00." in scatter_sentence(other, other, "Its opposite", "", False, True)
