"""Planes of one setting against the damping are made of ordinary runs, and their comparisons are what they say."""

import pytest
import torch
from scipy.stats import rankdata, spearmanr

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import (
    Plane,
    computed,
    damping_line,
    kept_plane,
    missing_points,
    plane,
)
from woodfisher_core.experiments.rankings import overlap, ranks
from woodfisher_core.experiments.verdicts import EQUAL
from woodfisher_core.options import Axis

SETTING = PruneConfig(model="digits-mlp", num_samples=50, damping=1e-3, sparsity=0.8, solver="spectral", held_out=100)


@pytest.fixture(scope="module")
def space():
    return Workspace()


@pytest.fixture(scope="module")
def table(space):
    return plane(space, Plane(SETTING, Axis.SAMPLES, (20, 50), (1e-5, 1e-3, 1.0)))


def test_every_point_is_a_run_of_its_own(table):
    """Each cell equals the same config run in a fresh workspace."""
    for row in table.itertuples():
        config, fresh = SETTING.replace(num_samples=row.num_samples, damping=row.damping), Workspace()
        assert row.accuracy == fresh.evaluation(config).accuracy
        change = fresh.loss_change(config)
        assert row.predicted == pytest.approx(change.predicted_held_out.total, rel=1e-6)
        assert row.measured == pytest.approx(change.measured_held_out, rel=1e-6)


def test_the_reference_agrees_with_itself(table):
    """Overlap and rank correlation are 1 at the reference and below 1 elsewhere."""
    at = (table["num_samples"] == 50) & (table["damping"] == 1e-3)
    assert table[at]["overlap"].item() == 1.0
    assert table[at]["rank_correlation"].item() == pytest.approx(1.0)
    assert (table[~at]["overlap"] < 1.0).all()
    assert (table[~at]["rank_correlation"] < 1.0).all()


def test_verdicts_follow_from_gain_and_paired_noise(space, table):
    magnitude = space.evaluation(SETTING.replace(method="magnitude", update=None))
    for row in table.itertuples():
        result = space.evaluation(SETTING.replace(num_samples=row.num_samples, damping=row.damping))
        right, base = result.predictions == result.targets, magnitude.predictions == magnitude.targets
        noise = 100 * float((right.double() - base.double()).square().sum()) ** 0.5 / len(right)
        assert row.gain == pytest.approx(result.accuracy - magnitude.accuracy)
        expected = EQUAL if abs(row.gain) <= 1.96 * noise else "better" if row.gain > 0 else "worse"
        assert row.verdict == expected


def test_much_damping_ranks_as_magnitude_does(space):
    """As λ grows, ½w²/[F⁻¹]_jj tends to ½λw², which orders as |w| does."""
    config = SETTING.replace(damping=1e6)
    magnitude = space.outcome(config.replace(method="magnitude", update=None))
    assert overlap(space.outcome(config).mask.keep, magnitude.mask.keep) == 1.0


def test_ranks_share_ties_as_scipy_does():
    values = torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0, -1.0], dtype=torch.float64)
    assert ranks(values).tolist() == rankdata(values.numpy()).tolist()


def test_rank_correlation_is_spearmans(space, table):
    row = table.iloc[0]
    one = space.outcome(SETTING.replace(num_samples=int(row["num_samples"]), damping=row["damping"])).saliency
    two = space.outcome(SETTING).saliency
    assert row["rank_correlation"] == pytest.approx(spearmanr(one.numpy(), two.numpy()).statistic, abs=1e-9)


def test_overlap_counts_kept_weights():
    first = torch.tensor([True, True, False, False])
    assert overlap(first, torch.tensor([True, False, True, False])) == pytest.approx(1 / 3)
    assert overlap(first, ~first) == 0.0
    assert overlap(torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)) == 1.0


def test_the_line_counts_every_weight_at_every_damping(space):
    bins, points = damping_line(space, SETTING, (1e-4, 1e-2))
    assert points["damping"].tolist() == [1e-4, 1e-2]
    for damping, part in bins.groupby("damping"):
        outcome = space.outcome(SETTING.replace(damping=damping))
        assert part["kept"].sum() == outcome.mask.kept
        assert part["kept"].sum() + part["pruned"].sum() == int((outcome.saliency > 0).sum())


AXES = [
    (Axis.SAMPLES, (10, 30), "num_samples"),
    (Axis.BLOCK, (1, 16, "layer", "network"), "block_size"),
    (Axis.MINI_BATCH, (1, 3), "mini_batch"),
]


@pytest.mark.parametrize(("axis", "values", "column"), AXES, ids=[a.value for a, *_ in AXES])
def test_every_axis_is_made_of_runs_of_its_own(space, axis, values, column):
    """A cell is the run with that field of the config, all others as in the reference; columns stand in the given order."""
    dampings, found = (1e-4, 1e-2), plane(space, Plane(SETTING, axis, values, (1e-4, 1e-2)))
    assert axis.field == column
    assert found[column].tolist() == [v if axis is not Axis.BLOCK else str(v) for v in values for _ in dampings]
    assert found["damping"].tolist() == list(dampings) * len(values)
    places = [(value, damping) for value in values for damping in dampings]
    for (value, damping), row in zip(places, found.itertuples(), strict=True):
        fresh, config = Workspace(), SETTING.replace(**{column: value}, damping=damping)
        assert row.accuracy == fresh.evaluation(config).accuracy
        assert row.measured == pytest.approx(fresh.loss_change(config).measured_held_out, rel=1e-6)
        assert row.overlap == overlap(fresh.outcome(config).mask.keep, space.outcome(SETTING).mask.keep)
    assert found["overlap"].nunique() > 1


def test_an_axis_keeps_what_it_does_not_vary(space):
    """The reference's own mini-batch and labels hold in a plane of blocks; its own cell is the reference."""
    setting = SETTING.replace(mini_batch=2, labels="sampled", block_size=16)
    found = plane(space, Plane(setting, Axis.BLOCK, (16, "layer"), (1e-3,)))
    assert found["overlap"].iloc[0] == 1.0
    assert found["accuracy"].tolist() == [
        Workspace().evaluation(setting.replace(block_size=block)).accuracy for block in (16, "layer")
    ]


def test_rows_of_averages_use_more_images(space):
    """N·m images are used, the rows stay N, and more than there are is refused by name."""
    config = SETTING.replace(mini_batch=4)
    assert len(space.samples(config)[0]) == 200
    assert space.context(config).fisher().num_rows == 50
    with pytest.raises(InputError, match=r"at most 1,297 \(the training set\), got 1,500 .* Lower it"):
        plane(space, Plane(SETTING, Axis.MINI_BATCH, (30,), (1e-3,)))


def test_no_held_out_samples_leave_the_losses_blank(space):
    """Where the Fisher takes all images there is nothing to measure on; the point itself counts as computed."""
    found = plane(space, Plane(SETTING.replace(num_samples=1297), Axis.SAMPLES, (1297, 1200), (1e-2,)))
    assert found[["predicted", "measured"]].isna().to_numpy().tolist() == [[True, True], [False, False]]
    assert len(computed(found)) == 2


@pytest.mark.parametrize("axis_values", [(Axis.SAMPLES, (20, 50)), (Axis.BLOCK, (16, "network"))], ids=str)
def test_a_plane_of_relative_dampings(space, axis_values):
    """The dampings are multiples of each column's own mean curvature."""
    setting = SETTING.replace(damping_scale="relative")
    axis, (value, _) = axis_values
    found = plane(space, Plane(setting, *axis_values, (0.1, 10.0)))
    point = setting.replace(**{axis.field: value}, damping=10.0)
    absolute = point.replace(damping=space.damping(point), damping_scale="absolute")
    assert found["accuracy"].iloc[1] == Workspace().evaluation(absolute).accuracy
    assert found["accuracy"].iloc[1] != Workspace().evaluation(point.replace(damping_scale="absolute")).accuracy


def test_a_stopped_plane_keeps_its_points_and_goes_on():
    """Raising from progress stops; what was done is in the partial table as in the whole, and is not computed again."""
    space, wanted = Workspace(), Plane(SETTING.replace(held_out=0), Axis.BLOCK, (1, 16, "layer"), (1e-4, 1e-3))
    assert computed(kept_plane(space, wanted)).empty
    assert len(missing_points(space, wanted)) == 6

    def stop(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("plane", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plane(space, wanted, stop)
    partial, before = kept_plane(space, wanted), space.cache.nbytes
    assert partial["accuracy"].notna().tolist() == [True] * 3 + [False] * 3
    assert partial["verdict"].isna().tolist() == [False] * 3 + [True] * 3
    assert [(p.block_size, p.damping) for p in missing_points(space, wanted)] == [
        (16, 1e-3),
        ("layer", 1e-4),
        ("layer", 1e-3),
    ]
    assert space.cache.nbytes == before
    seen = []
    whole = plane(space, wanted, lambda *news: seen.append(news))
    assert [news for news in seen if news[0] == "plane"] == [("plane", done, 6) for done in range(1, 7)]
    assert computed(partial).equals(whole.head(3))
    assert kept_plane(space, wanted).equals(whole)
    assert missing_points(space, wanted) == []


def test_a_kept_plane_runs_nothing(monkeypatch):
    """Drawing again costs no run, no evaluation and no gradients, whatever else left the cache."""
    space, wanted = Workspace(), Plane(SETTING, Axis.SAMPLES, (20, 50), (1e-3, 1.0))
    whole = plane(space, wanted)
    monkeypatch.setattr(Workspace, "outcome", None)
    monkeypatch.setattr(Workspace, "evaluation", None)
    assert plane(space, wanted).equals(whole)
    assert kept_plane(space, wanted).equals(whole)


def test_another_reference_is_another_comparison(space, table):
    """The same runs held against another setting: accuracies stay, overlaps change."""
    other = plane(space, Plane(SETTING.replace(damping=1.0), Axis.SAMPLES, (20, 50), (1e-5, 1e-3, 1.0)))
    assert other["accuracy"].tolist() == table["accuracy"].tolist()
    assert other["overlap"].iloc[5] == 1.0 != table["overlap"].iloc[5]


def test_many_samples_come_first(space):
    """Fewer samples then need no gradients of their own."""
    order = [
        p.num_samples for p in missing_points(space, Plane(SETTING.replace(seed=5), Axis.SAMPLES, (20, 70, 50), (1.0,)))
    ]
    assert order == [70, 50, 20]
