"""Dual solver: the inverse of a block through the N×N Gram matrix (Woodbury taken at once; N < B).

F⁻¹ = (1/λ) [I − Gᵀ(NλI + K)⁻¹G],  K = GGᵀ,  L Lᵀ = NλI + K,  Z = L⁻¹G  ⇒  diag F⁻¹ = (1 − Σ_n Z_nj²)/λ.

K and its factor are float64. Z is multiplied out in float32 where a bound on the rounding allows it, weight by weight, and
in float64 elsewhere: ‖δz_j‖ ≲ ε·‖L⁻¹‖·‖g_j‖ ≤ ε·√(F_jj/λ), held against the 1 − Σ_n Z_nj² it enters.
"""

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import (
    CHUNK_BYTES,
    COMPUTE,
    FACTOR_LIMIT,
    Group,
    check_condition,
    check_diagonal,
    cholesky,
)

# Relative error allowed to float32 in diag F⁻¹, and a safety factor (about 4) over the rounding bound above.
SINGLE_TOLERANCE = 5e-5
SINGLE_ROUNDING = 4 * torch.finfo(torch.float32).eps
# Rows of the triangular L⁻¹ multiplied at a time: of each tile only what lies on or left of the diagonal.
TILE = 256


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

    @property
    def nbytes(self) -> int:
        return self.factor.nbytes

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (count, B)."""
        identity = torch.eye(self.group.num_rows, dtype=COMPUTE, device=self.factor.device)
        inverse = torch.linalg.solve_triangular(self.factor, identity.expand_as(self.factor), upper=False)
        single = inverse.to(torch.float32)
        count, num_rows, size = self.group.rows.shape
        width = max(1, CHUNK_BYTES // (4 * count * num_rows))
        parts = []
        for start in range(0, size, width):
            part = self.group.rows[:, :, start : start + width]
            curvature = part.square().mean(1).to(COMPUTE)
            rest = self._unexplained(part, curvature, inverse, single)
            parts.append(check_diagonal(rest / self.damping, curvature, self.group, self.damping))
        return torch.cat(parts, dim=1)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (count, B, k)."""
        inner = torch.cholesky_solve(self.group.project(x), self.factor)
        return (x - self.group.lift(inner)) / self.damping

    def _unexplained(self, part: Tensor, curvature: Tensor, inverse: Tensor, single: Tensor) -> Tensor:
        """1 − Σ_n Z_nj² of the columns ``part`` (count, N, c), (count, c) float64."""
        if part.dtype is not torch.float32:
            return 1.0 - _leverage(inverse, part.to(COMPUTE))
        rounding = SINGLE_ROUNDING * (1.0 + (curvature / self.damping).sqrt())
        if (rounding > SINGLE_TOLERANCE).all():
            return 1.0 - _leverage(inverse, part.to(COMPUTE))
        rest = 1.0 - _leverage(single, part)
        again = (rounding > SINGLE_TOLERANCE * rest).any(0).nonzero().squeeze(1)
        if len(again):
            rest[:, again] = 1.0 - _leverage(inverse, part[:, :, again].to(COMPUTE))
        return rest


def _leverage(inverse: Tensor, part: Tensor) -> Tensor:
    """Σ_n (L⁻¹G)_nj², (count, c) float64, from L⁻¹ (count, N, N) and columns (count, N, c) of one dtype."""
    total = part.new_zeros(part.shape[0], part.shape[2], dtype=COMPUTE)
    for start in range(0, part.shape[1], TILE):
        stop = start + TILE
        total += (inverse[:, start:stop, :stop] @ part[:, :stop]).square_().sum(1)
    return total
