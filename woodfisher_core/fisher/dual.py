"""Dual solver: the inverse of a block through the N×N Gram matrix (Woodbury taken at once; N < B).

F⁻¹ = (1/λ) [I − Gᵀ(NλI + K)⁻¹G],  K = GGᵀ,  L Lᵀ = NλI + K,  Z = L⁻¹G  ⇒  diag F⁻¹ = (1 − Σ_n Z_nj²)/λ.
"""

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import FACTOR_LIMIT, Group, check_condition, check_diagonal, cholesky


class Dual:
    """Holds the Gram matrices of a group; each damping costs one factorisation of size N."""

    def __init__(self, group: Group):
        self.group = group
        self.gram = group.gram()

    @property
    def nbytes(self) -> int:
        return self.gram.nbytes

    def at(self, damping: float) -> "DualFactor":
        traces = self.gram.diagonal(dim1=-2, dim2=-1).sum(-1)
        check_condition(traces / (self.group.num_rows * damping), FACTOR_LIMIT, self.group, damping)
        shifted = self.gram.clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_(self.group.num_rows * damping)
        return DualFactor(self.group, cholesky(shifted, self.group, damping), damping)


class DualFactor:
    """The inverse of a group's blocks at one damping."""

    def __init__(self, group: Group, factor: Tensor, damping: float):
        self.group, self.factor, self.damping = group, factor, damping

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (count, B)."""
        parts = []
        for _, part in self.group.chunks():
            curvature = part.square().mean(1)
            z = torch.linalg.solve_triangular(self.factor, part, upper=False)
            inverse = (1.0 - z.square_().sum(1)) / self.damping
            parts.append(check_diagonal(inverse, curvature, self.group, self.damping))
        return torch.cat(parts, dim=1)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (count, B, k)."""
        inner = torch.cholesky_solve(self.group.project(x), self.factor)
        return (x - self.group.lift(inner)) / self.damping
