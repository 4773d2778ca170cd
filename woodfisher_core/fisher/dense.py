"""A dense curvature matrix, such as the exact Hessian of a tiny network, behind the same interface as the Fisher."""

from collections.abc import Sequence

import torch
from torch import Tensor

from woodfisher_core.elimination import damped_inverse
from woodfisher_core.fisher.groups import COMPUTE
from woodfisher_core.options import Solver


class DenseInverse:
    """(H + λI)⁻¹ held as it is: ``matrix`` (d, d) float64."""

    def __init__(self, matrix: Tensor):
        self.matrix = matrix
        self.nbytes = matrix.nbytes

    def diagonal(self) -> Tensor:
        """Its diagonal, (d,)."""
        return self.matrix.diagonal().clone()

    def apply(self, x: Tensor) -> Tensor:
        """Its product with x of shape (d,) or (d, k)."""
        return self.matrix @ x.to(COMPUTE)


class DenseCurvature:
    """H (d, d) float64, symmetric; H + λI must be positive definite for whatever is asked of it.

    Raises (from every method that takes λ):
        NumericalError: H + λI is not positive definite; the message names a damping that works.
    """

    def __init__(self, matrix: Tensor):
        self.matrix = matrix
        self.nbytes = matrix.nbytes

    @property
    def diagonal(self) -> Tensor:
        """diag H, (d,)."""
        return self.matrix.diagonal().clone()

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> DenseInverse:
        """(H + λI)⁻¹; there is one way to solve it, whatever ``solver`` says."""
        return DenseInverse(damped_inverse(self.matrix, damping))

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d): δ = −H⁻¹_{:,P} ([H⁻¹]_PP)⁻¹ w_P (Kurtic et al. 2022, eq. 4)."""
        inverse = self.inverse(damping).matrix
        steps = torch.zeros(len(keeps), len(weights), dtype=COMPUTE, device=weights.device)
        for step, keep in zip(steps, keeps, strict=True):
            gone = (~keep).nonzero().squeeze(1)
            factor = torch.linalg.cholesky(inverse[gone][:, gone])
            multipliers = torch.cholesky_solve(weights[gone].to(COMPUTE).unsqueeze(1), factor)
            step.copy_(-(inverse[:, gone] @ multipliers).squeeze(1))
        return steps
