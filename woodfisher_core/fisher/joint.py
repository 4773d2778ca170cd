"""The exact joint OBS step of many weights at once, within each block, at one or several sparsities.

With r = G_P w_P: δ_S = G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ r (dual, N < |S|) = (λI + G_Sᵀ G_S/N)⁻¹ G_Sᵀ r/N (primal). Masks that nest
share their work: survivors are taken from the sparsest mask upwards, so G_S G_Sᵀ of all of them together costs one Gram
matrix; where N ≥ B, F_SS is a submatrix of the block's one covariance.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import COMPUTE, FACTOR_LIMIT, Group, check_condition, cholesky

# Bytes of Gram matrices grown together in one pass over G.
HELD_BYTES = 1 << 28
# Bytes of survivors' columns copied together.
GATHERED_BYTES = 1 << 26


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
    ascending = keep.sum(0).argsort().tolist()
    few = [level for level in ascending if int(keep[:, level].sum()) <= block.num_rows]
    many = [level for level in ascending if level not in few]
    steps = torch.zeros_like(pruned)
    for level in few:
        columns = keep[:, level].nonzero().squeeze(1)
        if len(columns):
            part = Group(block.columns_at(columns), columns, block.first_block)
            survivors = part.covariance() / part.num_rows
            survivors.diagonal(dim1=-2, dim2=-1).add_(damping)
            factor = cholesky(survivors, part, damping)
            target = targets[:, :, level : level + 1]
            steps[:, columns, level : level + 1] = torch.cholesky_solve(part.lift(target) / part.num_rows, factor)
    if many:
        inner = torch.empty(1, block.num_rows, len(many), dtype=targets.dtype, device=targets.device)
        for place, (level, gram) in enumerate(_growing_grams(block, keep, many)):
            inner[:, :, place : place + 1] = _dual_solve(gram, targets[:, :, level : level + 1], block, damping)
        steps[:, :, many] = block.lift(inner) * keep[:, many]
    return steps


def _growing_grams(block: Group, keep: Tensor, levels: list[int]) -> Iterator[tuple[int, Tensor]]:
    """(level, G_S G_Sᵀ of its survivors), masks with fewer survivors first; G is read once for as many as fit."""
    together = max(1, HELD_BYTES // (8 * block.num_rows**2))
    total = inside = None
    for first in range(0, len(levels), together):
        some = levels[first : first + together]
        added, starts = [], []
        for level in some:
            stays = keep[:, level]
            nested = inside is not None and not bool((inside & ~stays).any())
            added.append(stays & ~inside if nested else stays)
            starts.append(not nested)
            inside = stays
        grown = [torch.zeros(1, block.num_rows, block.num_rows, dtype=COMPUTE, device=keep.device) for _ in some]
        for start, rows in block.parts():
            for own, new in zip(grown, added, strict=True):
                own += _gram_of(rows, new[start : start + rows.shape[2]], block)
        for level, own, fresh in zip(some, grown, starts, strict=True):
            total = own if fresh else own.add_(total)
            yield level, total


def _gram_of(rows: Tensor, picked: Tensor, block: Group) -> Tensor:
    """Gram matrix (1, N, N) of the ``picked`` (c,) bool columns of ``rows`` (1, N, c)."""
    columns = picked.nonzero().squeeze(1)
    if len(columns) == rows.shape[2]:
        return Group(rows, columns, block.first_block).gram()
    width = max(1, GATHERED_BYTES // (rows.dtype.itemsize * block.num_rows))
    total = torch.zeros(1, block.num_rows, block.num_rows, dtype=COMPUTE, device=rows.device)
    for some in columns.split(width):
        total += Group(rows.index_select(2, some), some, block.first_block).gram()
    return total


def _dual_solve(gram: Tensor, target: Tensor, group: Group, damping: float) -> Tensor:
    """(NλI + K)⁻¹ r."""
    shifted = gram.clone()
    shifted.diagonal(dim1=-2, dim2=-1).add_(group.num_rows * damping)
    return torch.cholesky_solve(target, cholesky(shifted, group, damping))
