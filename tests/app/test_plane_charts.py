"""The plane's figures show exactly the numbers of their tables."""

import math

import pandas as pd
import pytest

from app.charts import MEASURES, damping_frames, heat_map, slices
from app.charts.plane import power


@pytest.fixture
def plane() -> pd.DataFrame:
    """A small plane with one cell worse than magnitude."""
    rows = [
        {
            "samples": n,
            "damping": d,
            "accuracy": 50.0 + n + math.log10(d),
            "overlap": 0.5,
            "rank_correlation": 0.25,
            "predicted": 0.1 * n,
            "measured": 0.2 * n,
            "gain": 1.0,
            "verdict": "worse" if (n, d) == (10, 1e-3) else "better",
        }
        for n in (10, 20)
        for d in (1e-3, 1e-2, 1e-1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", list(MEASURES))
def test_heat_map_shows_the_table(plane, name):
    """Every cell at its place, the question as title, the unit at the scale."""
    measure = MEASURES[name]
    figure = heat_map(plane, measure, (20, 1e-2))
    assert figure.layout.title.text.endswith("?")
    assert figure.data[0].colorbar.title.text == measure.unit
    for row in plane.itertuples():
        i, j = [power(d) for d in (1e-3, 1e-2, 1e-1)].index(power(row.damping)), (10, 20).index(row.samples)
        assert figure.data[0].z[i][j] == getattr(row, measure.column)
    assert figure.data[1].x[0] == "20"
    assert figure.data[1].y[0] == "10⁻²"


def test_cells_worse_than_magnitude_are_marked(plane):
    """By a sign, not by colour alone."""
    text = heat_map(plane, MEASURES["accuracy"]).data[0].text
    assert [[cell.endswith("×") for cell in row] for row in text] == [[True, False], [False, False], [False, False]]


def test_slices_differ_by_more_than_colour(plane):
    figure = slices(plane, MEASURES["accuracy"], 60.0)
    assert [trace.name for trace in figure.data] == ["N = 10", "N = 20"]
    for part in ("color", "dash"):
        assert figure.data[0].line[part] != figure.data[1].line[part]
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol
    assert list(figure.data[1].y) == plane[plane["samples"] == 20]["accuracy"].tolist()


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


@pytest.mark.parametrize(("value", "written"), [(1e-3, "10⁻³"), (3e-5, "3·10⁻⁵"), (1.0, "10⁰"), (1e-8, "10⁻⁸")])
def test_powers_of_ten(value, written):
    assert power(value) == written
