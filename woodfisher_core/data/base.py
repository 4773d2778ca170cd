"""What a data set is here: two splits of raw images held compactly, normalised only where they are used."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from woodfisher_core.errors import InputError

ENVIRONMENT_VARIABLE = "WOODFISHER_DATA"
# Inputs evaluated at once: 1,337 of MNIST's images, 341 of CIFAR's. Larger batches leave the processor's cache and take fresh
# memory from the system for every layer: 2,048 images of CIFAR through ResNet-20 take 1.4 s so, 3.6 s at once (two threads).
EVALUATION_BYTES = 1 << 22


@dataclass(frozen=True)
class Samples:
    """Network inputs (n, C, H, W) float32, already normalised, and integer targets (n,)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive (inputs, targets) of ``size`` samples; the last may be shorter."""
        yield from zip(self.inputs.split(size), self.targets.split(size), strict=True)

    def for_evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them in batches of a size that forward passes are fast at."""
        return self.batches(max(1, EVALUATION_BYTES // max(1, self.inputs[:1].nbytes)))

    def first(self, count: int) -> "Samples":
        """The first ``count`` of them."""
        return Samples(self.inputs[:count], self.targets[:count])

    def to(self, device: torch.device | str) -> "Samples":
        return Samples(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Split:
    """Raw images (n, C, H, W), integer or float, with the mean and standard deviation that normalise them.

    ``scale`` brings raw values to [0, 1] first; ``mean`` and ``std`` are in those units, one number or one a channel.
    """

    images: Tensor
    targets: Tensor
    scale: float
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def samples(self, indices: Sequence[int] | Tensor | None = None) -> Samples:
        """The samples at ``indices`` (all by default), normalised."""
        images, targets = self.images, self.targets
        if indices is not None:
            picked = torch.as_tensor(indices, dtype=torch.int64)
            images, targets = images[picked], targets[picked]
        return Samples((images.to(torch.float32) * self.scale - _each(self.mean)) / _each(self.std), targets)


def _each(value: float | tuple[float, ...]) -> float | Tensor:
    """A number as it is, one a channel as (C, 1, 1)."""
    return torch.tensor(value)[:, None, None] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class DataSet:
    """A training and a test split with the names of its classes."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over every image and label of both splits: what names the data in a run's config."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(f"{tuple(split.images.shape)}|{split.scale}|{split.mean}|{split.std}|".encode())
            digest.update(split.images.contiguous().numpy())
            digest.update(split.targets.contiguous().numpy())
        return digest.hexdigest()


@dataclass(frozen=True)
class DataSetSpec:
    """A registered data set.

    ``load(root)`` reads it (``root`` is None where nothing on disk is needed); ``train_size`` and ``test_size`` are known
    without the files; ``present(root)`` says whether they are there, and ``files`` names what must lie in the folder;
    ``download(root)`` fetches them, ``download_bytes`` in all, and is None where only a local copy will do.
    """

    name: str
    label: str
    description: str
    load: Callable[[Path | None], DataSet]
    train_size: int
    test_size: int
    present: Callable[[Path], bool] | None = None
    files: tuple[str, ...] = ()
    download: Callable[[Path], None] | None = None
    download_bytes: int = 0
    source: str = ""

    @property
    def on_disk(self) -> bool:
        return self.present is not None


def cache_folder() -> Path:
    """Where downloads go: ``$XDG_CACHE_HOME/woodfisher``, else ``~/.cache/woodfisher`` (``%LOCALAPPDATA%`` on Windows)."""
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return Path(base) / "woodfisher" if base else Path.home() / ".cache" / "woodfisher"


def find_root(spec: DataSetSpec, data_dir: str | Path | None = None) -> Path | None:
    """The folder that holds ``spec``'s files: ``data_dir`` if given, else $WOODFISHER_DATA, else the cache folder."""
    if not spec.on_disk:
        return None
    if data_dir is not None:
        root = Path(data_dir).expanduser()
        if not root.is_dir():
            raise InputError(f"data folder: expected a folder at {str(root)!r}, found none. Check --data-dir.")
        candidates = [root]
    else:
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        candidates = ([Path(named).expanduser()] if named else []) + [cache_folder()]
    for root in candidates:
        if spec.present(root):
            return root
    looked = " or ".join(str(root) for root in candidates)
    if spec.download is None:
        raise InputError(
            f"{spec.label} is not here: looked in {looked}. There is no download for it: give the folder of a local copy "
            f"({' and '.join(spec.files)}) with --data-dir or {ENVIRONMENT_VARIABLE}."
        )
    raise InputError(
        f"{spec.label} is not here: looked in {looked}. Give its folder with --data-dir or {ENVIRONMENT_VARIABLE}, or "
        f"download it ({spec.download_bytes / 1e6:.0f} MB) with: python -m woodfisher_core data download {spec.name}"
    )
