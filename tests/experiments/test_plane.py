"""The plane over samples and damping is made of ordinary runs, and its comparisons are what they say."""

import pytest
import torch
from scipy.stats import rankdata, spearmanr

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import damping_line, overlap, plane, ranks

SETTING = PruneConfig(model="digits-mlp", num_samples=50, damping=1e-3, sparsity=0.8, solver="spectral", held_out=100)


@pytest.fixture(scope="module")
def space():
    return Workspace()


@pytest.fixture(scope="module")
def table(space):
    return plane(space, SETTING, (20, 50), (1e-5, 1e-3, 1.0))


def test_every_point_is_a_run_of_its_own(table):
    """Each cell equals the same config run in a fresh workspace."""
    for row in table.itertuples():
        config, fresh = SETTING.replace(num_samples=row.samples, damping=row.damping), Workspace()
        assert row.accuracy == fresh.evaluation(config).accuracy
        change = fresh.loss_change(config)
        assert row.predicted == pytest.approx(change.predicted_held_out.total, rel=1e-6)
        assert row.measured == pytest.approx(change.measured_held_out, rel=1e-6)


def test_the_reference_agrees_with_itself(table):
    """Overlap and rank correlation are 1 at the reference and below 1 elsewhere."""
    at = (table["samples"] == 50) & (table["damping"] == 1e-3)
    assert table[at]["overlap"].item() == 1.0
    assert table[at]["rank_correlation"].item() == pytest.approx(1.0)
    assert (table[~at]["overlap"] < 1.0).all()
    assert (table[~at]["rank_correlation"] < 1.0).all()


def test_verdicts_follow_from_gain_and_paired_noise(space, table):
    magnitude = space.evaluation(SETTING.replace(method="magnitude", update=None))
    for row in table.itertuples():
        result = space.evaluation(SETTING.replace(num_samples=row.samples, damping=row.damping))
        right, base = result.predictions == result.targets, magnitude.predictions == magnitude.targets
        noise = 100 * float((right.double() - base.double()).square().sum()) ** 0.5 / len(right)
        assert row.gain == pytest.approx(result.accuracy - magnitude.accuracy)
        expected = "equal" if abs(row.gain) <= 1.96 * noise else "better" if row.gain > 0 else "worse"
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
    one = space.outcome(SETTING.replace(num_samples=int(row["samples"]), damping=row["damping"])).saliency
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


def test_progress_reaches_the_end_and_can_stop(space):
    """A caller stops the plane by raising from its progress; what was finished stays kept."""
    seen = []

    def stop(phase: str, done: int, total: int) -> None:
        seen.append((phase, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plane(space, SETTING.replace(seed=9), (50,), (1e-4, 1e-3, 1e-2), stop)
    assert seen[-1] == ("plane", 2, 3)
    before = space.cache.nbytes
    space.evaluation(SETTING.replace(seed=9, damping=1e-4))
    assert space.cache.nbytes == before
