"""Many systems at once, each on rows and columns of its own out of one matrix: gathered, padded, solved in batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from woodfisher_core.errors import NumericalError

# Bytes of float64 systems solved together.
BATCH_BYTES = 1 << 26
# How far apart the sizes of systems solved together may lie: the smaller are padded to the largest.
SPREAD, SLACK = 1.25, 8


def batches(sizes: Tensor) -> Iterator[Tensor]:
    """Numbers of the systems that are solved together, from the smallest up; ``sizes`` (s,) are those of all, 0 for none."""
    order = sizes.argsort()
    ascending = sizes[order].tolist()
    start = sum(size == 0 for size in ascending)
    while start < len(ascending):
        widest = SPREAD * ascending[start] + SLACK
        stop = start + 1
        while (
            stop < len(ascending)
            and ascending[stop] <= widest
            and 8 * (stop + 1 - start) * ascending[stop] ** 2 <= BATCH_BYTES
        ):
            stop += 1
        yield order[start:stop]
        start = stop


def packed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (s, m) of what is ``chosen`` (s, n) in each row, m the most of any, and (s, m) bool: which of them are.

    The padding's positions are others of the same row, so that they may be written to as long as nothing is added there.
    """
    most = int(chosen.sum(1).max())
    index = chosen.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, chosen.gather(1, index)


def gathered(matrices: Tensor, group: Tensor, index: Tensor) -> Tensor:
    """Systems (s, m, m): rows and columns ``index`` (s, m) of that of ``matrices`` (groups, n, n) which ``group`` (s,) names."""
    return matrices[group.view(-1, 1, 1), index.unsqueeze(2), index.unsqueeze(1)]


def solve(matrices: Tensor, valid: Tensor, right: Tensor, refusal: NumericalError) -> Tensor:
    """x (s, m) of M x = r on the ``valid`` rows and columns of M (s, m, m), positive definite there; zero elsewhere.

    Raises:
        NumericalError: ``refusal``, where a system is not positive definite.
    """
    inside = valid.unsqueeze(2) & valid.unsqueeze(1)
    systems = torch.where(inside, matrices, 0.0)
    systems.diagonal(dim1=1, dim2=2).add_((~valid).to(systems.dtype))
    factors, info = torch.linalg.cholesky_ex(systems)
    if info.any() or not torch.isfinite(factors.diagonal(dim1=1, dim2=2)).all():
        raise refusal
    return torch.cholesky_solve(torch.where(valid, right, 0.0).unsqueeze(2), factors).squeeze(2)
