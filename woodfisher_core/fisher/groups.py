"""Blocks of equal size handled together, so that many small blocks are one batched product.

A group's rows are the gradients as they were stored; mathematics on them is done a chunk of columns at a time, in float64 or,
where ``precision`` allows it, in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from woodfisher_core.errors import NumericalError
from woodfisher_core.fisher.blocks import Blocks, Run

COMPUTE = torch.float64
# Bytes of one float64 chunk of gradients, and of the float64 blocks factored in one batched call: small enough to stay in
# cache and in the allocator's reach (64 MB chunks took a fifth longer), but never fewer columns than make a good product.
CHUNK_BYTES = 1 << 24
CHUNK_COLUMNS = 512
# The same where a chunk is a view that enters a Gram matrix: nothing is copied, and the result is N×N whatever the width.
GRAM_BYTES = 1 << 28
# But never more columns of float32 in one sum: its error grows with them, and the bound in ``precision`` counts on this.
SINGLE_COLUMNS = 1 << 14
# Bytes of rows that are widened to float64 once, not a part at every pass.
WIDENED_BYTES = 1 << 24
# How much wider than high a block of such rows may be for its GᵀG to be kept where many settings share it.
WIDE = 3
# Operations of one block's product below which float64 costs too little to matter, and how much wider than high G must be
# for float32 to have a chance.
LEAST_WORK = 1 << 27
LEAST_WIDTH = 8
# Sides of the diagonal tiles a lower triangle is cut into: smaller wastes less above the diagonal, but multiplies slower.
TILE = 128
# Relative slack in the bounds 1/F_jj ≤ [F⁻¹]_jj ≤ 1/λ before a result counts as numerically wrong.
BOUND_SLACK = 1e-3
# Largest trace(F)/λ, a bound on the condition number of F, up to which the solvers keep diag F⁻¹ to 1e-4 in float64
# (measured over random spectra: 6e-5 at 1e12 for the factorisations, 2e-5 at 1e10 and 1.2e-4 at 1e11 for the spectrum; a search
# for the worst rows, graded over five decades in as many columns, found 1e-3 for both at their limits).
FACTOR_LIMIT = 1e12
SPECTRUM_LIMIT = 5e10


class Source(Protocol):
    """Gradient rows G (N, d) kept elsewhere than in memory, on ``device`` and in ``dtype`` when read."""

    num_rows: int
    device: torch.device
    dtype: torch.dtype

    def read(self, columns: slice) -> Tensor:
        """(N, c) of one of the parts the source was cut into."""


@dataclass(frozen=True)
class Window:
    """The rows (1, N, B) of one block that is read in ``parts``; stands where a group has its tensor."""

    source: Source
    columns: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.source.num_rows, self.columns[-1].stop - self.columns[0].start)

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    @property
    def device(self) -> torch.device:
        return self.source.device

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        """(first column within the block, (1, N, c))."""
        for part in self.columns:
            yield part.start - self.columns[0].start, self.source.read(part).unsqueeze(0)


class Eigenbasis(NamedTuple):
    """σ ``values`` (N,), rising, of GGᵀ = U diag(σ) Uᵀ, R = GᵀU ``columns`` (B, N) and R∘R ``squares`` (B, N), float64."""

    values: Tensor
    columns: Tensor
    squares: Tensor


@dataclass(frozen=True)
class Group:
    """``count`` blocks of equal size B with N gradient rows each.

    ``rows`` is (count, N, B); ``columns`` says where its count·B columns lie in the flat vector (a slice or indices);
    ``first_block`` numbers the first of them, for messages. GᵀG is kept where it takes no more than ``wide`` times the room of
    the rows.
    """

    rows: Tensor | Window
    columns: slice | Tensor
    first_block: int
    wide: int = 1

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

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        """(first column, rows of consecutive columns as stored (count, N, c)): all at once where G is in memory."""
        if isinstance(self.rows, Tensor):
            yield 0, self.rows
        else:
            yield from self.rows.parts()

    def chunks(self, dtype: torch.dtype = COMPUTE, nbytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, Tensor]]:
        """(columns, rows of these columns in ``dtype`` (count, N, c)), about ``nbytes`` at a time.

        What is not stored in ``dtype`` stands in memory that the next chunk takes over.
        """
        width = max(CHUNK_COLUMNS, nbytes // (dtype.itemsize * self.rows.shape[0] * self.num_rows))
        if dtype is not COMPUTE:
            width = min(width, SINGLE_COLUMNS)
        copied = None
        for first, rows in self.parts():
            for start in range(0, rows.shape[2], width):
                part = rows[:, :, start : start + width]
                if part.dtype is not dtype:
                    if copied is None:
                        shape = (*part.shape[:2], min(width, self.size))
                        copied = torch.empty(shape, dtype=dtype, device=part.device)
                    part = copied[:, :, : part.shape[2]].copy_(part)
                yield slice(first + start, first + start + part.shape[2]), part

    def columns_at(self, columns: Tensor) -> Tensor:
        """Rows (count, N, k) of the given columns, in rising order, as stored."""
        found = []
        for first, rows in self.parts():
            here = columns[(columns >= first) & (columns < first + rows.shape[2])]
            found.append(picked_columns(rows, here - first))
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)

    @cached_property
    def curvature(self) -> Tensor:
        """diag (1/N) GᵀG of each block, (count, B) float64; kept, since every damping asks for it."""
        return torch.cat([torch.linalg.vecdot(part, part, dim=1) for _, part in self.chunks()], dim=1) / self.num_rows

    def mean(self) -> Tensor:
        """(1/N) Σ_n G_n of each block, (count, B) float64."""
        return torch.cat([part.mean(1) for _, part in self.chunks()], dim=1)

    def mean_absolute(self) -> Tensor:
        """(1/N) Σ_n |G_n| of each block, (count, B) float64."""
        return torch.cat([part.abs().mean(1) for _, part in self.chunks()], dim=1)

    @property
    def traces(self) -> Tensor:
        """trace (1/N) GᵀG of each block, (count,) float64."""
        return self.curvature.sum(1)

    def gram(self, precision: torch.dtype = COMPUTE) -> Tensor:
        """K = G Gᵀ of each block, (count, N, N) float64, from products of chunks in ``precision``."""
        total = torch.zeros(self.rows.shape[0], self.num_rows, self.num_rows, dtype=COMPUTE, device=self.rows.device)
        for _, part in self.chunks(precision, CHUNK_BYTES if precision is COMPUTE else GRAM_BYTES):
            add_lower_gram(total, part)
        return mirrored(total)

    def covariance(self) -> Tensor:
        """GᵀG of each block, (count, B, B) float64, not to be changed; kept where :attr:`keeps_covariance`."""
        return self._covariance if self.keeps_covariance else self._made_covariance()

    def _made_covariance(self) -> Tensor:
        rows = self.rows.to(COMPUTE)
        return rows.mT @ rows

    _covariance = cached_property(_made_covariance)

    @cached_property
    def kept_gram(self) -> Tensor:
        """:meth:`gram`, kept and not to be changed; for blocks that keep their covariance or eigenbasis."""
        return self.gram()

    @property
    def keeps_covariance(self) -> bool:
        """Whether GᵀG in float64 takes little enough room beside the rows; masks then pick their parts of it."""
        return COMPUTE.itemsize * self.size <= self.wide * self.rows.dtype.itemsize * self.num_rows

    @property
    def keeps_eigenbasis(self) -> bool:
        """Whether :attr:`eigenbasis` is kept for all dampings: wider than high, of small rows that keep products."""
        return self.size > self.num_rows and self.wide > 1

    @cached_property
    def eigenbasis(self) -> Eigenbasis:
        """The block in the eigenvectors of its Gram matrix, kept and not to be changed; where it :attr:`keeps_eigenbasis`."""
        values, vectors = torch.linalg.eigh(self.kept_gram[0])
        columns = self.lift(vectors.unsqueeze(0))[0]
        return Eigenbasis(values.clamp_(min=0.0), columns, columns.square())

    def project(self, x: Tensor) -> Tensor:
        """G x of each block: (count, N, k) from (count, B, k) float64."""
        total = x.new_zeros(x.shape[0], self.num_rows, x.shape[2])
        for picked, part in self.chunks():
            total.baddbmm_(part, x[:, picked])
        return total

    def lift(self, y: Tensor, precision: torch.dtype = COMPUTE) -> Tensor:
        """Gᵀ y of each block: (count, B, k) float64 from (count, N, k), by products in ``precision``."""
        given = y.to(precision)
        return torch.cat([part.mT @ given for _, part in self.chunks(precision)], dim=1).to(COMPUTE)

    def lift_and_normal(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(Gᵀ y, G Gᵀ y) of each block, (count, B, k) and (count, N, k) float64, in one pass over G."""
        lifted, total = [], torch.zeros_like(y)
        for _, part in self.chunks():
            lifted.append(part.mT @ y)
            total.baddbmm_(part, lifted[-1])
        return torch.cat(lifted, dim=1), total


def groups_of(rows: Tensor, blocks: Blocks, first: int = 0, keep_products: bool = False) -> list[Group]:
    """Cuts G (N, d) into groups. Columns outside every group carry no gradient at all: there F is exactly λI.

    A block with more weights than samples, but fewer *active* weights (some gradient is not zero) than samples, is reduced
    to its active columns, which moves it to the primal side where nothing cancels. ``first`` numbers the first block;
    ``keep_products`` lets small rows keep GᵀG up to ``WIDE`` times their size, and the eigenvectors of GGᵀ.
    """
    num_rows = rows.shape[0]
    wide = 1
    if rows.nbytes <= WIDENED_BYTES:
        rows, wide = rows.to(COMPUTE), WIDE if keep_products else 1
    groups = []
    for run in blocks.runs:
        shrunk = _few_active(rows, run) if run.size > num_rows else [False] * run.count
        # A block that may go in float32 stands alone: what it gets must not depend on its neighbours.
        batch = 1 if large(num_rows, run.size) else max(1, CHUNK_BYTES // (8 * run.size * num_rows))
        index = 0
        while index < run.count:
            start = run.offset + index * run.size
            if shrunk[index]:
                own = rows[:, start : start + run.size]
                columns = start + _active(own).nonzero().squeeze(1)
                if len(columns):
                    groups.append(Group(rows[:, columns].unsqueeze(0), columns, first + index))
                index += 1
                continue
            stop = index
            while stop < run.count and stop - index < batch and not shrunk[stop]:
                stop += 1
            columns = slice(start, start + (stop - index) * run.size)
            view = rows[:, columns].unflatten(1, (stop - index, run.size)).transpose(0, 1)
            groups.append(Group(view, columns, first + index, wide if stop - index == 1 else 1))
            index = stop
        first += run.count
    return groups


def picked_columns(rows: Tensor, columns: Tensor) -> Tensor:
    """``rows[:, :, columns]``, (count, N, k)."""
    # Five times as fast on a CPU as index_select, which walks a stride at a time.
    return rows.gather(2, columns.expand(*rows.shape[:2], -1))


def large(num_rows: int, size: int) -> bool:
    """Whether a block is worth trying in float32: enough work, and G wide enough."""
    return 2 * num_rows**2 * size >= LEAST_WORK and size >= LEAST_WIDTH * num_rows


def _active(rows: Tensor) -> Tensor:
    """(c,) bool, True where some entry of the column of ``rows`` (n, c) is not zero."""
    # Column extremes, not comparisons: no temporary of the size of the rows.
    return torch.maximum(rows.amax(0), -rows.amin(0)) > 0


def _few_active(rows: Tensor, run: Run) -> list[bool]:
    """For each block of ``run``, whether fewer of its columns than G has rows are active; a few rows usually settle it."""
    num_rows, own = rows.shape[0], rows[:, run.slice]
    active = torch.zeros(own.shape[1], dtype=torch.bool, device=rows.device)
    few = torch.ones(run.count, dtype=torch.bool, device=rows.device)
    start, step = 0, 8
    while start < num_rows and bool(few.any()):
        active |= _active(own[start : start + step])
        few = active.view(run.count, run.size).sum(1) < num_rows
        start, step = start + step, 4 * step
    return few.tolist()


def lower_tiles(size: int, start: int = 0) -> list[tuple[slice, slice]]:
    """(rows, columns) of rectangles that cover the lower triangle of a ``size``×``size`` matrix: halves of halves."""
    stop = start + size
    if size <= TILE:
        return [(slice(start, stop), slice(start, stop))]
    half = (size + 1) // 2
    below = (slice(start + half, stop), slice(start, start + half))
    return [below, *lower_tiles(half, start), *lower_tiles(size - half, start + half)]


def add_lower_gram(total: Tensor, part: Tensor) -> None:
    """Adds the lower tiles of P Pᵀ, P (count, N, c), to ``total`` (count, N, N) float64."""
    for rows, columns in lower_tiles(part.shape[1]):
        if part.dtype is COMPUTE:
            total[:, rows, columns].baddbmm_(part[:, rows], part[:, columns].mT)
        else:
            total[:, rows, columns] += torch.bmm(part[:, rows], part[:, columns].mT)


def mirrored(total: Tensor) -> Tensor:
    """``total`` with its upper tiles made copies of the lower ones."""
    for rows, columns in lower_tiles(total.shape[1]):
        if rows != columns:
            total[:, columns, rows] = total[:, rows, columns].mT
    return total


def cholesky(matrices: Tensor, group: Group, damping: float) -> Tensor:
    """Lower Cholesky factors of (count, n, n); a failure names the block and a damping that would do."""
    factors, info = torch.linalg.cholesky_ex(matrices)
    if info.any() or not torch.isfinite(factors.diagonal(dim1=-2, dim2=-1)).all():
        bad = int(info.ne(0).nonzero()[0]) if info.any() else 0
        # The smallest eigenvalue should be the damping's share of the trace; what came was below rounding.
        raise _ill_conditioned(group, bad, damping, float(group.traces[bad]) / damping, FACTOR_LIMIT)
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


def check_diagonal(diagonal: Tensor, curvature: Tensor | None, group: Group, damping: float) -> Tensor:
    """``diagonal`` if 1/F_jj ≤ [F⁻¹]_jj ≤ 1/λ holds as it must for any positive definite F; else a NumericalError.

    ``curvature`` is diag of (1/N) GᵀG, both (count, B); None where another bound has been held already, which leaves
    0 < [F⁻¹]_jj ≤ 1/λ.
    """
    high = 1.0 / damping
    low = torch.full_like(diagonal, torch.finfo(COMPUTE).tiny) if curvature is None else 1.0 / (curvature + damping)
    wrong = ~((diagonal >= low * (1 - BOUND_SLACK)) & (diagonal <= high * (1 + BOUND_SLACK)))
    if wrong.any():
        block, weight = (int(i) for i in wrong.nonzero()[0])
        raise NumericalError(
            f"Fisher block {group.first_block + block}: [F⁻¹]_jj of weight {weight} came out as "
            f"{float(diagonal[block, weight]):.3e}, outside its exact bounds {float(low[block, weight]):.3e} to {high:.3e}: "
            f"rounding has won. Use a larger damping than {damping:.3g} or fewer samples."
        )
    return diagonal
