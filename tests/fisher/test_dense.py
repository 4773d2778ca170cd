"""A dense curvature matrix against ``torch.linalg.inv`` and the KKT system."""

import pytest
import torch
from cases import CASES, DAMPINGS
from oracle import dense_fisher, kkt_step, norm_error, relative
from torch import Tensor

from woodfisher_core.errors import NumericalError
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.fisher.dense import DenseCurvature

WHOLE = [case for case in CASES if case.block == "network"]
each_case = pytest.mark.parametrize("case", WHOLE, ids=str)


def random_symmetric(size: int, lowest: float) -> Tensor:
    """A symmetric matrix with eigenvalues from ``lowest`` to 3."""
    generator = torch.Generator().manual_seed(size)
    turned, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    matrix = turned @ torch.diag(torch.linspace(lowest, 3.0, size, dtype=torch.float64)) @ turned.T
    return 0.5 * (matrix + matrix.T)


def one(size: int) -> Blocks:
    return Blocks((Run(0, 1, size),))


@pytest.mark.parametrize("damping", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("size", [1, 2, 17, 60])
def test_inverse_and_products(size, damping):
    """(H + λI)⁻¹, its diagonal and its product with one or several vectors; H itself is never changed."""
    matrix = random_symmetric(size, 0.01)
    before, curvature = matrix.clone(), DenseCurvature(matrix)
    wanted = torch.linalg.inv(matrix + damping * torch.eye(size, dtype=torch.float64))
    inverse = curvature.inverse(damping)
    x = torch.randn(size, 3, generator=torch.Generator().manual_seed(1))  # float32
    assert torch.equal(curvature.diagonal, matrix.diagonal())
    assert relative(inverse.diagonal(), wanted.diagonal()) <= 1e-10
    assert norm_error(inverse.apply(x), wanted @ x.double()) <= 1e-10
    assert norm_error(inverse.apply(x[:, 0]), wanted @ x[:, 0].double()) <= 1e-10
    inverse.diagonal().zero_()
    curvature.diagonal.zero_()
    assert torch.equal(matrix, before)
    assert relative(inverse.diagonal(), wanted.diagonal()) <= 1e-10
    assert curvature.nbytes == inverse.nbytes == 8 * size * size


@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.6, 1.0])
def test_joint_steps_are_the_constrained_minimum(damping, sparsity):
    """δ_P = −w_P and the survivors at the minimum of ½δᵀ(H + λI)δ, for several masks at once, also of nothing and of all."""
    matrix, generator = random_symmetric(40, 0.05), torch.Generator().manual_seed(2)
    weights = torch.randn(40, generator=generator)
    keeps = [torch.rand(40, generator=generator) >= sparsity for _ in range(3)]
    steps = DenseCurvature(matrix).joint_steps(weights, keeps, damping)
    dense = matrix + damping * torch.eye(40, dtype=torch.float64)
    assert steps.dtype is torch.float64
    for step, keep in zip(steps, keeps, strict=True):
        wanted = kkt_step(dense, one(40), weights, keep)
        assert torch.linalg.norm(step - wanted) <= 1e-9 * torch.linalg.norm(weights.double())
        assert torch.allclose(step[~keep], -weights[~keep].double(), rtol=1e-9)


@each_case
@pytest.mark.parametrize("damping", [value for value in DAMPINGS if value >= 1e-3])
def test_the_same_matrix_as_a_fisher(case, damping):
    """Given (1/N) GᵀG it is the empirical Fisher of one block: same diagonal, same products, same joint steps."""
    rows, weights, keep = case.rows(), case.weights(), case.keep(0.6)
    exact = rows.double()
    dense, fisher = DenseCurvature(exact.T @ exact / len(exact)), EmpiricalFisher(rows, case.blocks)
    assert torch.allclose(dense.diagonal, fisher.diagonal, rtol=1e-9, atol=0)
    assert relative(dense.inverse(damping).diagonal(), fisher.inverse(damping).diagonal()) <= 1e-6
    x = torch.randn(len(weights), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert norm_error(dense.inverse(damping).apply(x), fisher.inverse(damping).apply(x)) <= 1e-6
    step = dense.joint_steps(weights, [keep], damping)[0]
    wanted = kkt_step(dense_fisher(rows, case.blocks, damping), case.blocks, weights, keep)
    assert torch.linalg.norm(step - wanted) <= 1e-6 * torch.linalg.norm(weights.double())


def test_not_positive_definite():
    """Refused with the smallest eigenvalue and a damping that works, which does work."""
    curvature = DenseCurvature(random_symmetric(20, -0.5))
    weights, keep = torch.ones(20), torch.arange(20) < 10
    for ask in (
        lambda damping: curvature.inverse(damping),
        lambda damping: curvature.joint_steps(weights, [keep], damping),
    ):
        with pytest.raises(
            NumericalError, match=r"not positive definite.* -0\.5\. Use a damping of at least"
        ) as caught:
            ask(0.4)
        enough = float(str(caught.value).rstrip(".").rsplit(" ", 1)[1])
        assert 0.5 < enough < 1.0
        ask(enough)
