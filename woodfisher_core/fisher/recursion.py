"""The paper's recursion, literally: N rank-one updates of a dense B×B matrix (Singh & Alistarh 2020, eq. 7).

Kept as the reference the closed form is compared with (benchmarks, the first notebook, tests); nothing prunes with it.
"""

import torch
from torch import Tensor


def recursive_inverse(rows: Tensor, damping: float) -> Tensor:
    """(B, B) inverse of λI + (1/N) GᵀG from rows G (N, B), in the rows' dtype: O(N·B²), memory-bound."""
    num_rows, size = rows.shape
    inverse = torch.eye(size, dtype=rows.dtype, device=rows.device) / damping
    for gradient in rows:
        product = inverse @ gradient
        # F⁻¹ ← F⁻¹ − (F⁻¹g)(F⁻¹g)ᵀ / (N + gᵀF⁻¹g)
        inverse.addr_(product, product, alpha=-1.0 / float(num_rows + gradient @ product))
    return inverse
