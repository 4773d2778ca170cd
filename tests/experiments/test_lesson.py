"""The lesson's numbers on a small network, against dense float64 algebra written out here."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, jacrev
from torch.nn.functional import cross_entropy

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments import lesson as first
from woodfisher_core.experiments import lesson_fisher as second
from woodfisher_core.fisher import Blocks
from woodfisher_core.timing import Stopwatch

COUNT, DAMPING = 60, 1e-3


@pytest.fixture(scope="module")
def space():
    return Workspace()


@pytest.fixture(scope="module")
def config():
    """Only the last two layers, 672 weights, so that all of H fits."""
    return PruneConfig(
        model="digits-mlp", exclude=("fc1",), sparsity=0.8, num_samples=COUNT, damping=DAMPING, block_size="network"
    )


@pytest.fixture(scope="module")
def dense(space, config):
    """(w, loss of the images in float64, G (N, d), H (d, d)) of the Fisher's images."""
    problem = space.problem(config)
    samples = problem.train_samples(space.samples(config)[0])
    state = {name: tensor.double() for name, tensor in problem.model.state_dict().items()}

    def loss(flat):
        at = {**state, **problem.parameters.unflatten(flat)}
        return cross_entropy(functional_call(problem.model, at, (samples.inputs.double(),)), samples.targets)

    weights = problem.weights.double()
    rows = space.rows(space.resolve(config), Stopwatch()).double()
    return weights, loss, rows, jacrev(grad(loss))(weights)


@pytest.mark.parametrize("direction", first.DIRECTIONS)
def test_taylor_is_the_loss_and_its_derivatives(space, config, dense, direction):
    """Both terms by the dense Hessian, every measured point by the loss itself; at small t the rest vanishes faster."""
    weights, loss, rows, curvature = dense
    found = first.taylor(space, config, direction)
    step = first._direction(space, config, direction)
    slope = torch.func.grad(loss)(weights)
    assert found.images == COUNT
    assert found.loss == pytest.approx(float(loss(weights)), rel=1e-6)
    assert found.first == pytest.approx(float(slope @ step), rel=1e-4, abs=1e-9)
    assert found.second == pytest.approx(0.5 * float(step @ curvature @ step), rel=1e-4)
    assert found.fisher == pytest.approx(0.5 * float((rows @ step).square().mean()), rel=1e-4)
    for share in first.SHARES:
        assert found.at(share) == pytest.approx(float(loss(weights + share * step) - loss(weights)), rel=1e-5, abs=1e-9)
        assert found.predicted(share) == pytest.approx(share * found.first + share**2 * found.second)


def test_directions_move_what_they_say(space, config):
    """Zeroing touches removed weights alone; the random step is as long, and another with another seed."""
    keep = space.outcome(config).mask.keep
    zeroed, both, drawn = (first._direction(space, config, one) for one in first.DIRECTIONS)
    assert not zeroed[keep].any()
    assert torch.equal(zeroed[~keep], both[~keep])
    assert both[keep].any()
    assert float(drawn.norm()) == pytest.approx(float(zeroed.norm()))
    assert not torch.allclose(drawn, first._direction(space, config.replace(seed=1), first.RANDOM))


@pytest.mark.parametrize("which", first.EXAMPLES)
def test_one_weight_solves_its_constrained_minimum(space, config, dense, which):
    """Statistic, step and remaining weight against the KKT system of the quadratic; losses against the loss itself."""
    weights, loss, rows, _ = dense
    found = first.one_weight(space, config, which)
    q, dim = found.index, len(weights)
    fisher = rows.T @ rows / COUNT + DAMPING * torch.eye(dim, dtype=torch.float64)
    system = torch.zeros(dim + 1, dim + 1, dtype=torch.float64)
    system[:dim, :dim] = fisher
    system[q, dim] = system[dim, q] = 1.0
    right = torch.zeros(dim + 1, dtype=torch.float64)
    right[dim] = -weights[q]
    step = torch.linalg.solve(system, right)[:dim]
    assert found.weight == pytest.approx(float(weights[q]))
    assert abs(found.left) < 1e-9
    assert found.statistic == pytest.approx(0.5 * float(step @ fisher @ step), rel=1e-5)
    assert found.without == pytest.approx(0.5 * float(weights[q] ** 2 * fisher[q, q]), rel=1e-5)
    assert found.statistic <= found.without * (1 + 1e-6)
    alone = torch.zeros_like(weights)
    alone[q] = -weights[q]
    for measured, move in zip(found.measured, (alone, step), strict=True):
        assert measured == pytest.approx(float(loss(weights + move) - loss(weights)), rel=1e-3, abs=1e-10)
    assert found.compensated.second_order == pytest.approx(
        0.5 * float((rows @ step).square().mean()), rel=1e-4, abs=1e-14
    )
    if len(found.movers):
        biggest = int(torch.where(torch.arange(dim) == q, 0.0, step.abs()).argmax())
        assert found.movers["weight"].iloc[0] == biggest


def test_examples_are_what_they_are_called(space, config):
    problem, outcome = space.problem(config), space.outcome(config)
    size, keep = problem.weights.abs(), outcome.mask.keep
    smallest, largest, cheapest, dearest = (first.one_weight(space, config, which) for which in first.EXAMPLES)
    assert abs(smallest.weight) == float(size[keep].min())
    assert smallest.kept
    assert not largest.kept
    assert abs(largest.weight) == float(size[~keep].max())
    assert (cheapest.rank, dearest.rank) == (1, problem.parameters.num_prunable)
    assert smallest.rank > int((~keep).sum()) >= largest.rank


def test_nothing_removed_is_said(space, config):
    with pytest.raises(InputError, match="Raise the sparsity"):
        first.one_weight(space, config.replace(sparsity=0.0), first.LARGEST_REMOVED)
    with pytest.raises(InputError, match="Raise the sparsity"):
        first.taylor(space, config.replace(sparsity=0.0), first.PRUNE)


def test_question_counts_the_ways(space, config):
    found = first.question(space, config)
    assert found.subsets == pytest.approx(math.log10(math.comb(found.total, found.removed)), rel=1e-9)
    assert set(found.points["method"]) == set(first.RIVALS) == set(found.results)
    assert found.removed == int((~space.outcome(config).mask.keep).sum())


def test_fisher_against_the_dense_hessian(space, config, dense):
    """Diagonals of H and of both Fishers; the comparison's numbers written out again."""
    _, _, rows, curvature = dense
    found = second.fisher_hessian(space, config)
    picked = found.weights["weight"].to_numpy()
    exact, own = curvature.diagonal().numpy()[picked], rows.square().mean(0).numpy()[picked]
    np.testing.assert_allclose(found.weights["hessian"], exact, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(found.weights["true"], own, rtol=1e-4, atol=1e-12)
    assert found.agreement["true"].cosine == pytest.approx(
        own @ exact / np.linalg.norm(own) / np.linalg.norm(exact), rel=1e-4
    )
    assert found.agreement["true"].ratio == pytest.approx(own.sum() / exact.sum(), rel=1e-3)
    assert found.signal == pytest.approx(float(rows.mean(0).square().sum()), rel=1e-3)
    assert found.noise == pytest.approx(float(rows.square().sum(1).mean()), rel=1e-4)
    assert found.growth["samples"].iloc[-1] == COUNT
    assert found.growth["cosine"].iloc[-1] == pytest.approx(found.agreement["true"].cosine)
    alone = rows[0].square().numpy()[picked]
    assert found.growth["cosine"].iloc[0] == pytest.approx(
        alone @ exact / np.linalg.norm(alone) / np.linalg.norm(exact), rel=1e-4
    )


def test_agreement_of_known_vectors():
    one, other = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 4.0, 6.0]).double()
    assert second.agree(one, other) == second.DiagonalAgreement(pytest.approx(1.0), pytest.approx(1.0), 0.5)
    assert second.agree(one, other.flip(0)).rank == pytest.approx(-1.0)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_recursion_on_its_way(count):
    """After n of N samples it holds (λI + (1/N) Σ_{i ≤ n} g gᵀ)⁻¹; at the end that is the closed form."""
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direct = torch.linalg.inv(0.1 * torch.eye(5, dtype=torch.float64) + rows[:count].T @ rows[:count] / 7)
    assert torch.allclose(second.after(rows, count, 0.1), direct)
    if count == 7:
        assert torch.allclose(second.closed_form(rows, 0.1), direct)


def test_woodbury_on_the_network(space, config):
    found = second.woodbury(space, config)
    assert found.difference < 1e-9
    assert found.recursion / found.dual == pytest.approx(found.largest / COUNT)
    assert found.left["share"].is_monotonic_decreasing
    last = found.steps[found.steps["samples"] == COUNT].set_index("weight")["value"]
    assert {weight: pytest.approx(value) for weight, value in found.closed.items()} == last.to_dict()
    assert (found.steps[found.steps["samples"] == 0]["value"] == 1 / DAMPING).all()


def test_block_energy_is_the_frobenius_norm_of_the_blocks(space, config):
    parameters = space.problem(config).parameters
    rows = space.rows(space.resolve(config), Stopwatch()).double()
    whole = rows.T @ rows
    for size in (1, 7, 100, "layer", "network"):
        blocks = Blocks.of(parameters, size)
        direct = sum(float(whole[s, s].square().sum()) for s in blocks.slices())
        assert second.block_energy(rows, blocks) == pytest.approx(direct, rel=1e-9)


def test_block_sizes_are_runs(space, config):
    found = second.block_sizes(space, config)
    assert list(found.table["block"]) == ["1", "10", "100", "layer", "network"]  # 1,000 are more than there are
    assert found.table["share"].iloc[-1] == pytest.approx(1.0)
    assert found.table["share"].iloc[0] < found.table["share"].iloc[3] < 1.0
    assert found.table["bytes"].iloc[-1] == found.full == 4 * 672**2
    own = space.evaluation(first.plain(config).replace(update="joint", block_size=10))
    assert found.table["accuracy"].iloc[1] == own.accuracy


def test_many_weights(space, config, dense):
    """The joint step costs least; what the sum leaves of the removed weights by dense algebra."""
    weights, _, rows, _ = dense
    found = first.many_weights(space, config)
    fisher = rows.T @ rows / COUNT + DAMPING * torch.eye(len(weights), dtype=torch.float64)
    inverse = torch.linalg.inv(fisher)
    for update, cost in found.costs.items():
        step = space.outcome(first.plain(config).replace(update=update)).weights.double() - weights
        assert cost == pytest.approx(0.5 * float(step @ fisher @ step), rel=1e-3)
    assert found.costs["joint"] < min(found.costs["none"], found.costs["independent"])
    gone = ~space.outcome(config).mask.keep
    pushed = -inverse[:, gone] @ (weights[gone] / inverse.diagonal()[gone])
    assert found.left == pytest.approx(
        float((weights + pushed)[gone].abs().mean() / weights[gone].abs().mean()), rel=1e-4
    )
    assert set(found.points["update"]) == {"none", "independent", "joint", "magnitude"}


def test_ladder_is_made_of_runs(space, config):
    rungs = first.ladder(space, config)
    assert rungs[1].result.accuracy == space.evaluation(config.replace(method="magnitude", update="none")).accuracy
    assert rungs[-1].result.accuracy == space.evaluation(config.replace(update="joint")).accuracy
    for before, rung in itertools.pairwise(rungs):
        assert rung.gain == pytest.approx(rung.result.accuracy - before.result.accuracy)
    assert rungs[0].gain == rungs[0].error == 0.0


def test_the_lesson_leaves_patterns_and_stages_aside(config):
    odd = config.replace(method="magnitude", update="none", sparsity=None, pattern="2:4")
    found = first.plain(odd)
    assert (found.method, found.pattern, found.sparsity, found.stages) == ("woodfisher", None, 0.5, 1)
