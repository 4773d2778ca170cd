"""The exact joint OBS step of many weights at once, within each block, at one or several sparsities.

With r = G_P w_P: δ_S = G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ r (dual, N < |S|) = (λI + G_Sᵀ G_S/N)⁻¹ G_Sᵀ r/N (primal). Masks that nest
share their work. Dual: survivors are taken from the sparsest mask upwards, so G_S G_Sᵀ of all of them together costs one Gram
matrix; or, where GGᵀ is kept and less is pruned than survives, what is pruned is taken away from it. Primal: with the weights
that stay longest first, every F_SS is a leading part of one matrix, and its Cholesky factor the leading part of one factor. A
mask that is alone in a large block shares nothing: its Gram matrix is made in float32 and the solution refined with float64
residuals, where that converges.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import (
    CHUNK_BYTES,
    COMPUTE,
    FACTOR_LIMIT,
    Group,
    check_condition,
    cholesky,
    picked_columns,
)
from woodfisher_core.fisher.precision import SINGLE, UNIT, refined, single_allowed

# Bytes of Gram matrices grown together in one pass over G.
HELD_BYTES = 1 << 28
# Bytes of survivors' columns copied together.
GATHERED_BYTES = 1 << 26
# Entries of G_S beyond which float32 with refinement is quicker than float64; a block with more never shares a group.
MOST_EXACT = CHUNK_BYTES // COMPUTE.itemsize // 2
# G_P w_P is Gw less G_S w_S where that does not cancel more digits than this.
CANCELLED = 1e-4
# Error of its solution: G in float32 is not known better than 6e-8.
ENOUGH = 1e-10
# G_S G_Sᵀ is GGᵀ less G_P G_Pᵀ while no sample's squared norm falls below this share: row by row, since a sample that nearly all
# went of has a small row and a large entry of r.
UNCANCELLED = 0.1


def joint_steps(group: Group, weights: Tensor, keep: Tensor, damping: float, projected: Callable[[], Tensor]) -> Tensor:
    """Steps of the survivors of every block, (count, B, k) float64, zero at the pruned weights; one column a mask.

    ``keep`` (count, B, k) marks the survivors among ``weights`` (count, B, 1); ``projected`` gives G w (count, N, 1).
    """
    check_condition(group.traces / damping, FACTOR_LIMIT, group, damping)
    pruned = torch.where(keep, 0.0, weights)
    if group.size <= group.num_rows:
        return _within_covariance(group, pruned, keep, damping)
    if group.rows.shape[0] > 1:
        return _by_masked_gram(group, pruned, keep, damping)
    if keep.shape[2] == 1:
        return _alone(group, weights, pruned, keep, damping, projected)
    return _by_growing_gram(group, group.project(pruned), keep[0], damping)


def _within_covariance(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N ≥ B: F_SS and F_SP w_P from GᵀG; the N's cancel."""
    covariance = group.covariance()
    return _leading_solves(covariance, covariance @ pruned, keep, group, damping)


def _leading_solves(covariance: Tensor, pull: Tensor, keep: Tensor, group: Group, damping: float) -> Tensor:
    """(NλI + C_SS)⁻¹ p_S of each mask, zero outside it: (count, n, k) from C (count, n, n) and p, ``keep`` (count, n, k)."""
    if not _nest(keep):
        masks = zip(pull.split(1, dim=2), keep.split(1, dim=2), strict=True)
        return torch.cat([_leading_solves(covariance, *mask, group, damping) for mask in masks], dim=2)
    # Those that stay longest first; those that never stay are left out, as far as the fullest block allows.
    order = keep.sum(2).argsort(dim=1, descending=True, stable=True)[:, : int(keep.any(2).sum(1).max())]
    across = order.unsqueeze(2)
    rows = covariance.gather(1, across.expand(-1, -1, covariance.shape[2]))
    ordered = rows.gather(2, order.unsqueeze(1).expand(-1, order.shape[1], -1))
    ordered.diagonal(dim1=-2, dim2=-1).add_(group.num_rows * damping)
    factor, wide = cholesky(ordered, group, damping), across.expand(-1, -1, pull.shape[2])
    # What lies behind a mask's own part does not reach it forwards, and does not backwards where it is zero.
    forwards = torch.linalg.solve_triangular(factor, pull.gather(1, wide), upper=False) * keep.gather(1, wide)
    return torch.zeros_like(pull).scatter_(1, wide, torch.linalg.solve_triangular(factor.mT, forwards, upper=True))


def _nest(keep: Tensor) -> bool:
    """Whether of any two masks of ``keep`` (count, n, k) one lies within the other."""
    rising = keep[:, :, keep.sum((0, 1)).argsort()]
    return not bool((rising[:, :, :-1] & ~rising[:, :, 1:]).any())


def _by_masked_gram(group: Group, pruned: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N < B, many small blocks: one batched dual solve a mask, its pruned columns zeroed."""
    targets = group.project(pruned)
    steps = torch.empty_like(pruned)
    for level in range(pruned.shape[2]):
        one = slice(level, level + 1)
        masked = Group(group.rows * keep[:, :, one].mT, group.columns, group.first_block)
        steps[:, :, one] = masked.lift(_dual_solve(masked.gram(), targets[:, :, one], group, damping))
    return steps


def _alone(
    block: Group, weights: Tensor, pruned: Tensor, keep: Tensor, damping: float, projected: Callable[[], Tensor]
) -> Tensor:
    """One mask in one large block, N < B."""
    columns = keep[0, :, 0].nonzero().squeeze(1)
    target = None
    if _suits_refinement(block, columns):
        part = Group(block.columns_at(columns), columns, block.first_block)
        if 2 * len(columns) < block.size:  # the survivors are the smaller part of G
            whole = projected()
            target = whole - part.project(weights[:, columns])
            if float(target.norm()) < CANCELLED * float(whole.norm()):
                target = None
        target = block.project(pruned) if target is None else target
        found = _refined(part, target, damping)
        if found is not None:
            return torch.zeros_like(weights).index_copy_(1, columns, found)
    return _by_growing_gram(block, block.project(pruned) if target is None else target, keep[0], damping)


def _by_growing_gram(block: Group, targets: Tensor, keep: Tensor, damping: float) -> Tensor:
    """N < B, one large block: dual while more than N weights survive, else primal on the survivors alone.

    ``targets`` r (1, N, k), ``keep`` (B, k).
    """
    ascending = keep.sum(0).argsort().tolist()
    few = [level for level in ascending if int(keep[:, level].sum()) <= block.num_rows]
    many = [level for level in ascending if level not in few]
    steps = torch.zeros(1, *keep.shape, dtype=targets.dtype, device=targets.device)
    for some in [few] if _nest(keep[None, :, few]) else [[level] for level in few]:
        columns = keep[:, some].any(1).nonzero().squeeze(1)
        if len(columns):
            part = Group(block.columns_at(columns), columns, block.first_block)
            pull, stays = part.lift(targets[:, :, some]), keep[columns][:, some].unsqueeze(0)
            kept = block.keeps_covariance
            covariance = block.covariance()[:, columns.unsqueeze(1), columns] if kept else part.covariance()
            inside = _leading_solves(covariance, pull, stays, part, damping)
            steps[:, columns.unsqueeze(1), torch.tensor(some, device=columns.device)] = inside
    if many:
        inner = torch.empty(1, block.num_rows, len(many), dtype=targets.dtype, device=targets.device)
        fewest, most = int(keep[:, many[0]].sum()), int(keep[:, many[-1]].sum())
        grams = _shrinking_grams if block.keeps_covariance and block.size - fewest < most else _growing_grams
        for level, gram in grams(block, keep, many):
            inner[:, :, many.index(level)] = _dual_solve(gram, targets[:, :, level : level + 1], block, damping)[..., 0]
        steps[:, :, many] = block.lift(inner) * keep[:, many]
    return steps


def _suits_refinement(block: Group, columns: Tensor) -> bool:
    """Whether G_S of these survivors is wider than high, large enough for float32 to be quicker, and fits beside G."""
    size = len(columns) * block.num_rows
    fits = MOST_EXACT < size <= HELD_BYTES // block.rows.dtype.itemsize
    return len(columns) > block.num_rows and fits and single_allowed(block)


def _refined(part: Group, target: Tensor, damping: float) -> Tensor | None:
    """G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ r (1, |S|, 1) from a float32 Gram matrix of ``part`` G_S; None where that does not suffice."""
    gram, shift = part.gram(SINGLE), part.num_rows * damping
    gram.diagonal(dim1=-2, dim2=-1).add_(shift)
    # The factor is in float32 too where λ outweighs what that rounds away; of order one, so that nothing overflows in it.
    scale = float(gram.diagonal(dim1=-2, dim2=-1).mean())
    precision = SINGLE if shift > 4 * UNIT * part.num_rows * scale else COMPUTE
    factor, info = torch.linalg.cholesky_ex(gram.div_(scale).to(precision))
    if info.any():  # of products in float32: float64 may still do
        return None
    solve = lambda right: torch.cholesky_solve((right / scale).to(precision), factor).to(COMPUTE)  # noqa: E731
    return refined(part, solve, target, shift, ENOUGH)


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


def _shrinking_grams(block: Group, keep: Tensor, levels: list[int]) -> Iterator[tuple[int, Tensor]]:
    """(level, G_S G_Sᵀ of its survivors), masks with more survivors first: the block's GGᵀ less what they leave out."""
    total = inside = None
    whole = block.kept_gram
    norms = whole.diagonal(dim1=-2, dim2=-1)
    for level in reversed(levels):
        stays = keep[:, level]
        nested = inside is not None and not bool((stays & ~inside).any())
        if not nested:
            total, norms = whole, whole.diagonal(dim1=-2, dim2=-1)
        gone = _gram_of(block.rows, ~stays & inside if nested else ~stays, block)
        total = torch.sub(total, gone, out=gone)  # its memory is not needed any more
        if (total.diagonal(dim1=-2, dim2=-1) < UNCANCELLED * norms).any():
            total = _gram_of(block.rows, stays, block)
            norms = total.diagonal(dim1=-2, dim2=-1)
        inside = stays
        yield level, total


def _gram_of(rows: Tensor, picked: Tensor, block: Group) -> Tensor:
    """Gram matrix (1, N, N) of the ``picked`` (c,) bool columns of ``rows`` (1, N, c)."""
    columns = picked.nonzero().squeeze(1)
    if len(columns) == rows.shape[2]:
        return Group(rows, columns, block.first_block).gram()
    width = max(1, GATHERED_BYTES // (rows.dtype.itemsize * block.num_rows))
    grams = (Group(picked_columns(rows, some), some, block.first_block).gram() for some in columns.split(width))
    total = next(grams)  # one of zeros where none is picked
    for gram in grams:
        total += gram
    return total


def _dual_solve(gram: Tensor, target: Tensor, group: Group, damping: float) -> Tensor:
    """(NλI + K)⁻¹ r; K, which is as large as its factor, is lent for that and comes back as it was."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    before = diagonal.clone()
    diagonal.add_(group.num_rows * damping)
    try:
        return torch.cholesky_solve(target, cholesky(gram, group, damping))
    finally:
        diagonal.copy_(before)
