"""Blocks of equal size handled together, so that many small blocks are one batched product.

A group's rows are the float32 gradients as they were stored; mathematics on them is float64, a chunk of columns at a time
(no float64 copy of G ever exists as a whole).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.errors import NumericalError
from woodfisher_core.fisher.blocks import Blocks

COMPUTE = torch.float64
# Bytes of one float64 chunk of gradients, and of the float64 blocks factored in one batched call: small enough to stay in
# cache and in the allocator's reach (64 MB chunks took a fifth longer), but never fewer columns than make a good product.
CHUNK_BYTES = 1 << 24
CHUNK_COLUMNS = 512
# Rows of K multiplied out at a time, at least; of a tile's row only what lies on or left of the diagonal.
GRAM_TILE = 256
# Relative slack in the bounds 1/F_jj ≤ [F⁻¹]_jj ≤ 1/λ before a result counts as numerically wrong.
BOUND_SLACK = 1e-3
# Largest trace(F)/λ, a bound on the condition number of F, up to which the solvers keep diag F⁻¹ to 1e-4 in float64
# (measured over random spectra: 6e-5 at 1e12 for the factorisations, 2e-5 at 1e10 and 1.2e-4 at 1e11 for the spectrum).
FACTOR_LIMIT = 1e12
SPECTRUM_LIMIT = 5e10


@dataclass(frozen=True)
class Group:
    """``count`` blocks of equal size B with N gradient rows each.

    ``rows`` is (count, N, B); ``columns`` says where its count·B columns lie in the flat vector (a slice or indices);
    ``first_block`` numbers the first of them, for messages.
    """

    rows: Tensor
    columns: slice | Tensor
    first_block: int

    @property
    def num_rows(self) -> int:
        """N."""
        return self.rows.shape[1]

    @property
    def size(self) -> int:
        """B."""
        return self.rows.shape[2]

    def take(self, x: Tensor) -> Tensor:
        """(count, B, k) from the flat (d, k)."""
        return x[self.columns].view(self.rows.shape[0], self.size, -1)

    def put(self, out: Tensor, values: Tensor) -> None:
        """Writes (count, B, k) into the flat (d, k)."""
        out[self.columns] = values.reshape(-1, out.shape[1])

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """(columns, rows of these columns in float64 (count, N, c)), chunk by chunk."""
        width = max(CHUNK_COLUMNS, CHUNK_BYTES // (8 * self.rows.shape[0] * self.num_rows))
        for start in range(0, self.size, width):
            picked = slice(start, start + width)
            yield picked, self.rows[:, :, picked].to(COMPUTE)

    def traces(self) -> Tensor:
        """trace (1/N) GᵀG of each block, (count,) float64."""
        return sum(part.square().sum((1, 2)) for _, part in self.chunks()) / self.num_rows

    def gram(self) -> Tensor:
        """K = G Gᵀ of each block, (count, N, N) float64; its upper tiles are copies of the lower ones."""
        total = self.rows.new_zeros(self.rows.shape[0], self.num_rows, self.num_rows, dtype=COMPUTE)
        step = max(GRAM_TILE, -(-self.num_rows // 8))
        tiles = [slice(start, start + step) for start in range(0, self.num_rows, step)]
        for _, part in self.chunks():
            for tile in tiles:
                total[:, tile, : tile.stop].baddbmm_(part[:, tile], part[:, : tile.stop].mT)
        for tile in tiles:
            total[:, : tile.start, tile] = total[:, tile, : tile.start].mT
        return total

    def covariance(self) -> Tensor:
        """GᵀG of each block, (count, B, B) float64."""
        rows = self.rows.to(COMPUTE)
        return rows.mT @ rows

    def project(self, x: Tensor) -> Tensor:
        """G x of each block: (count, N, k) from (count, B, k) float64."""
        total = x.new_zeros(x.shape[0], self.num_rows, x.shape[2])
        for picked, part in self.chunks():
            total.baddbmm_(part, x[:, picked])
        return total

    def lift(self, y: Tensor) -> Tensor:
        """Gᵀ y of each block: (count, B, k) from (count, N, k) float64."""
        return torch.cat([part.mT @ y for _, part in self.chunks()], dim=1)


def groups_of(rows: Tensor, blocks: Blocks, active: Tensor) -> list[Group]:
    """Cuts G (N, d) into groups. Columns outside every group carry no gradient at all: there F is exactly λI.

    A block with more weights than samples, but fewer *active* weights (``active`` (d,) bool: some gradient is not zero)
    than samples, is reduced to its active columns, which moves it to the primal side where nothing cancels.
    """
    num_rows = rows.shape[0]
    groups, first = [], 0
    for run in blocks.runs:
        counts = active[run.slice].view(run.count, run.size).sum(1)
        shrunk = ((counts < num_rows) & (run.size > num_rows)).tolist()
        batch = max(1, CHUNK_BYTES // (8 * run.size * max(num_rows, min(run.size, num_rows))))
        index = 0
        while index < run.count:
            start = run.offset + index * run.size
            if shrunk[index]:
                columns = start + active[start : start + run.size].nonzero().squeeze(1)
                if len(columns):
                    groups.append(Group(rows[:, columns].unsqueeze(0), columns, first + index))
                index += 1
                continue
            stop = index
            while stop < run.count and stop - index < batch and not shrunk[stop]:
                stop += 1
            columns = slice(start, start + (stop - index) * run.size)
            view = rows[:, columns].unflatten(1, (stop - index, run.size)).transpose(0, 1)
            groups.append(Group(view, columns, first + index))
            index = stop
        first += run.count
    return groups


def cholesky(matrices: Tensor, group: Group, damping: float) -> Tensor:
    """Lower Cholesky factors of (count, n, n); a failure names the block and a damping that would do."""
    factors, info = torch.linalg.cholesky_ex(matrices)
    if info.any() or not torch.isfinite(factors.diagonal(dim1=-2, dim2=-1)).all():
        bad = int(info.ne(0).nonzero()[0]) if info.any() else 0
        # The smallest eigenvalue should be the damping's share of the trace; what came was below rounding.
        raise _ill_conditioned(group, bad, damping, float(group.traces()[bad]) / damping, FACTOR_LIMIT)
    return factors


def check_condition(condition: Tensor, limit: float, group: Group, damping: float) -> None:
    """Raises a NumericalError where trace(F)/λ of a block, ``condition`` (count,), exceeds ``limit``."""
    if (condition > limit).any():
        bad = int(condition.argmax())
        raise _ill_conditioned(group, bad, damping, float(condition[bad]), limit)


def _ill_conditioned(group: Group, index: int, damping: float, condition: float, limit: float) -> NumericalError:
    return NumericalError(
        f"Fisher block {group.first_block + index} ({group.size} weights, {group.num_rows} samples) cannot be inverted "
        f"accurately at damping {damping:.3g}: its condition may reach {condition:.1e}, float64 bears {limit:.0e}. "
        f"Use a damping of at least {max(1.1 * condition * damping / limit, 1.1 * damping):.1e}."
    )


def check_diagonal(diagonal: Tensor, curvature: Tensor, group: Group, damping: float) -> Tensor:
    """``diagonal`` if 1/F_jj ≤ [F⁻¹]_jj ≤ 1/λ holds as it must for any positive definite F; else a NumericalError.

    ``curvature`` is diag of (1/N) GᵀG, both (count, B).
    """
    low, high = 1.0 / (curvature + damping), 1.0 / damping
    wrong = ~((diagonal >= low * (1 - BOUND_SLACK)) & (diagonal <= high * (1 + BOUND_SLACK)))
    if wrong.any():
        block, weight = (int(i) for i in wrong.nonzero()[0])
        raise NumericalError(
            f"Fisher block {group.first_block + block}: [F⁻¹]_jj of weight {weight} came out as "
            f"{float(diagonal[block, weight]):.3e}, outside its exact bounds {float(low[block, weight]):.3e} to {high:.3e}: "
            f"rounding has won. Use a larger damping than {damping:.3g} or fewer samples."
        )
    return diagonal
