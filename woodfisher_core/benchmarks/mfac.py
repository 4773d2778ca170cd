"""M-FAC's static algorithm, a baseline: the inverse Fisher unrolled into N vectors, O(N²d) by matrix-vector products.

Frantar, Kurtic & Alistarh 2021, sec. 3.1. With F_i = F_{i−1} + (1/N) g_i g_iᵀ, F_0 = λI and v_i = F_{i−1}⁻¹ g_i, the rank-one
Woodbury recursion of Singh & Alistarh (eq. 7) unrolls to

    v_i = g_i/λ − Σ_{j<i} v_j (v_jᵀ g_i)/q_j,   q_j = N + g_jᵀ v_j,   F_N⁻¹ x = x/λ − Σ_j v_j (v_jᵀ x)/q_j.

Like the dual form it never makes a B×B matrix; unlike it, every row waits for all the rows before it, so that V is read
from memory N times instead of once in a matrix product.
"""

import torch
from torch import Tensor


class UnrolledInverse:
    """F⁻¹ of one block from rows G (N, d), in the rows' dtype, with λ added and 1/N in front of the sum."""

    def __init__(self, rows: Tensor, damping: float):
        self.damping = damping
        self.vectors = torch.empty_like(rows)
        self.denominators = rows.new_empty(len(rows))
        for i, gradient in enumerate(rows):
            known = self.vectors[:i]
            shares = (known @ gradient) / self.denominators[:i]
            self.vectors[i] = gradient / damping - shares @ known
            self.denominators[i] = len(rows) + gradient @ self.vectors[i]

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (d,)."""
        return 1.0 / self.damping - self.denominators.reciprocal() @ self.vectors.square()

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (d,)."""
        return x / self.damping - ((self.vectors @ x) / self.denominators) @ self.vectors
