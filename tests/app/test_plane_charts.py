"""The plane's figures show exactly the numbers of their tables."""

import math

import numpy as np
import pandas as pd
import pytest

from app.charts import AXES, MEASURES, Levels, damping_frames, heat_map, slices
from app.charts.damping import power
from app.charts.plane import AROUND_MAGNITUDE, MOST_NINES, nines
from app.explain_plane import SAID, plane_sentence, slice_sentence
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.verdicts import BETTER, WORSE

SAMPLES = AXES["samples"]


@pytest.fixture
def plane() -> pd.DataFrame:
    """A small plane with one cell worse than magnitude."""
    rows = [
        {
            "num_samples": n,
            "damping": d,
            "accuracy": 50.0 + n + math.log10(d),
            "overlap": 0.5,
            "rank_correlation": 0.25,
            "predicted": 0.1 * n,
            "measured": 0.2 * n,
            "gain": 1.0,
            "overlap_between": 0.75,
            "rank_between": 0.5,
            "verdict": WORSE if (n, d) == (10, 1e-3) else BETTER,
        }
        for n in (10, 20)
        for d in (1e-3, 1e-2, 1e-1)
    ]
    return pd.DataFrame(rows)


def text_of(figure) -> str:
    return " ".join(note.text for note in figure.layout.annotations)


@pytest.mark.parametrize("name", list(MEASURES))
def test_heat_map_shows_the_table(plane, name):
    """Every cell at its place, the question as title, the unit above the cells, the axis with its unit."""
    measure = MEASURES[name]
    figure = heat_map(plane, SAMPLES, measure)
    assert figure.layout.title.text.endswith("?")
    assert measure.unit in text_of(figure)
    assert "(images)" in figure.layout.xaxis.title.text
    for row in plane.itertuples():
        i, j = [power(d) for d in (1e-3, 1e-2, 1e-1)].index(power(row.damping)), (10, 20).index(row.num_samples)
        value = getattr(row, measure.column)
        assert figure.data[0].z[i][j] == (pytest.approx(-math.log10(1 - value)) if measure.nines else value)
        assert figure.data[0].text[i][j].startswith(format(getattr(row, measure.column), measure.form))


def test_your_setting_is_outlined_in_two_colours(plane):
    """One cell, framed so that it is seen on any colour; without a setting on the plane there is no frame."""
    figure = heat_map(plane, SAMPLES, MEASURES["accuracy"], reference=(20, 1e-2))
    frames = figure.layout.shapes
    assert {(s.x0, s.x1, s.y0, s.y1) for s in frames} == {(0.5, 1.5, 0.5, 1.5)}
    assert {s.line.color for s in frames} == {"white", "black"}
    assert not heat_map(plane, SAMPLES, MEASURES["accuracy"]).layout.shapes


def test_cells_worse_than_magnitude_are_marked(plane):
    """By a sign, not by colour alone, and the sign is explained."""
    figure = heat_map(plane, SAMPLES, MEASURES["accuracy"])
    assert [[cell.endswith("×") for cell in row] for row in figure.data[0].text] == [
        [True, False],
        [False, False],
        [False, False],
    ]
    assert "× less accurate than magnitude" in text_of(figure)
    fine = heat_map(plane.assign(verdict=BETTER), SAMPLES, MEASURES["accuracy"])
    assert "×" not in text_of(fine)


@pytest.mark.parametrize(
    ("name", "levels", "range_", "blue_end"),
    [
        ("accuracy", Levels(80.0, 97.0), (63.0, 97.0), 1.0),
        ("accuracy", Levels(97.0, 97.2), (96.0, 98.0), 1.0),
        ("measured loss", Levels(0.6, 0.0), (0.0, 1.2), 0.0),
        ("predicted loss", Levels(0.001, 0.0), (-0.009, 0.011), 0.0),
        ("overlap", None, (0.0, 1.0), None),
        ("rank correlation", None, (0, MOST_NINES), None),
        ("overlap between seeds", None, (0.0, 1.0), None),
    ],
)
def test_colours_depend_on_no_cell(plane, name, levels, range_, blue_end):
    """They lie around magnitude, at most as wide as to the dense network, or from 0 to 1; a cell keeps its colour as more
    come in."""
    measure = MEASURES[name]
    drawn = [heat_map(part, SAMPLES, measure, levels).data[0] for part in (plane, plane.head(2))]
    for heat in drawn:
        assert (heat.zmin, heat.zmax) == pytest.approx(range_)
    if blue_end is not None:
        assert next(place for place, color in drawn[0].colorscale if color == AROUND_MAGNITUDE[2][1]) == blue_end
        assert any("magnitude" in mark for mark in drawn[0].colorbar.ticktext)


def test_correlations_near_one_are_told_apart(plane):
    """0.9987 and 0.9999 by their digits and by their colour; 1 itself and what is below 0 have a colour too."""
    values = [-0.5, 0.9, 0.99, 0.9987, 0.9999, 1.0]
    heat = heat_map(plane.assign(rank_correlation=values), SAMPLES, MEASURES["rank correlation"]).data[0]
    written = [cell.removesuffix(" ×") for row in zip(*heat.text, strict=True) for cell in row]
    assert written == ["-0.5000", "0.9000", "0.9900", "0.9987", "0.9999", "1.0000"]
    colours = [value for row in zip(*heat.z, strict=True) for value in row]
    assert colours == pytest.approx([0, 1, 2, -math.log10(0.0013), 4, 4])
    assert list(heat.colorbar.ticktext) == ["≤ 0", "0.9", "0.99", "0.999", "≥ 0.9999"]
    high = heat_map(
        plane.assign(rank_correlation=[0.9813, 0.9954, *values[2:]]), SAMPLES, MEASURES["rank correlation"]
    ).data[0]
    assert (high.zmin, high.zmax) == (1, MOST_NINES)  # nothing lies below 0.9
    same = heat_map(plane.assign(rank_correlation=1.0), SAMPLES, MEASURES["rank correlation"]).data[0]
    assert same.zmin < same.zmax
    assert math.isnan(nines(np.array([math.nan]))[0])


def test_the_sentence_is_about_the_map(plane):
    """Where what is drawn is smallest and largest; the accuracy only where that is drawn."""
    config = PruneConfig(model="digits-mlp")
    accuracy = plane_sentence(plane, SAMPLES, config, 40.0, True)
    assert accuracy.startswith("Of 6 settings, 5 beat magnitude (40.0\u00a0%)")
    assert "Best: 69.0\u00a0% at N = 20" in accuracy
    for name, measure in MEASURES.items():
        if name == "accuracy":
            continue
        table = plane.assign(**{measure.column: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]})
        text = plane_sentence(table, SAMPLES, config, 40.0, True, measure=measure)
        least, most = (format(value, measure.form.lstrip("#")) + SAID[measure.column].unit for value in (0.1, 0.6))
        assert f"between {least} (N = 10, λ = 10⁻³) and {most} (N = 20, λ = 10⁻¹)" in text
        assert text.startswith(f"Of 6 settings, the {SAID[measure.column].what}")
        assert "× marks 1 that are less accurate" in text
        assert text.endswith("Outlined: your setting.")
        assert "Best" not in text
    unknown = plane_sentence(
        plane.assign(measured=math.nan), SAMPLES, config, 40.0, False, measure=MEASURES["measured loss"]
    )
    assert "none has a measured loss change" in unknown


def test_a_flat_line_says_no_more_than_it_is(plane):
    """Of the accuracy only where that is drawn; a spread of 1 is 1.0 points."""
    text = slice_sentence(plane.assign(accuracy=[50.0, 50.5, 51.0] * 2), SAMPLES, MEASURES["accuracy"])
    assert "spread by 1.0 points at N = 10 and by 1.0 points at N = 20" in text
    assert "where the line is flat, the damping does not matter for the accuracy." in text
    for name in ("overlap", "rank correlation", "overlap between seeds", "ranks between seeds", "predicted loss"):
        text = slice_sentence(plane, SAMPLES, MEASURES[name])
        assert "says nothing" in text
        assert "not matter" not in text
    assert "by 0.28 nats" in slice_sentence(
        plane.assign(measured=[0.0, 0.1, 0.28] * 2), SAMPLES, MEASURES["measured loss"]
    )


def blank(plane: pd.DataFrame, cells: int) -> pd.DataFrame:
    """The plane with its last ``cells`` not computed yet."""
    partial = plane.copy()
    numbers = ["accuracy", "overlap", "rank_correlation", "predicted", "measured", "gain"]
    partial.loc[partial.index[-cells:], numbers] = math.nan
    partial.loc[partial.index[-cells:], "verdict"] = None
    return partial


def test_missing_cells_are_blank(plane):
    """The axes stay whole, a missing cell has neither colour nor text, and one without that number a dash."""
    figure = heat_map(blank(plane, 2), SAMPLES, MEASURES["accuracy"])
    assert list(figure.layout.xaxis.categoryarray) == ["10", "20"]
    assert list(figure.layout.xaxis.range) == [-0.5, 1.5]
    assert [bool(row[1]) for row in figure.data[0].text] == [True, False, False]
    assert [math.isnan(row[1]) for row in figure.data[0].z] == [False, True, True]
    assert len(figure.data) == 1
    without = heat_map(plane.assign(measured=math.nan), SAMPLES, MEASURES["measured loss"])
    assert len(without.data[1].x) == 6
    assert set(without.data[0].text[0]) == {"–"}


def test_slices_differ_by_more_than_colour(plane):
    figure = slices(plane, SAMPLES, MEASURES["accuracy"], Levels(60.0, 90.0))
    assert [trace.name for trace in figure.data] == ["N = 10", "N = 20"]
    for part in ("color", "dash"):
        assert figure.data[0].line[part] != figure.data[1].line[part]
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol
    assert list(figure.data[1].y) == plane[plane["num_samples"] == 20]["accuracy"].tolist()
    assert "magnitude" in text_of(figure)


def test_slices_of_a_partial_plane(plane):
    """A line has the points there are; one without any is left out, and the others keep their style."""
    whole, partial = (slices(part, SAMPLES, MEASURES["accuracy"]) for part in (plane, blank(plane, 3)))
    assert [trace.name for trace in partial.data] == ["N = 10"]
    assert len(slices(blank(plane, 2), SAMPLES, MEASURES["accuracy"]).data[1].x) == 1
    only_second = blank(plane, 6).combine_first(plane.tail(3))[plane.columns]
    assert slices(only_second, SAMPLES, MEASURES["accuracy"]).data[0].line == whole.data[1].line
    assert list(partial.layout.xaxis.range) == list(whole.layout.xaxis.range)


@pytest.mark.parametrize(
    ("name", "values", "columns", "line"),
    [
        ("samples", [20, 1000], ["20", "1,000"], "N = 1,000"),
        ("block", ["1", "1000", "layer"], ["1", "1,000", "layer"], "B = 1,000"),
        ("mini-batch", [1, 10], ["1", "10"], "m = 10"),
        ("update scale", [0.0, 0.25, 1.0], ["0", "0.25", "1"], "s = 0.25"),
        ("images", [10, 1000], ["10", "1,000"], "k = 1,000"),
    ],
)
def test_every_axis_is_written_with_its_letter_and_unit(plane, name, values, columns, line):
    """Columns stand in the table's order, numbers and names alike."""
    axis = AXES[name]
    table = pd.concat([plane.head(3).assign(**{axis.column: value}) for value in values], ignore_index=True)
    figure = heat_map(table, axis, MEASURES["accuracy"], reference=(values[-1], 1e-3))
    assert list(figure.data[0].x) == columns
    assert figure.layout.shapes[0].x0 == len(columns) - 1.5
    assert "(" in axis.title
    assert line in [trace.name for trace in slices(table, axis, MEASURES["accuracy"]).data]


def test_relative_damping_is_named(plane):
    for figure in (
        heat_map(plane, SAMPLES, MEASURES["accuracy"], relative=True).layout.yaxis,
        slices(plane, SAMPLES, MEASURES["accuracy"], relative=True).layout.xaxis,
    ):
        assert "λ / mean Fⱼⱼ" in figure.title.text
    assert heat_map(plane, SAMPLES, MEASURES["accuracy"]).layout.yaxis.title.text == "damping λ"


def test_frames_follow_the_damping():
    """One frame a damping, named with its accuracy; the threshold stands where the table says."""
    bins = pd.DataFrame(
        [{"damping": d, "left": x, "right": x + 1, "kept": 2, "pruned": 3} for d in (1e-3, 1e-2) for x in (-4.0, -3.0)]
    )
    points = pd.DataFrame({"damping": [1e-3, 1e-2], "accuracy": [70.0, 80.0], "threshold": [1e-3, 1e-2]})
    figure = damping_frames(bins, points, "nats")
    assert [frame.name for frame in figure.frames] == ["λ = 10⁻³: 70.0 %", "λ = 10⁻²: 80.0 %"]
    assert [step.label for step in figure.layout.sliders[0].steps] == [frame.name for frame in figure.frames]
    assert list(figure.frames[0].data[2].x) == [-3.0, -3.0]
    assert sum(figure.frames[1].data[0].y) == 6
    assert "nats" in figure.layout.xaxis.title.text
    relative = damping_frames(bins, points, "nats", relative=True)
    assert relative.frames[0].name == "λ = 10⁻³ mean Fⱼⱼ: 70.0 %"
    begun = damping_frames(bins, points, "nats", current=1e-3)
    assert begun.layout.sliders[0].active == 0
    assert list(begun.data[2].x) == [-3.0, -3.0]


def test_the_current_damping_is_not_hidden_with_the_ticks():
    """The label above the slider takes its colour from the labels below it: those are made small, not transparent."""
    bins = pd.DataFrame([{"damping": 1e-3, "left": -4.0, "right": -3.0, "kept": 2, "pruned": 3}])
    points = pd.DataFrame({"damping": [1e-3], "accuracy": [70.0], "threshold": [1e-3]})
    slider = damping_frames(bins, points, "nats").layout.sliders[0]
    assert slider.font.color is None
    assert slider.font.size < 2 < slider.currentvalue.font.size


@pytest.mark.parametrize(("value", "written"), [(1e-3, "10⁻³"), (3e-5, "3·10⁻⁵"), (1.0, "10⁰"), (1e-8, "10⁻⁸")])
def test_powers_of_ten(value, written):
    assert power(value) == written
