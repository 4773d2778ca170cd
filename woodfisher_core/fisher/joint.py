"""The exact joint OBS step of many weights at once, within each block, at one or several sparsities.

With r = G_P w_P: δ_S = G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ r (dual, N < |S|) = (λI + G_Sᵀ G_S/N)⁻¹ G_Sᵀ r/N (primal). Masks that nest
share their work: survivors are taken from the sparsest mask upwards, so G_S G_Sᵀ of all of them together costs one Gram
matrix; where N ≥ B, F_SS is a submatrix of the block's one covariance.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import Group, cholesky


def joint_steps(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """Steps of the survivors of every block, (count, B, k) float64, zero at the pruned weights; one column a mask.

    ``pruned`` (count, B, k) holds the weights to remove, zero elsewhere; ``keep`` (count, B, k) marks the survivors.
    """
    if group.size <= group.num_rows:
        return _within_covariance(group, pruned, keep, damping)
    steps = torch.zeros_like(pruned)
    for index in range(group.rows.shape[0]):
        block = Group(group.rows[index : index + 1], group.columns, group.first_block + index)
        picked = slice(index, index + 1)
        steps[picked] = _by_growing_gram(block, pruned[picked], keep[index], damping)
    return steps


def _within_covariance(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N ≥ B: F_SS and F_SP w_P from GᵀG/N; pruned rows and columns are zeroed, which leaves λ there and a step of zero."""
    covariance = group.covariance() / group.num_rows
    pull = covariance @ pruned
    steps = torch.zeros_like(pruned)
    for level in range(pruned.shape[2]):
        stays = keep[:, :, level : level + 1].to(covariance.dtype)
        survivors = covariance * stays * stays.mT
        survivors.diagonal(dim1=-2, dim2=-1).add_(damping)
        solved = torch.cholesky_solve(pull[:, :, level : level + 1] * stays, cholesky(survivors, group, damping))
        steps[:, :, level : level + 1] = solved
    return steps


def _by_growing_gram(block: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N < B, one block: dual while more than N weights survive, else primal on the survivors alone."""
    targets = block.project(pruned)
    lifted = torch.zeros_like(targets)
    steps = torch.zeros_like(pruned)
    wide = []
    for level, columns, gram in _levels(block, keep):
        target = targets[:, :, level : level + 1]
        if gram is None:
            part = Group(block.rows[:, :, columns], columns, block.first_block)
            survivors = part.covariance() / part.num_rows
            survivors.diagonal(dim1=-2, dim2=-1).add_(damping)
            factor = cholesky(survivors, part, damping)
            steps[:, columns, level : level + 1] = torch.cholesky_solve(part.lift(target) / part.num_rows, factor)
        else:
            shifted = gram.clone()
            shifted.diagonal(dim1=-2, dim2=-1).add_(block.num_rows * damping)
            lifted[:, :, level : level + 1] = torch.cholesky_solve(target, cholesky(shifted, block, damping))
            wide.append(level)
    if wide:
        steps[:, :, wide] = block.lift(lifted[:, :, wide]) * keep[:, wide]
    return steps


def _levels(block: Group, keep: Tensor) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """(level, survivors' columns, their Gram matrix or None where at most N survive), sparsest mask first."""
    gram, inside = None, None
    for level in keep.sum(0).argsort().tolist():
        stays = keep[:, level]
        columns = stays.nonzero().squeeze(1)
        if len(columns) == 0:  # none survives, none moves
            continue
        if len(columns) <= block.num_rows:
            yield level, columns, None
            continue
        nested = gram is not None and not (inside & ~stays).any()
        new = (stays & ~inside).nonzero().squeeze(1) if nested else columns
        added = block if len(new) == block.size else Group(block.rows[:, :, new], new, block.first_block)
        gram = gram + added.gram() if nested else added.gram()
        inside = stays
        yield level, columns, gram
