"""Every solver against dense float64 oracles, over the shared table of nasty cases."""

from functools import cache

import pytest
import torch
from cases import CASES, DAMPINGS, Case
from oracle import dense_fisher, dense_inverse, independent_step, kkt_step, norm_error, relative

from woodfisher_core import updates
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.options import Solver

# What the numbers a user gets by default must reach, and what any forced solver must reach or else refuse.
AUTO_TOLERANCE, FORCED_TOLERANCE = 1e-6, 1e-4

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_damping = pytest.mark.parametrize("damping", DAMPINGS)
each_solver = pytest.mark.parametrize("solver", list(Solver), ids=str)


@cache
def rows_of(case: Case) -> torch.Tensor:
    return case.rows()


def one_block(size: int) -> Blocks:
    return Blocks((Run(0, 1, size),))


@each_case
@each_damping
def test_default_diagonal_and_product(case, damping):
    """diag F⁻¹ to 1e-6 in every element and F⁻¹x to 1e-6 in norm, at any damping from 1e-8 to 1."""
    rows, blocks = rows_of(case), case.blocks
    wanted = dense_inverse(rows, blocks, damping)
    inverse = EmpiricalFisher(rows, blocks).inverse(damping)
    x = torch.randn(len(wanted), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert relative(inverse.diagonal(), wanted.diagonal()) <= AUTO_TOLERANCE
    assert norm_error(inverse.apply(x), wanted @ x) <= AUTO_TOLERANCE
    assert norm_error(inverse.apply(x[:, 0]), wanted @ x[:, 0]) <= AUTO_TOLERANCE


@each_solver
@each_case
@each_damping
def test_every_solver_is_right_or_refuses(case, damping, solver):
    """A forced solver gives diag F⁻¹ to 1e-4 or raises; from λ = 1e-5 on these cases it may not even raise."""
    rows, blocks = rows_of(case), case.blocks
    wanted = dense_inverse(rows, blocks, damping)
    x = torch.ones(len(wanted), dtype=torch.float64)
    try:
        inverse = EmpiricalFisher(rows, blocks).inverse(damping, solver)
        diagonal, product = inverse.diagonal(), inverse.apply(x)
    except NumericalError:
        assert damping < 1e-5
        return
    assert relative(diagonal, wanted.diagonal()) <= FORCED_TOLERANCE
    assert norm_error(product, wanted @ x) <= FORCED_TOLERANCE


def exact_diagonal(rows: torch.Tensor, damping: float) -> torch.Tensor:
    """diag F⁻¹ from the singular values of G, whose error grows with the root of the condition number only."""
    _, sigma, right = torch.linalg.svd(rows.double(), full_matrices=True)
    spectrum = torch.zeros(rows.shape[1], dtype=torch.float64)
    spectrum[: len(sigma)] = sigma.square() / len(rows)
    return right.square().T @ (1.0 / (damping + spectrum))


@each_solver
@pytest.mark.parametrize("decay", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e4])
@pytest.mark.parametrize(("num_rows", "size"), [(67, 79), (18, 20), (40, 40), (71, 51), (43, 6), (2, 78)])
def test_ill_conditioned_is_never_silently_wrong(num_rows, size, scale, decay, solver):
    """Spectra over twelve decades at λ = 1e-8: right to 1e-4, or a NumericalError that names a damping that works."""
    generator = torch.Generator().manual_seed(num_rows)
    rows = scale * torch.randn(num_rows, size, generator=generator) * decay ** (torch.arange(size) / size)
    rows = rows @ torch.randn(size, size, generator=generator) / size**0.5
    fisher, damping = EmpiricalFisher(rows, one_block(size)), 1e-8
    try:
        diagonal = fisher.inverse(damping, solver).diagonal()
    except NumericalError as error:
        damping = float(str(error).split("damping of at least ")[1].rstrip("."))
        diagonal = fisher.inverse(damping, solver).diagonal()
    assert relative(diagonal, exact_diagonal(rows, damping)) <= FORCED_TOLERANCE


@pytest.mark.parametrize("tiny", [1e-4, 1e-5, 1e-6, 1e-7])
@each_damping
@each_solver
def test_nearly_dependent_samples(tiny, damping, solver):
    """Rows that depend on one another up to rounding do not disturb the answer."""
    rows = torch.randn(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[5] = rows[:5].sum(0) + tiny * rows[5]
    got = EmpiricalFisher(rows, one_block(12)).inverse(damping, solver).diagonal()
    assert relative(got, exact_diagonal(rows, damping)) <= 2e-6


@each_case
@each_damping
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.95, 1.0])
def test_joint_step_solves_the_constrained_quadratic(case, damping, sparsity):
    """δ_P = −w_P exactly, and δ_S equals the full KKT system's, block by block."""
    rows, blocks, weights, keep = rows_of(case), case.blocks, case.weights(), case.keep(sparsity)
    step = EmpiricalFisher(rows, blocks).joint_steps(weights, [keep], damping)[0]
    wanted = kkt_step(dense_fisher(rows, blocks, damping), blocks, weights, keep)
    assert torch.equal(step[~keep], -weights[~keep].double())
    scale = torch.linalg.norm(weights.double())
    assert torch.linalg.norm(step[keep] - wanted[keep]) <= 1e-6 * (torch.linalg.norm(wanted[keep]) + 1e-6 * scale)


@each_case
@pytest.mark.parametrize("damping", [1e-5, 1e-2])
@pytest.mark.parametrize("sparsity", [0.5, 0.95])
def test_updates_against_oracles(case, damping, sparsity):
    """Both updates move the survivors as their definitions say, and leave exact zeros where weights went."""
    rows, blocks, weights, keep = rows_of(case), case.blocks, case.weights(), case.keep(sparsity)
    fisher = EmpiricalFisher(rows, blocks)
    inverse, dense = fisher.inverse(damping), dense_inverse(rows, blocks, damping)
    alone = independent_step(dense, weights, keep, scale=0.7)
    together = kkt_step(dense_fisher(rows, blocks, damping), blocks, weights, keep)
    got_alone = next(updates.independent(weights, [keep], inverse, inverse.diagonal(), 0.7))
    got_together = next(updates.joint(weights, [keep], fisher, damping))
    for got, step in ((got_alone, alone), (got_together, together)):
        wanted = torch.where(keep, weights.double() + step, 0.0)
        assert norm_error(got.double(), wanted) <= 1e-6
        assert not got[~keep].any()
        assert got.dtype == weights.dtype


@each_case
@pytest.mark.parametrize("nested", [True, False])
def test_joint_steps_share_without_changing_anything(case, nested):
    """Several masks at once, in any order, nested or not, give each mask's own step."""
    rows, weights, fisher = rows_of(case), case.weights(), EmpiricalFisher(rows_of(case), case.blocks)
    shares = torch.rand(5, len(weights), generator=torch.Generator().manual_seed(3))
    keeps = [shares[0 if nested else i] >= p for i, p in enumerate((0.5, 1.0, 0.95, 0.0, 0.7))]
    together = fisher.joint_steps(weights, keeps, 1e-4)
    for keep, step in zip(keeps, together, strict=True):
        wanted = kkt_step(dense_fisher(rows, case.blocks, 1e-4), case.blocks, weights, keep)
        assert torch.linalg.norm(step - wanted) <= 1e-7 * torch.linalg.norm(weights.double())


def test_joint_step_beats_any_other():
    """½δᵀFδ of the joint step is below that of the independent update and of no update."""
    case = CASES[3]
    rows, weights, keep = rows_of(case), case.weights(), case.keep(0.8)
    fisher = dense_fisher(rows, case.blocks, 1e-3)
    operator = EmpiricalFisher(rows, case.blocks)
    joint = operator.joint_steps(weights, [keep], 1e-3)[0]
    inverse = operator.inverse(1e-3)
    alone = next(updates.independent(weights, [keep], inverse, inverse.diagonal(), 1.0)).double() - weights
    nothing = updates.none(weights, keep).double() - weights

    def cost(step):
        return 0.5 * step @ fisher @ step

    assert cost(joint) < cost(alone)
    assert cost(joint) < cost(nothing)


def test_several_masks_share_one_pass(monkeypatch):
    """The independent update of many masks equals that of each alone, also where they do not fit one pass."""
    case = CASES[3]
    rows, weights = rows_of(case), case.weights()
    inverse = EmpiricalFisher(rows, case.blocks).inverse(1e-3)
    diagonal = inverse.diagonal()
    keeps = [case.keep(p) for p in (0.1, 0.5, 0.9)]
    alone = [next(updates.independent(weights, [keep], inverse, diagonal, 1.0)) for keep in keeps]
    for bound in (1, 1 << 20):
        monkeypatch.setattr(updates, "BATCH_BYTES", bound)
        together = list(updates.independent(weights, keeps, inverse, diagonal, 1.0))
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(alone, together, strict=True))


@each_case
def test_diagonal_without_damping(case):
    """The Fisher's own diagonal is the mean square of the rows."""
    rows = rows_of(case)
    wanted = rows.double().square().mean(0)
    assert torch.allclose(EmpiricalFisher(rows, case.blocks).diagonal, wanted, rtol=1e-12, atol=0)


def test_every_row_counts():
    """The answer for N samples is not that of the last one, nor of the first N − 1."""
    rows = rows_of(CASES[2])
    blocks = CASES[2].blocks
    whole = EmpiricalFisher(rows, blocks).inverse(1e-3).diagonal()
    for part in (rows[-1:], rows[:-1]):
        assert relative(EmpiricalFisher(part, blocks).inverse(1e-3).diagonal(), whole) > 1e-4


@each_solver
def test_one_fisher_serves_many_dampings(solver):
    """A second damping from prepared parts equals a fresh start, and the rows are never changed."""
    rows, blocks = rows_of(CASES[3]), CASES[3].blocks
    before = rows.clone()
    shared = EmpiricalFisher(rows, blocks)
    shared.inverse(1e-2, solver).diagonal()
    fresh = EmpiricalFisher(rows, blocks).inverse(1e-4, solver).diagonal()
    assert torch.equal(shared.inverse(1e-4, solver).diagonal(), fresh)
    assert torch.equal(rows, before)


@pytest.mark.parametrize("solver", list(Solver))
def test_float64_rows_are_not_changed(solver):
    """Where no conversion makes a copy, nothing is done in place either."""
    rows = rows_of(CASES[3]).double()
    before = rows.clone()
    fisher = EmpiricalFisher(rows, CASES[3].blocks)
    keep = torch.arange(rows.shape[1]) % 3 == 0
    found = fisher.inverse(1e-2, solver)
    results = [fisher.diagonal, found.diagonal(), found.apply(before[0]), fisher.joint_steps(before[0], [keep], 1e-2)]
    assert all(torch.isfinite(result).all() for result in results)
    assert torch.equal(rows, before)


def test_float64_rows():
    """Float64 gradients are taken as they are."""
    rows = rows_of(CASES[3]).double() * (1 + 1e-9)
    got = EmpiricalFisher(rows, CASES[3].blocks).inverse(1e-3).diagonal()
    assert relative(got, dense_inverse(rows, CASES[3].blocks, 1e-3).diagonal()) <= 1e-11


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_damping(damping):
    """λ must be positive and finite, for the inverse and for the joint step."""
    fisher = EmpiricalFisher(torch.ones(2, 3), one_block(3))
    with pytest.raises(InputError, match=f"expected a positive number, got {damping}"):
        fisher.inverse(damping)
    with pytest.raises(InputError, match=f"expected a positive number, got {damping}"):
        fisher.joint_steps(torch.ones(3), [torch.tensor([True, False, True])], damping)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 3), r"got shape \(0, 3\)"), ((3,), r"got shape \(3,\)"), ((2, 4), "expected 3 columns .* got 4")],
)
def test_bad_rows(shape, message):
    """Rows must be a matrix of at least one row and as many columns as the blocks."""
    with pytest.raises(InputError, match=message):
        EmpiricalFisher(torch.ones(*shape), one_block(3))


@each_case
def test_single_entries(case):
    """F_ij as the dense matrix has it, 0 across blocks."""
    rows, dim = rows_of(case), case.blocks.dim
    dense, fisher = dense_fisher(rows, case.blocks, 0.0), EmpiricalFisher(rows, case.blocks)
    for first, second in pairs(dim):
        wanted = float(dense[first, second])
        assert fisher.entry(first, second) == pytest.approx(wanted, rel=1e-9, abs=1e-12 * float(dense.abs().max()))


def pairs(dim: int) -> list[tuple[int, int]]:
    """The corners, the middle, neighbours and strangers."""
    return [
        (0, 0),
        (0, dim - 1),
        (dim - 1, 0),
        (dim // 2, dim // 2),
        (dim // 2, dim // 2 - 1),
        (dim // 3, 2 * dim // 3),
    ]
