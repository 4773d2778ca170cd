"""Exact OBS one weight at a time: against every weight tried by brute force, and against the joint step of all that went."""

import re

import pytest
import torch
from cases import batch, network
from oracle import kkt_step, norm_error

from woodfisher_core import elimination
from woodfisher_core.elimination import damped, damped_inverse, eliminate
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher import Blocks
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.hessian import dense_hessian
from woodfisher_core.parameters import PrunableParameters

DOUBLE = torch.float64


def quadratic(
    dim: int, damping: float, seed: int = 0, rank: int | None = None, decades: float = 4.0
) -> tuple[torch.Tensor, ...]:
    """A damped matrix of rows whose scales spread over ``decades``, its inverse and weights; the fewer rows, the more coupled."""
    generator = torch.Generator().manual_seed(seed)
    rank = rank or dim
    scales = torch.logspace(1 - decades, 1, dim, dtype=DOUBLE)[torch.randperm(dim, generator=generator)]
    rows = torch.randn(rank, dim, dtype=DOUBLE, generator=generator) * scales
    hessian = rows.T @ rows / rank
    return (
        damped(hessian, damping),
        damped_inverse(hessian, damping),
        torch.randn(dim, dtype=DOUBLE, generator=generator),
    )


def joint(matrix: torch.Tensor, weights: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Weights after the exact joint step that removes all outside ``keep``, from the dense KKT system."""
    return weights + kkt_step(matrix, Blocks((Run(0, 1, len(weights)),)), weights, keep)


def rise(matrix: torch.Tensor, weights: torch.Tensor, keep: torch.Tensor) -> float:
    """½ δᵀMδ of that step."""
    step = joint(matrix, weights, keep) - weights
    return 0.5 * float(step @ matrix @ step)


def brute_force(matrix, weights, count, parts, allowed) -> tuple[list[int], list[float]]:
    """(order, costs): every weight of the range with the largest share left is tried, by the constrained quadratic."""
    keep, order, costs = torch.ones(len(weights), dtype=torch.bool), [], []
    for _ in range(count):
        part = max(parts, key=lambda p: int(keep[p].sum()) / (p.stop - p.start))  # the first of equals
        before, tried = rise(matrix, weights, keep), {}
        for q in range(part.start, part.stop):
            if keep[q] and allowed[q]:
                keep[q] = False
                tried[q] = rise(matrix, weights, keep) - before
                keep[q] = True
        best = min(tried, key=tried.get)
        keep[best] = False
        order.append(best)
        costs.append(tried[best])
    return order, costs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_matrix", [False, True])
def test_each_step_removes_the_cheapest_weight(seed, with_matrix):
    """Down to the last of eight weights the order and every cost are those of trying all weights."""
    matrix, inverse, weights = quadratic(8, 0.01, seed, rank=6, decades=0.5)
    order, costs = brute_force(matrix, weights, 8, [slice(0, 8)], torch.ones(8, dtype=torch.bool))
    (got,) = eliminate(inverse, weights, [0], matrix=matrix if with_matrix else None)
    assert got.order.tolist() == order
    assert got.cost[got.order].tolist() == pytest.approx(costs, rel=1e-8)
    assert order != (weights.square() / inverse.diagonal()).argsort().tolist()


@pytest.mark.parametrize("seed", range(3))
def test_ranges_take_turns(seed):
    """With ranges the one with the largest share left loses its cheapest weight, the others moving along."""
    matrix, inverse, weights = quadratic(10, 0.01, seed, rank=6, decades=0.5)
    parts, allowed = [slice(0, 4), slice(4, 6), slice(7, 10)], torch.ones(10, dtype=torch.bool)
    order, costs = brute_force(matrix, weights, 9, parts, allowed)
    (got,) = eliminate(inverse, weights, [(0, 0, 0)], ranges=parts)
    assert got.order.tolist() == order
    assert got.cost[got.order].tolist() == pytest.approx(costs, rel=1e-8)
    assert got.keep.nonzero().tolist() == [[6]]
    halves = list(eliminate(inverse, weights, [(3, 2, 1), (2, 1, 1)], ranges=parts))
    assert [[int(s.keep[part].sum()) for part in parts] for s in halves] == [[3, 2, 1], [2, 1, 1]]
    for snapshot in halves:
        assert norm_error(snapshot.weights, joint(matrix, weights, snapshot.keep)) <= 1e-10


def test_ranges_of_equal_shares_do_not_depend_on_what_else_is_asked():
    """Counts of the same share of every range lie on one path."""
    _, inverse, weights = quadratic(90, 1e-3)
    parts, counts = [slice(0, 60), slice(60, 90)], [(60 - 2 * i, 30 - i) for i in range(0, 30, 4)]
    for count, found in zip(counts, eliminate(inverse, weights, counts, ranges=parts), strict=True):
        (alone,) = eliminate(inverse, weights, [count], ranges=parts)
        assert torch.equal(found.order, alone.order)
        assert torch.equal(found.weights, alone.weights)


@pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("with_matrix", [False, True])
@pytest.mark.parametrize("rank", [None, 60])
def test_survivors_are_where_the_joint_step_puts_them(damping, with_matrix, rank):
    """After hundreds of downdates the weights are the exact joint step's and the costs add up to the quadratic's rise."""
    matrix, inverse, weights = quadratic(250, damping, rank=rank)
    counts = [249, 186, 185, 120, 40, 3, 0]
    for count, got in zip(
        counts, eliminate(inverse, weights, counts, matrix=matrix if with_matrix else None), strict=True
    ):
        wanted = joint(matrix, weights, got.keep)
        assert int(got.keep.sum()) == count
        assert sorted(got.order.tolist()) == (~got.keep).nonzero().squeeze(1).tolist()
        assert not got.weights[~got.keep].any()
        assert norm_error(got.weights[got.keep], wanted[got.keep]) <= 1e-8
        assert got.loss_rise == pytest.approx(rise(matrix, weights, got.keep), rel=1e-8)
        assert got.loss_rise == pytest.approx(float(got.cost[~got.keep].sum()), rel=1e-13)


def test_the_cost_of_a_survivor_is_that_of_removing_it_next():
    """½ w_q²/[(M_SS)⁻¹]_qq for what is still there, and the smallest of these is paid next."""
    matrix, inverse, weights = quadratic(30, 1e-2)
    now, later = eliminate(inverse, weights, [17, 16])
    stay = now.keep.nonzero().squeeze(1)
    remaining = torch.linalg.inv(matrix[stay][:, stay]).diagonal()
    assert norm_error(now.cost[stay], 0.5 * joint(matrix, weights, now.keep)[stay].square() / remaining) <= 1e-9
    q = int(later.order[-1])
    assert float(now.cost[stay].min()) == float(now.cost[q]) == pytest.approx(float(later.cost[q]), rel=1e-12)


def test_inverting_anew_undoes_rounding():
    """At a condition number of nearly 1e12 the last survivors lose digits for good, unless the matrix is at hand."""
    matrix, inverse, weights = quadratic(250, 3e-9, rank=100)
    errors = []
    for given in (None, matrix):
        (got,) = eliminate(inverse, weights, [30], matrix=given)
        errors.append(norm_error(got.weights, joint(matrix, weights, got.keep)))
    assert errors[1] <= 1e-12
    assert 1e-10 < errors[0] <= 1e-5


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_downdates_made_together(monkeypatch, steps):
    """How many downdates wait for one product changes nothing but rounding."""
    _, inverse, weights = quadratic(120, 1e-4)
    usual = list(eliminate(inverse, weights, [100, 33, 1]))
    monkeypatch.setattr(elimination, "STEPS", steps)
    for got, wanted in zip(eliminate(inverse, weights, [100, 33, 1]), usual, strict=True):
        assert torch.equal(got.order, wanted.order)
        assert norm_error(got.weights, wanted.weights) <= 1e-9
        assert norm_error(got.cost, wanted.cost) <= 1e-9


@pytest.mark.parametrize("with_matrix", [False, True])
def test_order_asked_and_what_else_is_asked_change_nothing(with_matrix):
    """Snapshots come in the order asked, twice if asked twice, each bit for bit as if asked alone; inputs stay as they were."""
    matrix, inverse, weights = quadratic(150, 1e-4)
    given = matrix if with_matrix else None
    before = [tensor.clone() for tensor in (matrix, inverse, weights)]
    counts = [20, 149, 70, 20, 150, 0]
    found = list(eliminate(inverse, weights, counts, matrix=given))
    assert [int(snapshot.keep.sum()) for snapshot in found] == counts
    for count, snapshot in zip(counts, found, strict=True):
        (alone,) = eliminate(inverse, weights, [count], matrix=given)
        assert all(torch.equal(getattr(alone, f), getattr(snapshot, f)) for f in ("keep", "weights", "cost", "order"))
    assert torch.equal(found[4].weights, weights)
    assert found[4].loss_rise == 0.0
    assert all(torch.equal(now, then) for now, then in zip((matrix, inverse, weights), before, strict=True))


def test_weights_that_must_stay():
    """What is not allowed to go stays and still moves; the rest goes as brute force says."""
    matrix, inverse, weights = quadratic(9, 0.01, 5, rank=6, decades=0.5)
    allowed = torch.tensor([True, False, True, True, False, True, True, True, False])
    order, costs = brute_force(matrix, weights, 6, [slice(0, 9)], allowed)
    (got,) = eliminate(inverse, weights, [3], allowed=allowed)
    assert got.order.tolist() == order
    assert got.cost[got.order].tolist() == pytest.approx(costs, rel=1e-8)
    assert torch.equal(got.keep, ~allowed)
    assert (got.weights - weights)[~allowed].abs().min() > 0
    with pytest.raises(InputError, match=r"from 3 .the weights that must stay. to 9 weights left .* got 2"):
        eliminate(inverse, weights, [2], allowed=allowed)


def test_zeros_go_first_and_the_last_of_equals():
    """Pruned weights cost nothing and go before all others; among equals the last goes, as the masks have it."""
    _, inverse, weights = quadratic(20, 1e-2)
    weights[[3, 11, 12]] = 0.0
    (got,) = eliminate(inverse, weights, [16])
    assert got.order[:3].tolist() == [12, 11, 3]
    assert not got.cost[[3, 11, 12]].any()
    assert got.loss_rise > 0
    (equal,) = eliminate(torch.eye(6, dtype=DOUBLE), torch.tensor([1.0, -1.0, 1.0, 2.0, 1.0, 1.0]), [1])
    assert equal.order.tolist() == [5, 4, 2, 1, 0]
    assert equal.weights.tolist() == [0, 0, 0, 2, 0, 0]
    assert equal.loss_rise == 2.5


def test_a_network_s_own_hessian():
    """From model to weights: one at a time over all layers beats the one-shot OBS choice on the model's own quadratic."""
    model = network("mlp")
    parameters = PrunableParameters.from_model(model)
    hessian = dense_hessian(model, parameters, [batch("mlp", 40)], dtype=DOUBLE)
    assert torch.linalg.eigvalsh(hessian)[0] < -1e-4
    matrix, inverse = damped(hessian, 0.2), damped_inverse(hessian, 0.2)
    weights = parameters.flatten(model.state_dict())
    (got,) = eliminate(inverse, weights, [30], matrix=matrix)
    assert got.weights.dtype == DOUBLE
    assert norm_error(got.weights, joint(matrix, weights.double(), got.keep)) <= 1e-12
    one_shot = torch.ones(125, dtype=torch.bool)
    one_shot[(weights.double().square() / inverse.diagonal()).argsort()[:95]] = False
    assert got.loss_rise < rise(matrix, weights.double(), one_shot)


def test_damped_inverse():
    """The inverse of H + λI, float64 whatever came, and H stays as it was."""
    matrix, _, _ = quadratic(40, 0.0)
    hessian = matrix.float()
    before = hessian.clone()
    got = damped_inverse(hessian, 0.1)
    assert got.dtype == DOUBLE
    assert norm_error(got @ (before.double() + 0.1 * torch.eye(40, dtype=DOUBLE)), torch.eye(40, dtype=DOUBLE)) <= 1e-12
    assert torch.equal(hessian, before)
    assert torch.equal(damped(hessian, 0.1), before.double() + 0.1 * torch.eye(40, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("values", "damping", "trouble"),
    [
        ([-0.3, 0.1, 2.0], 0.2, "not positive definite.* -0.3"),
        ([-0.3, 0.1, 2.0], 0.0, "not positive definite.* -0.3"),
        ([-1e-9, 1e3, 2e3], 0.0, "not positive definite.* -1e-09"),
        ([0.0, 1.0, 2.0], 0.0, "not positive definite|condition number"),
        ([0.0, 1.0, 2.0], 1e-14, "condition number"),
        ([1e-15, 1.0, 2.0], 0.0, "condition number"),
        ([0.0, 0.0, 0.0], 0.0, "not positive definite"),
        ([-5e-7, -5e-7, -4e-7], 0.0, "not positive definite.* -5e-07"),
    ],
)
def test_the_damping_that_works(values, damping, trouble):
    """What cannot be inverted is refused with its smallest eigenvalue, and the damping named does work."""
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=generator)).Q
    hessian = turn @ torch.diag(torch.tensor(values, dtype=DOUBLE)) @ turn.T
    hessian = (hessian + hessian.T) / 2
    with pytest.raises(NumericalError, match=trouble) as refused:
        damped_inverse(hessian, damping)
    named = float(re.search(r"at least (\S+)\.$", str(refused.value)).group(1))
    got = damped_inverse(hessian, named)
    assert norm_error(got @ damped(hessian, named), torch.eye(3, dtype=DOUBLE)) <= 1e-3
    assert named <= max(1.3 * max(-min(values), 0.0), 1e-7)


@pytest.mark.parametrize(
    ("hessian", "damping", "error", "message"),
    [
        (torch.eye(3), -1.0, InputError, "damping: expected a number from 0, got -1.0"),
        (torch.eye(3), float("nan"), InputError, "damping: expected a number from 0, got nan"),
        (torch.ones(3, 2), 1.0, InputError, r"expected a square matrix, got shape \(3, 2\)"),
        (torch.full((2, 2), float("nan")), 1.0, NumericalError, "Hessian: NaN or infinite"),
    ],
)
def test_bad_hessians(hessian, damping, error, message):
    """Refused with what was expected and what came."""
    with pytest.raises(error, match=message):
        damped_inverse(hessian, damping)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([11], {}, "from 0 .* to 10 weights left in positions 0 to 9, got 11"),
        ([-1], {}, "got -1"),
        ([(3, 2)], {"ranges": [slice(0, 10)]}, "one number for each of 1 ranges, got 2"),
        ([(2, 3)], {"ranges": [slice(0, 5), slice(4, 10)]}, "disjoint slices of 0 to 10"),
        ([(2, 3)], {"ranges": [slice(0, 5), slice(5, 11)]}, "disjoint slices of 0 to 10"),
        ([(2, 6), (4, 1)], {"ranges": [slice(0, 4), slice(4, 10)]}, r"got \(2, 6\) and \(4, 1\)"),
        ([5], {"allowed": torch.ones(9, dtype=torch.bool)}, r"allowed: expected shape \(10,\), got \(9,\)"),
        ([5], {"matrix": torch.eye(9)}, r"matrix: expected shape \(10, 10\) for 10 weights, got \(9, 9\)"),
        ([5], {"matrix": 2 * torch.eye(10)}, "inverse: expected that of the given matrix .* 1 off the identity"),
    ],
)
def test_bad_requests(counts, options, message):
    """What does not fit is refused at the call, before the first snapshot."""
    with pytest.raises(InputError, match=message):
        eliminate(torch.eye(10, dtype=DOUBLE), torch.ones(10), counts, **options)


def test_bad_weights_and_inverses():
    """NaN weights, another length, and an inverse that is not positive definite."""
    eye = torch.eye(4, dtype=DOUBLE)
    with pytest.raises(InputError, match="weights: expected a flat vector of finite numbers"):
        eliminate(eye, torch.tensor([1.0, float("nan"), 1.0, 1.0]), [2])
    with pytest.raises(InputError, match=r"inverse: expected shape \(3, 3\) for 3 weights, got \(4, 4\)"):
        eliminate(eye, torch.ones(3), [2])
    with pytest.raises(NumericalError, match=r"after 0 weights .* came out as -1; .*damping"):
        next(eliminate(-eye, torch.ones(4), [2]))


@pytest.mark.gpu
def test_on_a_gpu():
    """The same elimination on a CUDA device, where its results stay."""
    matrix, inverse, weights = quadratic(150, 1e-3)
    for given in (None, matrix):
        (here,) = eliminate(inverse, weights, [20], matrix=given)
        (there,) = eliminate(inverse.cuda(), weights.cuda(), [20], matrix=None if given is None else given.cuda())
        assert there.weights.is_cuda
        assert torch.equal(there.order.cpu(), here.order)
        assert norm_error(there.weights.cpu(), here.weights) <= 1e-9
