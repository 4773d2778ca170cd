"""The two-weight model against a dense solve and a search, written differently from the code."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.two_weights import (
    TwoWeights,
    choices,
    contour_set,
    contours,
    over_correlations,
    places,
)

PAIRS = [
    TwoWeights(1.0, 0.7, 1.0, 4.0, 1.6),
    TwoWeights(-0.3, 2.0, 5.0, 0.2, -0.9),
    TwoWeights(0.4, 0.4, 1.0, 1.0, 0.0),
]


def loss(pair: TwoWeights, at) -> float:
    away = np.asarray(at) - (pair.first, pair.second)
    return 0.5 * away @ np.array([[pair.a, pair.c], [pair.c, pair.b]]) @ away


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("removed", [1, 2])
def test_obs_is_the_lowest_point_of_the_axis(pair, removed):
    """Found by search; OBD leaves the other weight; both losses are those of the removals table."""
    on_axis = lambda other: loss(pair, (0.0, other) if removed == 1 else (other, 0.0))  # noqa: E731
    best = minimize_scalar(on_axis)
    at, row = places(pair, removed).set_index("place"), pair.removals().iloc[removed - 1]
    other = "second" if removed == 1 else "first"
    assert at.loc["obs", other] == pytest.approx(best.x, abs=1e-6)
    assert at.loc["obs", "loss"] == pytest.approx(best.fun, abs=1e-9)
    assert row["obs"] == pytest.approx(best.fun, abs=1e-9)
    assert row["obd"] == pytest.approx(on_axis(getattr(pair, other)))
    inverse = np.linalg.inv([[pair.a, pair.c], [pair.c, pair.b]])
    assert row["obs"] == pytest.approx(0.5 * row["weight"] ** 2 / inverse[removed - 1, removed - 1])
    assert row["obs"] == pytest.approx(row["obd"] * (1.0 - pair.correlation**2))


@pytest.mark.parametrize("pair", PAIRS)
def test_contours_have_their_level(pair):
    found = contours(pair, [0.1, 0.5]).dropna()
    for row in found.itertuples():
        assert loss(pair, (row.first, row.second)) == pytest.approx(row.level)


def test_one_contour_touches_the_axis():
    """The contour through the place of OBS does not cross the axis."""
    rings = contour_set(PAIRS[0], 1)
    touching = rings[rings["through"] == "obs"]["first"]
    assert touching.min() == pytest.approx(0.0, abs=5e-3)
    assert touching.min() >= -1e-12


def test_two_weights_part_obs_from_obd_in_cost_alone():
    """Whatever the pair, OBD and OBS choose the same one; magnitude may not."""
    generator = np.random.default_rng(0)
    differ = 0
    for _ in range(200):
        factor = generator.normal(size=(2, 3))
        f = factor @ factor.T
        pair = TwoWeights(*generator.normal(size=2), a=f[0, 0], b=f[1, 1], c=f[0, 1])
        found = choices(pair)
        assert found["obd"] == found["obs"]
        differ += found["magnitude"] != found["obs"]
    assert differ > 20


def test_without_correlation_nobody_moves():
    spots, rings = over_correlations(PAIRS[0], 1, [-0.5, 0.0, 0.5])
    middle = spots[spots["correlation"] == 0.0].set_index("place")
    assert (
        middle.loc["obd", ["first", "second", "loss"]].tolist()
        == middle.loc["obs", ["first", "second", "loss"]].tolist()
    )
    assert sorted(rings["correlation"].unique()) == [-0.5, 0.0, 0.5]


def test_a_saddle_is_refused():
    with pytest.raises(InputError, match="bends upwards"):
        TwoWeights(1.0, 1.0, 1.0, 1.0, 1.0)
