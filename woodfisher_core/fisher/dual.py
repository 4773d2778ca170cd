"""Dual solver: the inverse of a block through the N×N Gram matrix (Woodbury taken at once; N < B).

F⁻¹ = (1/λ) [I − Gᵀ(NλI + K)⁻¹G],  K = GGᵀ,  L Lᵀ = NλI + K,  Z = L⁻¹G  ⇒  diag F⁻¹ = (1 − Σ_n Z_nj²)/λ.

Factors are float64. K and Z are multiplied out in float32 where the bound of ``precision`` allows it, else in float64: K as a
whole, Z weight by weight; a product F⁻¹x is refined to float64 whatever K came from. Which it is depends on the block's rows and
λ alone, never on what was asked before.
"""

import torch
from torch import Tensor

from woodfisher_core.errors import NumericalError
from woodfisher_core.fisher.groups import (
    COMPUTE,
    FACTOR_LIMIT,
    TILE,
    Group,
    check_condition,
    check_diagonal,
    cholesky,
)
from woodfisher_core.fisher.precision import SINGLE, TOLERANCE, SingleBound, refined, single_helps


class Dual:
    """Holds the Gram matrices of a group; each damping costs one factorisation of size N."""

    def __init__(self, group: Group):
        self.group = group
        self.precisions = (SINGLE, COMPUTE) if single_helps(group) else (COMPUTE,)
        self._grams: dict[torch.dtype, Tensor] = {}
        self.gram(self.precisions[0])

    @property
    def nbytes(self) -> int:
        return sum(gram.nbytes for gram in self._grams.values())

    def gram(self, precision: torch.dtype) -> Tensor:
        """K (count, N, N) float64, from products in ``precision``."""
        if precision not in self._grams:
            self._grams[precision] = self.group.gram(precision)
        return self._grams[precision]

    def at(self, damping: float) -> "DualFactor":
        traces = self.gram(self.precisions[0]).diagonal(dim1=-2, dim2=-1).sum(-1)
        check_condition(traces / (self.group.num_rows * damping), FACTOR_LIMIT, self.group, damping)
        return DualFactor(self, damping)


class DualFactor:
    """The inverse of a group's blocks at one damping."""

    def __init__(self, dual: Dual, damping: float):
        self.dual, self.group, self.damping = dual, dual.group, damping
        self._factors: dict[torch.dtype, Tensor] = {}

    @property
    def nbytes(self) -> int:
        count, num_rows, size = self.group.rows.shape
        return 8 * count * (len(self.dual.precisions) * num_rows**2 + size)

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (count, B)."""
        for precision in self.dual.precisions:
            try:
                found = self._diagonal(self._factor(precision), self.dual.gram(precision), precision)
            except NumericalError:
                if precision is COMPUTE:
                    raise
                continue
            if found is not None:
                return found
        raise AssertionError("float64 is always accepted or raises")

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (count, B, k)."""
        target = self.group.project(x)
        lifted = None
        if self.dual.precisions[0] is SINGLE:
            try:
                factor = self._factor(SINGLE)
            except NumericalError:
                pass
            else:
                shift = self.group.num_rows * self.damping
                lifted = refined(self.group, lambda right: torch.cholesky_solve(right, factor), target, shift)
        if lifted is None:
            lifted = self.group.lift(torch.cholesky_solve(target, self._factor(COMPUTE)))
        return (x - lifted) / self.damping

    def _factor(self, precision: torch.dtype) -> Tensor:
        """L of L Lᵀ = NλI + K."""
        if precision not in self._factors:
            shifted = self.dual.gram(precision).clone()
            shifted.diagonal(dim1=-2, dim2=-1).add_(self.group.num_rows * self.damping)
            self._factors[precision] = cholesky(shifted, self.group, self.damping)
        return self._factors[precision]

    def _diagonal(self, factor: Tensor, gram: Tensor, precision: torch.dtype) -> Tensor | None:
        """diag F⁻¹ (count, B), or None where a Gram matrix of this precision is not good enough for it."""
        identity = torch.eye(self.group.num_rows, dtype=COMPUTE, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        bound = single = None
        if SINGLE in self.dual.precisions:
            bound = SingleBound(inverse * gram.diagonal(dim1=-2, dim2=-1).sqrt().unsqueeze(1))
            single = inverse.to(SINGLE)
        parts = []
        for _, part in self.group.chunks(COMPUTE if single is None else SINGLE):
            if single is None:
                parts.append(self._exact(inverse, part))
                continue
            leverage = _leverage(single, part)
            allowed = TOLERANCE
            if precision is SINGLE:
                lost = bound.gram(leverage)
                if (lost > TOLERANCE).any():
                    return None
                allowed = TOLERANCE - lost
            again = (bound.product(leverage) > allowed).any(0).nonzero().squeeze(1)
            diagonal = (1.0 - leverage) / self.damping
            if len(again):
                diagonal[:, again] = self._exact(inverse, part[:, :, again].to(COMPUTE))
            parts.append(check_diagonal(diagonal, None, self.group, self.damping))
        return torch.cat(parts, dim=1)

    def _exact(self, inverse: Tensor, part: Tensor) -> Tensor:
        """diag F⁻¹ of the float64 columns ``part`` (count, N, c), held against its exact bounds."""
        curvature = torch.linalg.vecdot(part, part, dim=1) / self.group.num_rows
        diagonal = (1.0 - _leverage(inverse, part)) / self.damping
        return check_diagonal(diagonal, curvature, self.group, self.damping)


def _leverage(inverse: Tensor, part: Tensor) -> Tensor:
    """Σ_n (L⁻¹G)_nj², (count, c) float64, from L⁻¹ (count, N, N) and columns (count, N, c) of one dtype."""
    count, num_rows, width = part.shape
    total = part.new_zeros(count, width, dtype=COMPUTE)
    # One piece of memory for all tiles: a fresh one each would cost as much as the sum.
    buffer = part.new_empty(count, TILE, width)
    for start in range(0, num_rows, TILE):
        stop = min(start + TILE, num_rows)
        tile = buffer[:, : stop - start].baddbmm_(inverse[:, start:stop, :stop], part[:, :stop], beta=0)
        total += torch.linalg.vecdot(tile, tile, dim=1)
    return total
