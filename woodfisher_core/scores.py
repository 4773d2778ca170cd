"""Pruning statistics: how much the loss is expected to grow when one weight is removed, in nats where it says so.

All take and return flat (d,) vectors; float64 out.
"""

import torch
from torch import Tensor


def magnitude(weights: Tensor) -> Tensor:
    """|w_j|: no loss behind it, the baseline everything is held against."""
    return weights.to(torch.float64).abs()


def diagonal_fisher(weights: Tensor, fisher_diagonal: Tensor) -> Tensor:
    """½ w_j² F_jj in nats: Optimal Brain Damage (LeCun et al. 1990) with the empirical Fisher's diagonal, no damping."""
    return 0.5 * weights.to(torch.float64).square() * fisher_diagonal


def obs(weights: Tensor, inverse_diagonal: Tensor) -> Tensor:
    """½ w_j² / [F⁻¹]_jj in nats: the Optimal Brain Surgeon statistic (Singh & Alistarh 2020, eq. 4)."""
    return 0.5 * weights.to(torch.float64).square() / inverse_diagonal
