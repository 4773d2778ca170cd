"""Blocks little wider than high keep GᵀG and GGᵀ: every mask picks its part, or takes what it prunes away."""

import pytest
import torch
from oracle import dense_fisher, kkt_step

from woodfisher_core import memory
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
    fisher, dense = EmpiricalFisher(rows, BLOCKS), dense_fisher(rows, BLOCKS, damping)
    together = fisher.joint_steps(weights, keeps, damping)
    for keep, step in zip(keeps, together, strict=True):
        wanted = kkt_step(dense, BLOCKS, weights, keep)
        [alone] = fisher.joint_steps(weights, [keep], damping)
        for got in (step, alone):
            assert torch.linalg.norm(got - wanted) <= 1e-9 * torch.linalg.norm(wanted)
    assert len(taken_away) > 0


@pytest.mark.parametrize("nested", [True, False])
def test_a_block_that_keeps_nothing_gives_the_same(nested, taken_away, monkeypatch):
    rows, weights, draws = given(50)
    keeps = [draws[0 if nested else number] >= share for number, share in enumerate(SHARES)]
    kept = EmpiricalFisher(rows, BLOCKS).joint_steps(weights, keeps, 1e-3)
    used = len(taken_away)
    monkeypatch.setattr(groups, "WIDE", 1)
    torch.testing.assert_close(
        EmpiricalFisher(rows, BLOCKS).joint_steps(weights, keeps, 1e-3), kept, rtol=1e-9, atol=1e-11
    )
    assert used == len(taken_away) > 0


def test_nothing_cancels(taken_away, monkeypatch):
    """Where what is pruned had nearly all the gradient, the rest is summed up by itself; taken away, its digits would be gone."""
    rows, weights, draws = given(50)
    keep = draws[0] >= 0.2
    weights[~keep] *= 1e-4
    rows[:, ~keep] *= 1e4
    wanted = kkt_step(dense_fisher(rows, BLOCKS, 1e-2), BLOCKS, weights, keep)

    def error() -> float:
        [step] = EmpiricalFisher(rows, BLOCKS).joint_steps(weights, [keep], 1e-2)
        return float(torch.linalg.norm((step - wanted)[keep]) / torch.linalg.norm(wanted[keep]))

    assert error() <= 1e-11
    monkeypatch.setattr(joint, "UNCANCELLED", 0.0)
    assert error() > 1e-9
    assert len(taken_away) == 2


def test_what_is_kept_is_counted():
    """In the bound of the cache, and in the memory a run is predicted to take."""
    rows, weights, draws = given(50)
    fisher = EmpiricalFisher(rows, BLOCKS)
    fisher.joint_steps(weights, [draws[0] >= 0.1, draws[0] >= 0.9], 1e-3)
    [group] = fisher.groups
    assert group.__dict__.keys() >= {"_covariance", "kept_gram"}
    kept = group._covariance.nbytes + group.kept_gram.nbytes
    assert fisher.kept_nbytes >= kept + group.rows.nbytes
    wide, wider = (memory.predict(50, Blocks((Run(0, 1, size),))).solver for size in (150, 151))
    assert wide - wider == 8 * (150**2 + 50**2)
