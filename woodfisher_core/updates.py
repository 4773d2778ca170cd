"""What the survivors do when others go: nothing, the paper's independent corrections, or the exact joint step.

Each takes the weights (d,) and yields new ones (d,), in the weights' dtype with exact zeros where pruned.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from woodfisher_core.curvature import Curvature, InverseCurvature

# Bytes of float64 right-hand sides solved together.
BATCH_BYTES = 1 << 27


def none(weights: Tensor, keep: Tensor) -> Tensor:
    """Survivors as they were."""
    return torch.where(keep, weights, torch.zeros_like(weights))


def independent(
    weights: Tensor, keeps: Sequence[Tensor], inverse: InverseCurvature, inverse_diagonal: Tensor, scale: float
) -> Iterator[Tensor]:
    """Sum of the single-weight OBS corrections, times ``scale`` (Singh & Alistarh 2020, eq. 4, as the official code).

    δ = s · F⁻¹u with u_q = −w_q/[F⁻¹]_qq on the pruned set, zero elsewhere; pruned weights then are set to zero. The
    corrections ignore one another, so at high sparsity they add up to too much. Several masks share one pass over F⁻¹.
    """
    exact = weights.to(torch.float64)
    alone = -exact / inverse_diagonal
    for some in _batches(keeps, len(weights)):
        keep = torch.stack(list(some), dim=1)
        step = scale * inverse.apply(torch.where(keep, 0.0, alone.unsqueeze(1)))
        moved = torch.where(keep, exact.unsqueeze(1) + step, 0.0).to(weights.dtype)
        yield from (column.contiguous() for column in moved.unbind(1))


def joint(weights: Tensor, keeps: Sequence[Tensor], curvature: Curvature, damping: float) -> Iterator[Tensor]:
    """The minimiser of ½δᵀ(H + λI)δ with all pruned weights at zero at once, within each block of H."""
    exact = weights.to(torch.float64)
    for some in _batches(keeps, len(weights)):
        for keep, step in zip(some, curvature.joint_steps(weights, some, damping), strict=True):
            yield torch.where(keep, exact + step, 0.0).to(weights.dtype)


def _batches(keeps: Sequence[Tensor], dim: int) -> Iterator[Sequence[Tensor]]:
    """As many masks together as their right-hand sides have room for."""
    together = max(1, BATCH_BYTES // (8 * dim))
    for start in range(0, len(keeps), together):
        yield keeps[start : start + together]
