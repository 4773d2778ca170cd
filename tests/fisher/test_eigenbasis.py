"""The spectral solver where a block keeps its eigenvectors: against 80-bit arithmetic, and against its own factor."""

import numpy as np
import pytest
import torch
from oracle import dense_inverse, norm_error, relative
from test_precision import KINDS, wide_rows

from woodfisher_core.errors import NumericalError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.spectrum import positive_eigenvalues
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.fisher.eigenbasis import EigenbasisSolver
from woodfisher_core.fisher.groups import SPECTRUM_LIMIT
from woodfisher_core.options import Solver

COUNT, SIZE = 60, 150
BLOCK = Blocks((Run(0, 1, SIZE),))
# trace(F)/λ, and the error that diag F⁻¹ and F⁻¹x may have there on rows of these kinds: measured 2e-14, 9e-12, 2e-10, 2e-7.
CONDITIONS = {1e4: 1e-12, 1e6: 1e-10, 1e8: 2e-9, 4.9e10: 1e-6}


def extended(rows: torch.Tensor, damping: float, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(diag F⁻¹, F⁻¹x) by Woodbury's formula with a Cholesky factor, written out in numpy's longest float."""
    gradients, vector, shift = (np.asarray(value, dtype=np.longdouble) for value in (rows.numpy(), x.numpy(), damping))
    count = len(gradients)
    factor = gradients @ gradients.T + count * shift * np.eye(count, dtype=np.longdouble)
    whitened = gradients.copy()
    for k in range(count):
        factor[k, k] = np.sqrt(factor[k, k] - factor[k, :k] @ factor[k, :k])
        factor[k + 1 :, k] = (factor[k + 1 :, k] - factor[k + 1 :, :k] @ factor[k, :k]) / factor[k, k]
        whitened[k] = (whitened[k] - factor[k, :k] @ whitened[:k]) / factor[k, k]
    return (1 - (whitened**2).sum(0)) / shift, (vector - whitened.T @ (whitened @ vector)) / shift


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="numpy's longdouble is no longer than float64 here")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_inverse_is_that_of_longer_numbers(kind, condition):
    rows = wide_rows(COUNT, SIZE, kind).double()
    damping = float(rows.square().sum()) / COUNT / condition
    x = torch.randn(SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inverse = EmpiricalFisher(rows, BLOCK, keep_products=True).inverse(damping, Solver.SPECTRAL)
    diagonal, product = (torch.from_numpy(found.astype(np.float64)) for found in extended(rows, damping, x))
    assert relative(inverse.diagonal(), diagonal) <= CONDITIONS[condition]
    assert norm_error(inverse.apply(x), product) <= CONDITIONS[condition]
    several = torch.stack([x, 2 * x, torch.zeros_like(x)], dim=1)
    assert norm_error(inverse.apply(several), torch.stack([product, 2 * product, 0 * product], dim=1)) <= 1e-6


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="numpy's longdouble is no longer than float64 here")
@pytest.mark.parametrize(("count", "size"), [(12, 30), (34, 65), (60, 150)])
def test_the_worst_rows_keep_the_tolerance(count, size):
    """Graded over five decades in as many columns, and next to nothing elsewhere: what a search for bad rows came to."""
    generator = torch.Generator().manual_seed(0)
    rows = 1e-9 * torch.randn(count, size, dtype=torch.float64, generator=generator)
    rows[:, :count] += torch.diag(torch.logspace(-5, 0, count, dtype=torch.float64))
    rows = torch.linalg.qr(torch.randn(count, count, dtype=torch.float64, generator=generator))[0] @ rows
    damping = float(rows.square().sum()) / count / 4.9e10
    blocks = Blocks((Run(0, 1, size),))
    inverse = EmpiricalFisher(rows, blocks, keep_products=True).inverse(damping, Solver.SPECTRAL)
    wanted, _ = extended(rows, damping, torch.zeros(size, dtype=torch.float64))
    error = relative(inverse.diagonal(), torch.from_numpy(wanted.astype(np.float64)))
    assert 1e-8 < error <= 1e-4


def test_only_the_spectral_solver_keeps_eigenvectors_and_only_where_products_are_kept():
    """Automatically, or where nothing is kept, one damping alone must not pay for an eigendecomposition."""
    rows = wide_rows(COUNT, SIZE, "plain")
    [kept] = EmpiricalFisher(rows, BLOCK, keep_products=True).groups
    fisher = EmpiricalFisher(rows, BLOCK)
    assert fisher.solver_of(kept, Solver.SPECTRAL) is EigenbasisSolver
    assert EigenbasisSolver not in {fisher.solver_of(kept, Solver.AUTO), fisher.solver_of(kept, Solver.DUAL)}
    assert fisher.solver_of(fisher.groups[0], Solver.SPECTRAL) is not EigenbasisSolver
    [high] = EmpiricalFisher(rows.T.contiguous(), Blocks((Run(0, 1, COUNT),)), keep_products=True).groups
    assert not high.keeps_eigenbasis


def test_too_small_a_damping_is_refused_as_by_any_spectrum():
    rows = wide_rows(COUNT, SIZE, "plain")
    fisher = EmpiricalFisher(rows, BLOCK, keep_products=True)
    least = float(rows.double().square().sum()) / COUNT / SPECTRUM_LIMIT
    fisher.inverse(1.01 * least, Solver.SPECTRAL)
    with pytest.raises(NumericalError, match="Use a damping of at least"):
        fisher.inverse(0.99 * least, Solver.SPECTRAL)


def test_all_solvers_and_the_spectrum_agree_on_real_gradients():
    """The first layer of a real network is wider than high, the others are not; many dampings at once are those one by one."""
    space, found = Workspace(), {}
    config = PruneConfig(model="digits-mlp", num_samples=700, damping=1e-3, device="cpu")
    for solver in (Solver.DUAL, Solver.PRIMAL, Solver.SPECTRAL):
        context = space.context(config.replace(solver=solver))
        found[solver] = context.inverse_diagonal()
        assert relative(found[solver], found[Solver.DUAL]) <= 1e-9
    fisher = context.fisher()
    assert context.options.solver is Solver.SPECTRAL
    assert [group.keeps_eigenbasis for group in fisher.groups] == [True, False, False]
    many = fisher.diagonals([1e-4, 1e-3], Solver.SPECTRAL)
    assert relative(many[1], found[Solver.SPECTRAL]) <= 1e-12
    alone = EmpiricalFisher(fisher.rows, fisher.blocks)
    for kept, plain in zip(fisher.groups, alone.groups, strict=True):
        for one, other in zip(positive_eigenvalues(kept), positive_eigenvalues(plain), strict=True):
            assert len(one) == len(other)
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * other.max())


def test_unit_vectors_meet_their_own_block_alone(monkeypatch):
    """A product with vectors that are zero in most blocks is theirs, and leaves them as they were."""
    rows = wide_rows(20, 90, "plain").double()
    blocks = Blocks((Run(0, 1, 50), Run(50, 2, 20)))
    inverse = EmpiricalFisher(rows, blocks, keep_products=True).inverse(1e-2, Solver.SPECTRAL)
    asked, x = [], torch.eye(90).double()
    for factor in inverse._factors:
        real = factor.apply
        monkeypatch.setattr(factor, "apply", lambda given, real=real: (asked.append(given.shape[2]), real(given))[1])
    wanted = dense_inverse(rows, blocks, 1e-2)
    zeros = torch.zeros(90, 2).double()
    for some, columns in ((x, [50, 40]), (x[:, :3], [3]), (x[:, 45:55], [5, 5]), (x[:, 60:61], [1, 1]), (zeros, [])):
        before = some.clone()
        asked.clear()
        assert norm_error(inverse.apply(some), wanted @ some) <= 1e-10
        assert torch.equal(some, before)
        assert asked == columns


def test_what_is_kept_is_counted():
    fisher = EmpiricalFisher(wide_rows(COUNT, SIZE, "plain"), BLOCK, keep_products=True)
    [group], before = fisher.groups, fisher.kept_nbytes
    fisher.inverse(1e-2, Solver.SPECTRAL).diagonal()
    held = (group.rows, *group.eigenbasis, group.kept_gram, group.covariance())
    assert fisher.kept_nbytes == before >= sum(tensor.nbytes for tensor in held)


def test_rounding_that_has_won_is_noticed():
    """An inverse outside its exact bounds is refused, one damping at a time and many."""
    fisher = EmpiricalFisher(wide_rows(COUNT, SIZE, "plain"), BLOCK, keep_products=True)
    fisher.groups[0].eigenbasis.squares.mul_(4.0)
    with pytest.raises(NumericalError, match="outside its exact bounds"):
        fisher.inverse(1e-6, Solver.SPECTRAL).diagonal()
    with pytest.raises(NumericalError, match="outside its exact bounds"):
        fisher.diagonals([1.0, 1e-6], Solver.SPECTRAL)
