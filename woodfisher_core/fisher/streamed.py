"""The same Fisher over gradients that do not fit in memory: G is read a span of whole blocks at a time, used and dropped.

Every operation is one pass over G: per span the in-memory :class:`EmpiricalFisher` of its blocks does the work. A block wider
than a span is read in parts instead, each part twice where a Gram matrix has to come first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from woodfisher_core.fisher.blocks import Blocks, Run
from woodfisher_core.fisher.groups import COMPUTE, Source, Window
from woodfisher_core.fisher.operator import EmpiricalFisher, check_damping
from woodfisher_core.options import Solver


@dataclass(frozen=True)
class Span:
    """Consecutive whole blocks, the first of them number ``first_block``, read in ``parts``: one, or several of one block."""

    blocks: Blocks
    first_block: int
    parts: tuple[slice, ...]

    @property
    def columns(self) -> slice:
        return slice(self.parts[0].start, self.parts[-1].stop)


def cut(blocks: Blocks, num_rows: int, width: int, whole: bool = False) -> tuple[Span, ...]:
    """Spans of at most ``width`` columns each; wider blocks stand alone, in several parts where N < B allows it.

    ``whole`` keeps every block in one part: the spectral solver holds as much as its block anyway.
    """
    spans: list[Span] = []
    held: list[Run] = []
    first = number = start = 0

    def close() -> None:
        nonlocal held, first, start
        if held:
            stop = start + held[-1].offset + held[-1].count * held[-1].size
            spans.append(Span(Blocks(tuple(held)), first, (slice(start, stop),)))
        held = []

    for run in blocks.runs:
        index = 0
        while index < run.count:
            here = run.offset + index * run.size
            if not held:
                first, start = number, here
            fit = min(run.count - index, max(0, width - (here - start)) // run.size)
            if fit:
                held.append(Run(here - start, fit, run.size))
                index, number = index + fit, number + fit
            elif held:
                close()
            else:
                step = width if num_rows < run.size and not whole else run.size
                parts = tuple(slice(a, min(a + step, here + run.size)) for a in range(here, here + run.size, step))
                spans.append(Span(Blocks((Run(0, 1, run.size),)), number, parts))
                index, number = index + 1, number + 1
    close()
    return tuple(spans)


class StreamedFisher:
    """What :class:`EmpiricalFisher` is, over a source; holds nothing between calls, so nothing is shared between dampings."""

    nbytes = 0

    def __init__(self, source: Source, blocks: Blocks, spans: Sequence[Span]):
        self.source, self.blocks, self.spans = source, blocks, spans

    @property
    def num_rows(self) -> int:
        """N."""
        return self.source.num_rows

    @cached_property
    def diagonal(self) -> Tensor:
        """diag (1/N) GᵀG, without damping, (d,) float64."""
        return torch.cat([fisher.diagonal for _, fisher in self._pieces()])

    @cached_property
    def mean(self) -> Tensor:
        """The mean gradient ḡ = (1/N) Σ_n G_n, (d,) float64."""
        return torch.cat([fisher.mean for _, fisher in self._pieces()])

    @cached_property
    def mean_absolute(self) -> Tensor:
        """(1/N) Σ_n |G_n|, (d,) float64."""
        return torch.cat([fisher.mean_absolute for _, fisher in self._pieces()])

    def is_prepared(self, solver: Solver) -> bool:
        """Never: every pass starts anew."""
        return False

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> "StreamedInverse":
        """F⁻¹ at ``damping`` λ > 0."""
        check_damping(damping)
        return StreamedInverse(self, damping, solver)

    def diagonals(self, dampings: Sequence[float], solver: Solver = Solver.AUTO) -> Tensor:
        """diag F⁻¹ at every damping, (k, d) float64, in one pass."""
        return torch.cat([fisher.diagonals(dampings, solver) for _, fisher in self._pieces()], dim=1)

    def projections(self, x: Tensor) -> Iterator[Tensor]:
        """G_b x_b of the blocks b, (count, N) float64 of some blocks at a time."""
        for columns, fisher in self._pieces():
            yield from fisher.projections(x[columns])

    def entry(self, first: int, second: int) -> float:
        """F_first,second, as :meth:`EmpiricalFisher.entry`."""
        for columns, fisher in self._pieces():
            if columns.start <= first < columns.stop and columns.start <= second < columns.stop:
                return fisher.entry(first - columns.start, second - columns.start)
        return 0.0

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d) float64, as :meth:`EmpiricalFisher.joint_steps`."""
        parts = [
            fisher.joint_steps(weights[columns], [keep[columns] for keep in keeps], damping)
            for columns, fisher in self._pieces()
        ]
        return torch.cat(parts, dim=1)

    def _pieces(self) -> Iterator[tuple[slice, EmpiricalFisher]]:
        for span in self.spans:
            rows = self.source.read(span.parts[0]) if len(span.parts) == 1 else Window(self.source, span.parts)
            yield span.columns, EmpiricalFisher(rows, span.blocks, span.first_block)


class StreamedInverse:
    """F⁻¹ at one damping, factored anew on every pass."""

    nbytes = 0

    def __init__(self, fisher: StreamedFisher, damping: float, solver: Solver):
        self.fisher, self.damping, self.solver = fisher, damping, solver

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (d,)."""
        return self.fisher.diagonals([self.damping], self.solver)[0].to(COMPUTE)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x for x of shape (d,) or (d, k)."""
        return torch.cat(
            [fisher.inverse(self.damping, self.solver).apply(x[columns]) for columns, fisher in self.fisher._pieces()]
        )
