"""A plane over several seeds: means, spreads and dots are those of the tables."""

import math

import pandas as pd
import pytest

from app.charts import ALONG, AXES, COLOURS, MEASURES, Levels, heat_map, slices
from app.explain_plane import between_sentence, seeds_sentence, slice_sentence
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.spread import over_seeds

SAMPLES, ACCURACY = AXES["samples"], MEASURES["accuracy"]
LEVELS = Levels(80.0, 100.0)
SETTING = PruneConfig(model="digits-mlp")


@pytest.fixture
def runs() -> pd.DataFrame:
    """Two columns, two dampings, two seeds: the second seed is 2 points better, at N = 20 it is 6."""
    rows = [
        {
            "num_samples": n,
            "damping": d,
            "seed": seed,
            "accuracy": 90.0 + seed * (6 if n == 20 else 2),
            "overlap": 0.5,
            "rank_correlation": 0.25,
            "predicted": 0.1,
            "measured": 0.2,
            "gain": 10.0 + seed,
            "noise": 1.0,
            "verdict": "better",
            "overlap_between": 0.4 if seed and n == 20 else 0.9 if seed else math.nan,
            "rank_between": 0.6 if seed else math.nan,
        }
        for seed in (0, 1)
        for n in (10, 20)
        for d in (1e-3, 1e-2)
    ]
    return pd.DataFrame(rows)


def test_a_cell_says_mean_and_spread(runs):
    """The mean stands over the standard deviation; the hover also has both ends and the number of seeds."""
    heat = heat_map(over_seeds(runs, "num_samples"), SAMPLES, ACCURACY, LEVELS).data[0]
    assert heat.text[0][0] == "91.0<br>±1.4"
    assert heat.text[0][1] == "93.0<br>±4.2"
    assert heat.z.tolist() == [[91.0, 93.0]] * 2
    assert heat.customdata[0][1] == "93.0 ± 4.2<br>from 90.0 to 96.0 over 2 seeds"


def test_colours_can_show_the_spread(runs):
    """From none to a quarter of what lies between magnitude and the dense network, whatever the cells; another question."""
    cells = over_seeds(runs, "num_samples")
    figure = heat_map(cells, SAMPLES, ACCURACY, LEVELS, colours=COLOURS[1])
    heat = figure.data[0]
    assert heat.z[0].tolist() == pytest.approx([2 / math.sqrt(2), 6 / math.sqrt(2)])
    assert (heat.zmin, heat.zmax) == (0.0, 5.0)
    assert heat.colorbar.ticktext[-1] == "± 5 or more"
    assert figure.layout.title.text == "Where does the draw of images decide?"
    overlap = heat_map(cells, SAMPLES, MEASURES["overlap"], colours=COLOURS[1]).data[0]
    assert (overlap.zmin, overlap.zmax) == (0.0, 0.25)


def test_one_seed_has_no_spread(runs):
    """Nothing is said of a spread, and colours asked to show it show the value."""
    cells = over_seeds(runs[runs["seed"] == 0], "num_samples")
    figure = heat_map(cells, SAMPLES, ACCURACY, LEVELS, colours=COLOURS[1])
    assert figure.data[0].text[0][0] == "90.0"
    assert figure.data[0].z[0].tolist() == [90.0, 90.0]
    assert "mean" not in " ".join(note.text for note in figure.layout.annotations)
    assert seeds_sentence(cells, SAMPLES, SETTING, 500) == ""
    assert between_sentence(cells, SAMPLES, SETTING, 0.1) == ""


def test_every_seed_is_a_dot(runs):
    """Beside each line of means stand its runs, under the same name in the legend."""
    figure = slices(over_seeds(runs, "num_samples"), SAMPLES, ACCURACY, LEVELS, runs=runs)
    lines, dots = figure.data[::2], figure.data[1::2]
    assert [trace.name for trace in lines] == ["N = 10", "N = 20"] == [trace.name for trace in dots]
    assert sorted(dots[1].y) == [90.0, 90.0, 96.0, 96.0]
    assert sorted(dots[1].customdata) == [0, 0, 1, 1]
    assert not any(trace.showlegend for trace in dots)
    assert list(lines[1].customdata) == [" ± 4.2 (from 90.0 to 96.0)"] * 2
    paired = slices(over_seeds(runs, "num_samples"), SAMPLES, MEASURES["overlap between seeds"], runs=runs)
    assert [trace.mode for trace in paired.data] == ["lines+markers"] * 2


@pytest.mark.parametrize(
    ("name", "values", "kind", "places"),
    [
        ("samples", (10, 20), "log", [10, 20]),
        ("update scale", (0.0, 0.5), "linear", [0.0, 0.5]),
        ("images", (10, 1000), "log", [10, 1000]),
        ("block", ("10", "layer"), "category", ["10", "layer"]),
    ],
)
def test_lines_can_run_along_the_other_axis(runs, name, values, kind, places):
    """To scale where the values have one, a line a damping, the axis with its unit."""
    axis = AXES[name]
    table = runs.rename(columns={"num_samples": axis.column})
    table[axis.column] = table[axis.column].map(dict(zip((10, 20), values, strict=True)))
    cells = over_seeds(table, axis.column)
    figure = slices(cells, axis, ACCURACY, LEVELS, runs=table, along=ALONG[1])
    assert [trace.name for trace in figure.data[::2]] == ["λ = 10⁻³", "λ = 10⁻²"]
    assert list(figure.data[0].x) == places
    assert figure.layout.xaxis.type == kind
    assert "(" in figure.layout.xaxis.title.text
    assert figure.layout.title.text == axis.question
    assert " points at λ = 10⁻³" in slice_sentence(cells, axis, ACCURACY, ALONG[1])


def test_eight_lines_differ_by_more_than_colour():
    """A line each of the plane's dampings: no two share their colour, dash and symbol."""
    dampings = [10.0**power for power in range(-7, 1)]
    table = pd.DataFrame([{"num_samples": n, "damping": d, "accuracy": 90.0} for n in (10, 20) for d in dampings])
    figure = slices(table, SAMPLES, ACCURACY, along=ALONG[1])
    for style in ([t.line.color for t in figure.data], [t.line.dash for t in figure.data]):
        assert len(set(style)) == 8
    assert len({trace.marker.symbol for trace in figure.data}) == 8


def test_the_sentences_tell_the_draws_noise_from_the_tests(runs):
    """Median and widest spread, the binomial error of the test images beside it, and at how many settings the draw is more."""
    cells = over_seeds(runs, "num_samples")
    text = seeds_sentence(cells, SAMPLES, SETTING, 500)
    assert "over 2 seeds the accuracy of a setting has a standard deviation of 2.83 points (median)" in text
    assert "most at N = 20, λ = 10⁻³: 4.2 points, from 90.0\u00a0% to 96.0\u00a0%" in text
    tests = [100 * math.sqrt(p * (1 - p) / 500) for p in (0.91, 0.93)]
    assert f"its 500 images alone leave ± {sum(tests) / 2:.2f} points" in text
    assert "The draw is the larger of the two at 4 of 4 settings." in text
    text = between_sentence(cells, SAMPLES, SETTING, 1 / 9)
    assert "both keep from 40.0\u00a0% (N = 20, λ = 10⁻³) to 90.0\u00a0% (N = 10, λ = 10⁻³)" in text
    assert "would share 11.1\u00a0%" in text
