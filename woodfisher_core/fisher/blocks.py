"""How the Fisher is cut into diagonal blocks: contiguous slices of each layer, whole layers, or the whole network."""

from collections.abc import Iterator
from dataclasses import dataclass

from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, parse_block_size
from woodfisher_core.parameters import PrunableParameters


@dataclass(frozen=True)
class Run:
    """``count`` consecutive blocks of equal ``size``, the first at position ``offset`` of the flat vector."""

    offset: int
    count: int
    size: int

    @property
    def slice(self) -> slice:
        return slice(self.offset, self.offset + self.count * self.size)


@dataclass(frozen=True)
class Blocks:
    """A partition of the flat vector into diagonal blocks, as runs of equal blocks (so size 1 costs nothing)."""

    runs: tuple[Run, ...]

    @classmethod
    def of(cls, parameters: PrunableParameters, size: int | str) -> "Blocks":
        """Blocks never cross layers, except ``"network"``: one block over all. The last slice of a layer may be shorter."""
        size = parse_block_size(size)
        if size == BLOCK_NETWORK:
            return cls((Run(0, 1, parameters.num_prunable),))
        runs = []
        for layer in parameters.layers:
            width = layer.numel if size == BLOCK_LAYER else min(size, layer.numel)
            full, rest = divmod(layer.numel, width)
            runs.append(Run(layer.offset, full, width))
            if rest:
                runs.append(Run(layer.offset + full * width, 1, rest))
        return cls(tuple(runs))

    @property
    def dim(self) -> int:
        """d."""
        return sum(run.count * run.size for run in self.runs)

    @property
    def count(self) -> int:
        """Number of blocks."""
        return sum(run.count for run in self.runs)

    @property
    def largest(self) -> int:
        """Size of the largest block."""
        return max(run.size for run in self.runs)

    def together(self, first: int, second: int) -> bool:
        """Whether two places of the flat vector are in one block."""
        for run in self.runs:
            if run.slice.start <= first < run.slice.stop:
                within = run.slice.start <= second < run.slice.stop
                return within and (first - run.offset) // run.size == (second - run.offset) // run.size
        return False

    def slices(self) -> Iterator[slice]:
        """One slice of the flat vector a block, in order."""
        for run in self.runs:
            for index in range(run.count):
                start = run.offset + index * run.size
                yield slice(start, start + run.size)
