"""What a channel costs, against dense inverses and the constrained quadratic itself."""

from functools import cache

import pytest
import torch
from channel_nets import build, data, inputs
from oracle import dense_fisher, kkt_step, norm_error, relative

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.structured import find_channels, fisher_saliency, magnitude_saliency, saliency
from woodfisher_core.structured.channels import ChannelGroup

# D = 275 in the residual net, groups of 87 and 57: N = 8 below both, 70 between, 150 above, 300 above D.
ROWS = {"residual": (1, 8, 70, 150, 300), "flat": (5, 40, 200), "separable": (30,), "sigmoid": (6, 90, 150)}
CASES = [(kind, count) for kind, counts in ROWS.items() for count in counts]
NONE = torch.empty(0, dtype=torch.int64)
# Two inversions of a matrix of condition 1e8 leave this much of the oracle's own digits.
TOLERANCES = {1e-8: 1e-5, 1e-4: 1e-8, 1e-1: 1e-10, 10.0: 1e-10}


@cache
def problem(kind: str, count: int):
    """(channels, rows (N, D) float64, θ (D,) float64)."""
    model = build(kind).double()
    channels = find_channels(model, inputs(kind, 2).double())
    batch = data(kind, count)
    rows = gradient_matrix(model, channels.parameters, [(batch[0].double(), batch[1])], count)
    return channels, rows, channels.parameters.flatten(model.state_dict())


def whole(channels) -> Blocks:
    return Blocks.of(channels.parameters, "network")


@pytest.mark.parametrize(("kind", "count"), CASES)
@pytest.mark.parametrize("damping", list(TOLERANCES))
def test_equals_the_dense_definition(kind, count, damping):
    """½θᵀ([F⁻¹]_GG)⁻¹θ with both inverses taken as written."""
    channels, rows, theta = problem(kind, count)
    inverse = torch.linalg.inv(dense_fisher(rows, whole(channels), damping))
    wanted = []
    for group in channels.groups:
        own = group.members
        wanted.append(0.5 * theta[own] @ torch.linalg.inv(inverse[own][:, own]) @ theta[own])
    got = fisher_saliency(rows, theta, channels.groups, damping)
    assert got.dtype is torch.float64
    assert relative(got, torch.stack(wanted)) <= TOLERANCES[damping]
    known = saliency.undamped(rows, theta, channels.groups)
    for _ in range(2):  # what is known stays as it is
        assert torch.equal(fisher_saliency(rows, theta, channels.groups, damping, known), got)
    fisher = EmpiricalFisher(rows, whole(channels), keep_products=True)
    eigenbasis = saliency.undamped(rows, theta, channels.groups, fisher)
    assert (eigenbasis.eigenbasis is not None) == (count < len(theta) <= fisher.groups[0].size)
    assert (
        relative(fisher_saliency(rows, theta, channels.groups, damping, eigenbasis), torch.stack(wanted))
        <= TOLERANCES[damping]
    )


@pytest.mark.parametrize(("kind", "count"), CASES)
@pytest.mark.parametrize("damping", [1e-4, 0.1])
def test_is_the_minimum_of_the_constrained_quadratic(kind, count, damping):
    """½δᵀFδ at the KKT solution with the group at zero."""
    channels, rows, theta = problem(kind, count)
    fisher = dense_fisher(rows, whole(channels), damping)
    got = fisher_saliency(rows, theta, channels.groups, damping)
    for value, group in zip(got, channels.groups, strict=True):
        keep = torch.ones(len(theta), dtype=torch.bool)
        keep[group.members] = False
        step = kkt_step(fisher, whole(channels), theta, keep)
        assert float(value) == pytest.approx(float(0.5 * step @ fisher @ step), rel=1e-7)


@pytest.mark.parametrize("count", [150, 300])
def test_depends_on_every_row(count):
    """An accumulator that forgets rows would show: the answer without the last two is another."""
    channels, rows, theta = problem("residual", count)
    everything = fisher_saliency(rows, theta, channels.groups, 1e-5)
    assert norm_error(fisher_saliency(rows[:-2], theta, channels.groups, 1e-5), everything) > 1e-4


def test_single_weights_are_the_obs_statistic():
    """A group of one weight costs ½w²/[F⁻¹]_jj."""
    channels, rows, theta = problem("flat", 40)
    alone = [ChannelGroup("w", j, torch.tensor([j]), NONE, ()) for j in range(len(theta))]
    inverse = torch.linalg.inv(dense_fisher(rows, whole(channels), 1e-3))
    wanted = 0.5 * theta.square() / inverse.diagonal()
    assert norm_error(fisher_saliency(rows, theta, alone, 1e-3), wanted) <= 1e-9


def test_everything_at_once_costs_its_whole_quadratic():
    """Where nothing is left to move: ½θᵀFθ, on each side."""
    for kind, count in (("residual", 8), ("residual", 300)):
        channels, rows, theta = problem(kind, count)
        everything = [ChannelGroup("all", 0, torch.arange(len(theta)), NONE, ())]
        fisher = dense_fisher(rows, whole(channels), 1e-3)
        got = fisher_saliency(rows, theta, everything, 1e-3)
        assert float(got) == pytest.approx(float(0.5 * theta @ fisher @ theta), rel=1e-9)


@pytest.mark.parametrize("count", [8, 70, 300])
def test_magnitude_is_the_limit_of_large_damping(count):
    channels, rows, theta = problem("residual", count)
    limit = fisher_saliency(rows, theta, channels.groups, 1e8) / 1e8
    got = magnitude_saliency(theta, channels.groups)
    assert relative(limit, got) <= 1e-6
    assert float(got[2]) == pytest.approx(0.5 * sum(float(theta[j]) ** 2 for j in channels.groups[2].members))


@pytest.mark.parametrize("count", [8, 70, 300])
def test_float32_rows_and_small_batches_give_the_same(count, monkeypatch):
    """The same float32 numbers, one group and a few columns at a time or all together, on every side."""
    channels, rows, theta = problem("residual", count)
    single = rows.float()
    together = fisher_saliency(single, theta.float(), channels.groups, 1e-3)
    exact = fisher_saliency(single.double(), theta.float().double(), channels.groups, 1e-3)
    assert relative(together, exact) <= 1e-12
    monkeypatch.setattr(saliency, "BATCH_BYTES", 8 * count * 5)
    assert relative(fisher_saliency(single, theta.float(), channels.groups, 1e-3), exact) <= 1e-9


def test_the_spectrum_is_not_asked_for_more_than_it_bears(monkeypatch):
    """Beyond its limit of trace/λ the factor answers, to the bit; within, the spectrum does."""
    channels, rows, theta = problem("residual", 150)
    known = saliency.undamped(rows, theta, channels.groups, EmpiricalFisher(rows, whole(channels), keep_products=True))
    assert known.eigenbasis is not None
    limit = float(rows.square().sum()) / len(rows) / 1e-3
    by_factor = fisher_saliency(rows, theta, channels.groups, 1e-3)
    monkeypatch.setattr(saliency, "SPECTRUM_LIMIT", 0.99 * limit)
    assert torch.equal(fisher_saliency(rows, theta, channels.groups, 1e-3, known), by_factor)
    monkeypatch.setattr(saliency, "SPECTRUM_LIMIT", 1.01 * limit)
    by_spectrum = fisher_saliency(rows, theta, channels.groups, 1e-3, known)
    assert not torch.equal(by_spectrum, by_factor)
    assert relative(by_spectrum, by_factor) <= 1e-9


def test_dead_and_pruned_parameters():
    """Columns without gradient cost their penalty alone; zero parameters cost nothing."""
    channels, rows, theta = problem("residual", 70)
    first, second = channels.groups[:2]
    dead, pruned = rows.clone(), theta.clone()
    dead[:, first.members] = 0.0
    pruned[second.members] = 0.0
    got = fisher_saliency(dead, pruned, channels.groups, 1e-2)
    assert float(got[0]) == pytest.approx(0.5e-2 * float(pruned[first.members].square().sum()), rel=1e-10)
    assert float(got[1]) == 0.0


@pytest.mark.parametrize("count", [8, 70, 300])
def test_too_small_a_damping_is_refused(count):
    """Never a number that rounding made: the message names a damping that would do, and it does."""
    channels, rows, theta = problem("residual", count)
    with pytest.raises(NumericalError, match="Use a damping of at least ") as caught:
        fisher_saliency(rows, theta, channels.groups, 1e-17)
    named = float(str(caught.value).rpartition("at least ")[2].rstrip("."))
    assert (fisher_saliency(rows, theta, channels.groups, named) > 0).all()


def test_a_singular_group_is_refused_by_name(monkeypatch):
    """Past the first guard, a group that nothing can stand in for: no other parameter has a gradient, and it has one a sample."""
    channels, rows, theta = problem("residual", 300)
    largest = max(channels.groups, key=lambda group: len(group.members)).members
    alone = torch.zeros_like(rows[: len(largest)])
    alone[:, largest] = rows[: len(largest), largest]
    monkeypatch.setattr(saliency, "FACTOR_LIMIT", float("inf"))
    with pytest.raises(
        NumericalError, match=r"channel \d of conv\d .*numerically singular at damping 1e-17.*Use a damping"
    ):
        fisher_saliency(alone, theta, channels.groups, 1e-17)


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_damping(damping):
    channels, rows, theta = problem("flat", 5)
    with pytest.raises(InputError, match="damping: expected a positive number"):
        fisher_saliency(rows, theta, channels.groups, damping)


def test_rows_and_parameters_must_fit():
    channels, rows, theta = problem("flat", 5)
    with pytest.raises(InputError, match=r"expected rows \(N, D\) and θ \(D,\)"):
        fisher_saliency(rows[:, 1:], theta, channels.groups, 1e-3)
