"""Planes over seeds, the update scale and the images there are, against runs of their own and plain arithmetic."""

import itertools
import json
import math
import statistics

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import Plane, kept_plane, missing_points, plane, varied
from woodfisher_core.experiments.rankings import chance_overlap
from woodfisher_core.experiments.spread import over_seeds
from woodfisher_core.experiments.verdicts import EQUAL
from woodfisher_core.options import Axis

SETTING = PruneConfig(model="digits-mlp", num_samples=50, damping=1e-3, sparsity=0.9, solver="spectral", held_out=100)
SEEDS, VALUES, DAMPINGS = (0, 1, 2), (20, 50), (1e-5, 1e-3)


@pytest.fixture(scope="module")
def space():
    return Workspace()


@pytest.fixture(scope="module")
def runs(space):
    return plane(space, Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS, SEEDS))


def kept_sets(**changes) -> list[set[int]]:
    """What each seed keeps at one setting, each run in a workspace of its own."""
    found = []
    for seed in SEEDS:
        keep = Workspace().outcome(SETTING.replace(seed=seed, **changes)).mask.keep
        found.append(set(np.flatnonzero(keep.numpy()).tolist()))
    return found


def test_every_run_is_one_of_its_own(runs):
    """Each row equals the same config run afresh; seeds outermost, then columns, then dampings."""
    assert runs["seed"].tolist() == [seed for seed in SEEDS for _ in range(4)]
    for row in runs.itertuples():
        config = SETTING.replace(seed=row.seed, num_samples=row.num_samples, damping=row.damping)
        assert row.accuracy == Workspace().evaluation(config).accuracy
    assert runs.groupby(["num_samples", "damping"])["accuracy"].nunique().max() > 1


def test_the_setting_is_compared_at_its_own_seed(runs):
    """Overlap with the plane's own config is 1 for every seed there, and below elsewhere."""
    at = (runs["num_samples"] == 50) & (runs["damping"] == 1e-3)
    assert runs[at]["overlap"].tolist() == [1.0] * 3
    assert (runs[~at]["overlap"] < 1.0).all()


def test_between_seeds_is_the_mean_over_pairs(space, runs):
    """Jaccard of plain sets and SciPy's rank correlation, over the three pairs of seeds."""
    cells = over_seeds(runs, "num_samples").set_index(["num_samples", "damping"])
    for value, damping in itertools.product(VALUES, DAMPINGS):
        sets = kept_sets(num_samples=value, damping=damping)
        pairs = [len(a & b) / len(a | b) for a, b in itertools.combinations(sets, 2)]
        assert cells.loc[(value, damping), "overlap_between"] == pytest.approx(statistics.mean(pairs), rel=1e-12)
        config = SETTING.replace(num_samples=value, damping=damping)
        scores = [space.outcome(config.replace(seed=seed)).saliency.numpy() for seed in SEEDS]
        pairs = [spearmanr(a, b).statistic for a, b in itertools.combinations(scores, 2)]
        assert cells.loc[(value, damping), "rank_between"] == pytest.approx(statistics.mean(pairs), abs=1e-9)
    assert cells["overlap_between"].between(chance_overlap(0.9), 1.0, inclusive="neither").all()


def test_cells_are_means_and_spreads(runs):
    """As the standard library has them; the verdict's noise is that of the draws over their number, plus that of the tests."""
    cells = over_seeds(runs, "num_samples").set_index(["num_samples", "damping"])
    assert list(cells.index) == list(itertools.product(VALUES, DAMPINGS))
    for place, part in runs.groupby(["num_samples", "damping"]):
        cell = cells.loc[place]
        for name in ("accuracy", "measured", "overlap"):
            values = part[name].tolist()
            assert cell[name] == pytest.approx(statistics.mean(values))
            assert cell[f"{name}_spread"] == pytest.approx(statistics.stdev(values), abs=1e-12)
            assert (cell[f"{name}_low"], cell[f"{name}_high"]) == (min(values), max(values))
        assert cell["seeds"] == 3
        draws = 4.302653 * (statistics.variance(part["gain"]) / 3) ** 0.5  # Student's t of two degrees of freedom
        beyond = abs(statistics.mean(part["gain"])) > math.hypot(draws, 1.96 * statistics.mean(part["noise"]))
        assert cell["verdict"] == (EQUAL if not beyond else "better" if part["gain"].mean() > 0 else "worse")


def test_one_seed_has_means_without_spreads(space):
    """Its own numbers and its own verdict, nothing about seeds."""
    runs = plane(space, Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS))
    cells = over_seeds(runs, "num_samples")
    for name in ("accuracy", "gain", "verdict", "overlap"):
        assert cells[name].tolist() == runs[name].tolist()
    assert cells[["accuracy_spread", "accuracy_low", "accuracy_high", "overlap_between"]].isna().all(axis=None)


def test_verdicts_of_several_seeds():
    """The draw's variance counts as well: a gain that every test image confirms is equal where the seeds scatter.

    Two seeds know their scatter badly: at 40, two standard errors of the draws would not do.
    """
    rows = [
        {"num_samples": n, "damping": 1.0, "seed": seed, "gain": gain, "noise": 0.5, "accuracy": 90.0, "verdict": None}
        for n, gains in ((10, (2.0, 2.1)), (20, (8.0, -4.0)), (30, (-2.0, -2.1)), (40, (1.5, 3.5)))
        for seed, gain in enumerate(gains)
    ]
    others = ("overlap", "rank_correlation", "predicted", "measured", "overlap_between", "rank_between")
    table = pd.DataFrame(rows).assign(**dict.fromkeys(others, np.nan))
    assert over_seeds(table, "num_samples")["verdict"].tolist() == ["better", EQUAL, "worse", EQUAL]


def test_a_stopped_plane_has_the_seeds_there_are(space):
    """Stopped in the second seed: a cell of both has a spread, one of the first has a mean alone; nothing is made twice."""
    fresh, wanted = Workspace(), Plane(SETTING.replace(held_out=0), Axis.SAMPLES, VALUES, DAMPINGS, (0, 1))

    def stop(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("plane", 6):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plane(fresh, wanted, stop)
    cells = over_seeds(kept_plane(fresh, wanted), "num_samples")
    assert sorted(cells["seeds"]) == [1, 1, 2, 2]
    assert cells["accuracy_spread"].notna().tolist() == (cells["seeds"] == 2).tolist()
    assert cells["overlap_between"].notna().tolist() == (cells["seeds"] == 2).tolist()
    assert [(p.seed, p.num_samples) for p in missing_points(fresh, wanted)] == [(1, 20), (1, 20)]
    assert plane(fresh, wanted).equals(kept_plane(fresh, wanted))


def test_a_further_seed_keeps_those_before(space, runs):
    """Three seeds are the first three of four; the one on the left alone is the plane as it always was."""
    four = Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS, (*SEEDS, 3))
    assert [point.seed for point in missing_points(space, four)] == [3] * 4
    alone = Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS, (SETTING.seed,))
    assert alone == Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS)
    assert missing_points(space, alone) == []


def test_requests_before_there_were_seeds_still_parse():
    """One seed is written as it always was; several make another request; a seed twice is refused."""
    one = Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS)
    assert set(one.to_dict()) == {"config", "axis", "values", "dampings"}
    assert Plane.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    several = Plane(SETTING, Axis.SAMPLES, VALUES, DAMPINGS, SEEDS)
    assert Plane.from_dict(json.loads(json.dumps(several.to_dict()))) == several
    with pytest.raises(InputError, match="each seed once, got 1, 1"):
        Plane.from_dict({**one.to_dict(), "seeds": [1, 1]})
    with pytest.raises(InputError, match="got 2 × 2 × 3000"):
        Plane.from_dict({**one.to_dict(), "seeds": list(range(3000))})
    with pytest.raises(InputError, match="seed: expected a whole number"):
        Plane.from_dict({**one.to_dict(), "seeds": [2**32]})


def test_the_update_scale_moves_the_survivors_alone(space):
    """At 0 nobody moves, at 1 it is the plain update, between them the step is a share; the mask is the same throughout."""
    found = plane(space, Plane(SETTING, Axis.UPDATE_SCALE, (0.0, 0.5, 1.0), (1e-3,)))
    assert found["update_scale"].tolist() == [0.0, 0.5, 1.0]
    assert found["accuracy"].iloc[0] == Workspace().evaluation(SETTING.replace(update="none")).accuracy
    assert found["accuracy"].iloc[2] == Workspace().evaluation(SETTING).accuracy
    assert found["overlap"].tolist() == [1.0] * 3
    dense, outcomes = (
        space.problem(SETTING).weights,
        [space.outcome(SETTING.replace(update_scale=scale)) for scale in (0.5, 1.0)],
    )
    keep = outcomes[0].mask.keep
    half, whole = ((outcome.weights - dense)[keep].double() for outcome in outcomes)
    assert half.numpy() == pytest.approx((0.5 * whole).numpy(), abs=1e-6)


def test_only_the_independent_update_has_a_scale(space):
    wanted = Plane(SETTING.replace(update="joint"), Axis.UPDATE_SCALE, (0.5,), (1e-3,))
    with pytest.raises(InputError, match="only the independent update can be scaled"):
        plane(space, wanted)


def test_few_images_are_all_there_is(space):
    """With k images the samples are the first k of the seed's order, or N of them, for BatchNorm too."""
    assert varied(SETTING, Axis.IMAGES, 20).num_samples == 20
    assert varied(SETTING, Axis.IMAGES, 200).num_samples == 50
    few = varied(SETTING.replace(batchnorm_images=40, mini_batch=2), Axis.IMAGES, 30)
    assert (few.num_samples, few.batchnorm_images, few.images) == (15, 30, 30)
    found = plane(space, Plane(SETTING, Axis.IMAGES, (20, 50), (1e-3,), (0, 1)))
    for row in found.itertuples():
        plain = SETTING.replace(num_samples=row.images, seed=row.seed)
        assert row.accuracy == Workspace().evaluation(plain).accuracy
    used = [set(space.samples(varied(SETTING.replace(seed=seed), Axis.IMAGES, 20))[0]) for seed in (0, 1)]
    assert used[0] != used[1]


@pytest.mark.parametrize(
    ("axis", "values", "grids"),
    [(Axis.SAMPLES, (20, 50), 1), (Axis.UPDATE_SCALE, (0.0, 1.0), 1), (Axis.IMAGES, (20, 50, 90), 2)],
    ids=str,
)
def test_grids_hold_the_same_points(axis, values, grids):
    """Every point once, in as few grids as have their other fields in common."""
    wanted = Plane(SETTING, axis, values, DAMPINGS, SEEDS)
    found = wanted.grids(SETTING)
    made = [
        config.replace(**dict(zip(vary, given, strict=True)))
        for config, vary in found
        for given in itertools.product(*vary.values())
    ]
    assert len(found) == grids
    assert len(made) == wanted.total == len(set(made))
    assert set(made) == set(wanted.points(SETTING))
