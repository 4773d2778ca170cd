"""The exact joint OBS step of many weights at once, within each block, at one or several sparsities.

With r = G_P w_P: δ_S = G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ r (dual, N < |S|) = (λI + G_Sᵀ G_S/N)⁻¹ G_Sᵀ r/N (primal). Masks that nest
share their work: survivors are taken from the sparsest mask upwards, so G_S G_Sᵀ of all of them together costs one Gram
matrix; where N ≥ B, F_SS is a submatrix of the block's one covariance.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import FACTOR_LIMIT, Group, check_condition, cholesky


def joint_steps(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """Steps of the survivors of every block, (count, B, k) float64, zero at the pruned weights; one column a mask.

    ``pruned`` (count, B, k) holds the weights to remove, zero elsewhere; ``keep`` (count, B, k) marks the survivors.
    """
    check_condition(group.traces() / damping, FACTOR_LIMIT, group, damping)
    if group.size <= group.num_rows:
        return _within_covariance(group, pruned, keep, damping)
    if group.rows.shape[0] > 1:
        return _by_masked_gram(group, pruned, keep, damping)
    return _by_growing_gram(group, pruned, keep[0], damping)


def _within_covariance(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N ≥ B: F_SS and F_SP w_P from GᵀG/N; pruned rows and columns are zeroed, which leaves λ there and a step of zero."""
    covariance = group.covariance() / group.num_rows
    pull = covariance @ pruned
    steps = torch.zeros_like(pruned)
    for level in range(pruned.shape[2]):
        one = slice(level, level + 1)
        stays = keep[:, :, one].to(covariance.dtype)
        survivors = covariance * stays * stays.mT
        survivors.diagonal(dim1=-2, dim2=-1).add_(damping)
        steps[:, :, one] = torch.cholesky_solve(pull[:, :, one] * stays, cholesky(survivors, group, damping))
    return steps


def _by_masked_gram(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N < B, many small blocks: one batched dual solve a mask, its pruned columns zeroed."""
    targets = group.project(pruned)
    steps = torch.empty_like(pruned)
    for level in range(pruned.shape[2]):
        one = slice(level, level + 1)
        masked = Group(group.rows * keep[:, :, one].mT, group.columns, group.first_block)
        steps[:, :, one] = masked.lift(_dual_solve(masked.gram(), targets[:, :, one], group, damping))
    return steps


def _by_growing_gram(block: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N < B, one large block: dual while more than N weights survive, else primal on the survivors alone."""
    targets = block.project(pruned)
    inner = torch.zeros_like(targets)
    steps = torch.zeros_like(pruned)
    wide = []
    for level, columns, gram in _levels(block, keep):
        target = targets[:, :, level : level + 1]
        if gram is not None:
            inner[:, :, level : level + 1] = _dual_solve(gram, target, block, damping)
            wide.append(level)
        elif len(columns):
            part = Group(block.rows[:, :, columns], columns, block.first_block)
            survivors = part.covariance() / part.num_rows
            survivors.diagonal(dim1=-2, dim2=-1).add_(damping)
            factor = cholesky(survivors, part, damping)
            steps[:, columns, level : level + 1] = torch.cholesky_solve(part.lift(target) / part.num_rows, factor)
    if wide:
        steps[:, :, wide] = block.lift(inner[:, :, wide]) * keep[:, wide]
    return steps


def _levels(block: Group, keep: Tensor) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """(level, survivors' columns, their Gram matrix or None where at most N survive), sparsest mask first."""
    gram, inside = None, None
    for level in keep.sum(0).argsort().tolist():
        stays = keep[:, level]
        columns = stays.nonzero().squeeze(1)
        if len(columns) <= block.num_rows:
            yield level, columns, None
            continue
        nested = gram is not None and not (inside & ~stays).any()
        new = (stays & ~inside).nonzero().squeeze(1) if nested else columns
        added = block if len(new) == block.size else Group(block.rows[:, :, new], new, block.first_block)
        gram = gram + added.gram() if nested else added.gram()
        inside = stays
        yield level, columns, gram


def _dual_solve(gram: Tensor, target: Tensor, group: Group, damping: float) -> Tensor:
    """(NλI + K)⁻¹ r."""
    shifted = gram.clone()
    shifted.diagonal(dim1=-2, dim2=-1).add_(group.num_rows * damping)
    return torch.cholesky_solve(target, cholesky(shifted, group, damping))
