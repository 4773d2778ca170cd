"""Gradients that do not fit in memory: written once to a file and read back in parts, or computed again for every part."""

import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from woodfisher_core.errors import InputError, MemoryBudgetError
from woodfisher_core.memory import gib
from woodfisher_core.parameters import PrunableParameters


class Spilled:
    """G in a temporary file, part after part, each (N, c) contiguous; the file goes when this object does.

    The file is read and written explicitly rather than mapped: what the process holds is then what it asked for, and the
    operating system still keeps in its cache whatever has room.

    Args:
        pieces: Row chunks (n, d) of G, N rows in all.
        num_rows: N.
        parts: Disjoint column ranges, in order, that cover G.
        dtype: What the file holds.
        device: Where parts are read to.
        folder: Where the file lies; the system's folder for temporary files where None.
    """

    def __init__(
        self,
        pieces: Iterable[Tensor],
        num_rows: int,
        parts: Sequence[slice],
        dtype: torch.dtype,
        device: torch.device,
        folder: str | Path | None = None,
    ):
        self.num_rows, self.dtype, self.device = num_rows, dtype, device
        self._starts: dict[tuple[int, int], int] = {}
        position = 0
        for part in parts:
            self._starts[part.start, part.stop] = position
            position += num_rows * (part.stop - part.start) * dtype.itemsize
        self.nbytes = position
        self._one_at_a_time = threading.Lock()  # a file has one position, whoever reads
        # Unbuffered: pieces are large, and a buffer would only copy them once more.
        try:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 - it lives as long as this object
                prefix="woodfisher-", suffix=".gradients", dir=folder, buffering=0
            )
            weakref.finalize(self, self._file.close)
            self._fill(pieces)
        except OSError as error:
            raise MemoryBudgetError(
                f"scratch file: writing {gib(self.nbytes)} of gradients to {folder or tempfile.gettempdir()} failed "
                f"({error.strerror}). Choose another folder (scratch), or storage 'recomputed'."
            ) from error

    def _fill(self, pieces: Iterable[Tensor]) -> None:
        row = 0
        for piece in pieces:
            stored = piece.to("cpu", self.dtype)
            for (start, stop), position in self._starts.items():
                self._file.seek(position + row * (stop - start) * self.dtype.itemsize)
                _write_all(self._file, _bytes_of(stored[:, start:stop].contiguous()))
            row += len(piece)
        if row != self.num_rows:
            raise InputError(f"gradients: expected {self.num_rows} rows, got {row}.")

    def read(self, columns: slice) -> Tensor:
        """(N, c) of one part."""
        rows = torch.empty(self.num_rows, columns.stop - columns.start, dtype=self.dtype)
        view, done = _bytes_of(rows), 0
        with self._one_at_a_time:
            self._file.seek(self._starts[columns.start, columns.stop])
            while done < len(view):
                count = self._file.readinto(view[done:])
                if not count:
                    raise MemoryBudgetError(
                        "scratch file: it is shorter than what was written. Is the disk full or gone?"
                    )
                done += count
        return rows.to(self.device)


class Recomputed:
    """G computed anew for every part that is read: no room needed, one pass of gradients a part.

    Args:
        make: ``make(parameters)`` gives row chunks (n, d') of the gradients of these layers alone, the same rows every time.
        parameters: All prunable layers.
        num_rows: N.
        dtype: What is read.
        device: Where gradients are made.
    """

    def __init__(
        self,
        make: Callable[[PrunableParameters], Iterable[Tensor]],
        parameters: PrunableParameters,
        num_rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self._make, self._parameters = make, parameters
        self.num_rows, self.dtype, self.device = num_rows, dtype, device

    def read(self, columns: slice) -> Tensor:
        """(N, c) of any columns."""
        layers = [
            layer for layer in self._parameters.layers if layer.offset < columns.stop and columns.start < layer.end
        ]
        first = layers[0].offset
        own = PrunableParameters(tuple(replace(layer, offset=layer.offset - first) for layer in layers))
        rows = torch.empty(self.num_rows, columns.stop - columns.start, dtype=self.dtype, device=self.device)
        row = 0
        for piece in self._make(own):
            rows[row : row + len(piece)] = piece[:, columns.start - first : columns.stop - first]
            row += len(piece)
        if row != self.num_rows:
            raise InputError(f"gradients: expected {self.num_rows} rows, got {row}.")
        return rows


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())


def _write_all(file, view: memoryview) -> None:
    """An unbuffered file may take less than it is given."""
    while len(view):
        view = view[file.write(view) :]
