"""Blocks little wider than high keep GᵀG and GGᵀ: every mask picks its part, or takes what it prunes away."""

import pytest
import torch
from oracle import dense_fisher, kkt_step

from woodfisher_core.fisher import Blocks, EmpiricalFisher, groups, joint
from woodfisher_core.fisher.blocks import Run

SIZE = 120
BLOCKS = Blocks((Run(0, 1, SIZE),))
SHARES = (0.05, 0.2, 0.35, 0.6, 0.9)


def given(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(rows (N, d) float32 that hang together, weights (d,), one draw for each of them)."""
    generator = torch.Generator().manual_seed(count)
    mixed = torch.randn(count, SIZE, generator=generator) @ torch.randn(SIZE, SIZE, generator=generator) / 10
    return mixed, torch.randn(SIZE, generator=generator), torch.rand(5, SIZE, generator=generator)


@pytest.fixture
def taken_away(monkeypatch):
    """How many Gram matrices were made by taking away."""
    found = []
    real = joint._shrinking_grams

    def counted(*arguments):
        for one in real(*arguments):
            found.append(one[0])
            yield one

    monkeypatch.setattr(joint, "_shrinking_grams", counted)
    return found


@pytest.mark.parametrize("count", [41, 50, 110])
@pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("nested", [True, False])
def test_joint_steps_are_the_constrained_minimum(count, damping, nested, taken_away):
    """Against the dense KKT system, all masks at once and each alone."""
    rows, weights, draws = given(count)
    keeps = [draws[0 if nested else number] >= share for number, share in enumerate(SHARES)]
    fisher, dense = EmpiricalFisher(rows, BLOCKS, keep_products=True), dense_fisher(rows, BLOCKS, damping)
    together = fisher.joint_steps(weights, keeps, damping)
    for keep, step in zip(keeps, together, strict=True):
        wanted = kkt_step(dense, BLOCKS, weights, keep)
        [alone] = fisher.joint_steps(weights, [keep], damping)
        for got in (step, alone):
            assert torch.linalg.norm(got - wanted) <= 1e-9 * torch.linalg.norm(wanted)
    assert len(taken_away) > 0


@pytest.mark.parametrize("nested", [True, False])
def test_a_block_that_keeps_nothing_gives_the_same(nested, taken_away):
    rows, weights, draws = given(50)
    keeps = [draws[0 if nested else number] >= share for number, share in enumerate(SHARES)]
    kept = EmpiricalFisher(rows, BLOCKS, keep_products=True).joint_steps(weights, keeps, 1e-3)
    used = len(taken_away)
    plain = EmpiricalFisher(rows, BLOCKS)
    torch.testing.assert_close(plain.joint_steps(weights, keeps, 1e-3), kept, rtol=1e-9, atol=1e-11)
    assert used == len(taken_away) > 0
    assert not any("_covariance" in group.__dict__ for group in plain.groups)


def test_nothing_cancels(taken_away, monkeypatch):
    """What is pruned had nearly all the gradient: several masks are summed up by themselves; taken away, digits would be gone."""
    rows, weights, draws = given(50)
    keeps = [draws[0] >= share for share in (0.2, 0.25, 0.3, 0.35)]
    weights[~keeps[0]] *= 1e-4
    rows[:, ~keeps[0]] *= 1e4
    wanted = [kkt_step(dense_fisher(rows, BLOCKS, 1e-2), BLOCKS, weights, keep) for keep in keeps]

    def error() -> float:
        steps = EmpiricalFisher(rows, BLOCKS, keep_products=True).joint_steps(weights, keeps, 1e-2)
        found = zip(steps, wanted, keeps, strict=True)
        return max(float(((step - own)[keep]).norm() / own[keep].norm()) for step, own, keep in found)

    assert error() <= 1e-9
    monkeypatch.setattr(joint, "UNCANCELLED", -1.0)
    assert error() > 1e-8
    assert len(taken_away) == 8


def test_no_sample_cancels(taken_away, monkeypatch):
    """Two samples have next to nothing left among the survivors while the others keep the trace up."""
    count, size = 24, 48
    blocks = Blocks((Run(0, 1, size),))
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows = normal(count, 8) @ normal(8, size) + 1e-4 * normal(count, size)
    keep = torch.arange(size) >= 18
    rows[:2, keep] *= 1e-9
    rows[2:, ~keep] *= 0.06
    weights, damping = normal(size), float(rows.square().sum()) / count / 1e10
    wanted = kkt_step(dense_fisher(rows, blocks, damping), blocks, weights, keep)

    def error() -> float:
        [step] = EmpiricalFisher(rows, blocks, keep_products=True).joint_steps(weights, [keep], damping)
        return float((step - wanted)[keep].norm() / wanted[keep].norm())

    assert error() <= 3e-6
    monkeypatch.setattr(joint, "UNCANCELLED", -1.0)
    assert error() > 1e-5
    assert len(taken_away) == 2


def test_what_is_kept_is_counted_and_bounded():
    """In the cache's bound; only where G is small."""
    rows, weights, draws = given(50)
    fisher = EmpiricalFisher(rows, BLOCKS, keep_products=True)
    fisher.joint_steps(weights, [draws[0] >= 0.1, draws[0] >= 0.9], 1e-3)
    [group] = fisher.groups
    assert group.__dict__.keys() >= {"_covariance", "kept_gram"}
    assert fisher.kept_nbytes >= group._covariance.nbytes + group.kept_gram.nbytes + group.rows.nbytes
    wider = torch.ones(50, 151)
    [too_wide] = EmpiricalFisher(wider, Blocks((Run(0, 1, 151),)), keep_products=True).groups
    [just] = EmpiricalFisher(wider[:, :150], Blocks((Run(0, 1, 150),)), keep_products=True).groups
    assert (too_wide.keeps_covariance, just.keeps_covariance) == (False, True)


def test_large_rows_keep_no_more_than_before(monkeypatch):
    monkeypatch.setattr(groups, "WIDENED_BYTES", 50 * SIZE * 4 - 1)
    [group] = EmpiricalFisher(given(50)[0], BLOCKS, keep_products=True).groups
    assert not group.keeps_covariance
