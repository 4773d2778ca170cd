"""Primal solver: the B×B block F = λI + (1/N) GᵀG factored as it stands (N ≥ B, where the dual form would cancel)."""

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import FACTOR_LIMIT, Group, check_condition, check_diagonal, cholesky


class Primal:
    """Holds GᵀG of a group; each damping costs one factorisation of size B."""

    def __init__(self, group: Group):
        self.group = group
        self.covariance = group.covariance() / group.num_rows

    @property
    def nbytes(self) -> int:
        return self.covariance.nbytes

    def at(self, damping: float) -> "PrimalFactor":
        traces = self.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        check_condition(traces / damping, FACTOR_LIMIT, self.group, damping)
        shifted = self.covariance.clone()
        shifted.diagonal(dim1=-2, dim2=-1).add_(damping)
        return PrimalFactor(self.group, cholesky(shifted, self.group, damping), self.covariance, damping)


class PrimalFactor:
    """The inverse of a group's blocks at one damping."""

    def __init__(self, group: Group, factor: Tensor, covariance: Tensor, damping: float):
        self.group, self.factor, self.damping = group, factor, damping
        self.curvature = covariance.diagonal(dim1=-2, dim2=-1)

    @property
    def nbytes(self) -> int:
        return self.factor.nbytes

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (count, B)."""
        inverse = torch.cholesky_inverse(self.factor).diagonal(dim1=-2, dim2=-1)
        return check_diagonal(inverse, self.curvature, self.group, self.damping)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (count, B, k)."""
        return torch.cholesky_solve(x, self.factor)
