"""Pruning statistics: how much the loss is expected to grow when one weight is removed, in nats where it says so.

All take and return flat (d,) vectors; float64 out.
"""

import torch
from torch import Tensor

from woodfisher_core.parameters import PrunableParameters


def magnitude(weights: Tensor) -> Tensor:
    """|w_j|: no loss behind it, the baseline everything is held against."""
    return weights.to(torch.float64).abs()


def diagonal(weights: Tensor, curvature: Tensor) -> Tensor:
    """½ w_j² H_jj in nats: Optimal Brain Damage (LeCun et al. 1990, eq. 6) with the ``curvature`` (d,) of any H, no damping."""
    return 0.5 * weights.to(torch.float64).square() * curvature


def obs(weights: Tensor, inverse_diagonal: Tensor) -> Tensor:
    """½ w_j² / [F⁻¹]_jj in nats: the Optimal Brain Surgeon statistic (Singh & Alistarh 2020, eq. 4)."""
    return 0.5 * weights.to(torch.float64).square() / inverse_diagonal


def first_order(weights: Tensor, gradient: Tensor) -> Tensor:
    """|w_j g_j| in nats: the loss change at first order, whatever its sign; ``gradient`` (d,) is a mean or mean absolute one."""
    return (weights.to(torch.float64) * gradient).abs()


def lamp(weights: Tensor, parameters: PrunableParameters) -> Tensor:
    """w_j² over the sum of the squares not below it in its layer (Lee et al. 2021, eq. 3); equals share in index order."""
    squares = weights.to(torch.float64).square()
    out = torch.zeros_like(squares)
    for layer in parameters.layers:
        own = squares[layer.slice]
        order = own.argsort(descending=True, stable=True)
        ranked = own[order]
        larger = ranked.cumsum(0)
        out[layer.offset + order] = torch.where(
            ranked > 0, ranked / larger.clamp_min(torch.finfo(torch.float64).tiny), 0.0
        )
    return out
