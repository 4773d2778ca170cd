"""The first samples of any loader, as often as they are needed."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from woodfisher_core.errors import InputError


class Loaded:
    """Samples of ``loader`` on ``device``, in its own order; of its first ``limit`` only, where that is given.

    A loader that can be read only once (a generator) is remembered as far as it has been read; so is one with a limit, which
    might shuffle: its first samples must be the same ones at every reading.
    """

    def __init__(self, loader: Iterable[tuple[Tensor, Tensor]], device: torch.device | str, limit: int | None = None):
        # By its type: opening a DataLoader to see would draw from its generator and start its workers.
        once = limit is not None or isinstance(loader, Iterator)
        self._loader = _Remembered(loader) if once else loader
        self._device, self._limit = device, limit

    def batches(self, count: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Exactly ``count`` samples after the first ``skip``, beginning again at the end of the loader.

        Raises:
            InputError: The loader holds fewer than ``count`` samples, or gives something else than pairs of tensors.
        """
        left = count
        while left:
            seen = 0
            for inputs, targets in self._once():
                dropped = min(skip, len(targets))
                skip -= dropped
                seen += len(targets)
                taken = min(left, len(targets) - dropped)
                if taken:
                    part = slice(dropped, dropped + taken)
                    yield inputs[part].to(self._device), targets[part].to(self._device)
                    left -= taken
                if not left:
                    return
            if seen < count:
                raise InputError(
                    f"loader: expected at least {count} samples (num_samples × mini_batch, or batchnorm_images), got {seen}. "
                    "Lower num_samples."
                )
            skip %= seen

    def _once(self) -> Iterator[tuple[Tensor, Tensor]]:
        left = self._limit
        for batch in self._loader:
            if not (
                isinstance(batch, (tuple, list))
                and len(batch) == 2
                and all(isinstance(t, Tensor) and t.ndim for t in batch)
            ):
                raise InputError(
                    "loader: expected batches (inputs, targets) of two tensors; wrap it to give just these."
                )
            inputs, targets = batch
            if left is not None:
                inputs, targets = inputs[:left], targets[:left]
                left -= len(targets)
            yield inputs, targets
            if left == 0:
                return


class _Remembered:
    def __init__(self, loader: Iterable):
        self._loader, self._read = loader, []
        self._iterator: Iterator | None = None

    def __iter__(self) -> Iterator:
        self._iterator = iter(self._loader) if self._iterator is None else self._iterator
        place = 0
        while True:
            if place == len(self._read):
                try:
                    self._read.append(next(self._iterator))
                except StopIteration:
                    return
            yield self._read[place]
            place += 1
