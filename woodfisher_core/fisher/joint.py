"""The exact joint OBS step of many weights at once, within each block (design: "Several weights at once").

With r = G_P w_P: δ_S = G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ r (dual, N < |S|) = (λI + G_Sᵀ G_S/N)⁻¹ G_Sᵀ r/N (primal).
"""

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import COMPUTE, Group, cholesky


def joint_group_step(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """Steps of the survivors of every block, (count, B, 1) float64, zero at the pruned weights.

    ``pruned`` (count, B, 1) holds the weights to remove, zero elsewhere; ``keep`` (count, B, 1) marks the survivors.
    """
    target = group.project(pruned)
    out = torch.zeros_like(pruned)
    if group.rows.shape[0] == 1:
        kept = keep[0, :, 0].nonzero().squeeze(1)
        if len(kept) == 0:
            return out
        part = Group(group.rows[:, :, kept], kept, group.first_block)
        out[:, kept] = _survivor_step(part, target, damping)
        return out
    # Blocks of one batch keep different weights: zero the pruned columns instead of gathering; their step is then zero.
    masked = Group(group.rows * keep.mT, group.columns, group.first_block)
    return _survivor_step(masked, target, damping)


def _survivor_step(part: Group, target: Tensor, damping: float) -> Tensor:
    if part.num_rows < part.size:
        shifted = part.gram()
        shifted.diagonal(dim1=-2, dim2=-1).add_(part.num_rows * damping)
        return part.lift(torch.cholesky_solve(target, cholesky(shifted, part, damping)))
    shifted = part.covariance() / part.num_rows
    shifted.diagonal(dim1=-2, dim2=-1).add_(damping)
    return torch.cholesky_solve(part.lift(target) / part.num_rows, cholesky(shifted, part, damping)).to(COMPUTE)
