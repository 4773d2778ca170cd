"""CIFAR-10: the original through torchvision, and a copy of it stored as JPEG files, which is a data set of its own."""

import hashlib
import io
import os
import pickle
import tarfile
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import datasets

from woodfisher_core.data.base import DataSet, DataSetSpec, Split, cache_folder
from woodfisher_core.errors import InputError

# Of the original training pixels in [0, 1], a channel each; the official code's values.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
# Images of each class in each split.
EACH = {"train": 5000, "test": 1000}
# No JPEG of 32 × 32 pixels is near this long; a member that is was not made for this.
MEMBER_BYTES = 1 << 16


def _split(images: Tensor, targets: Tensor) -> Split:
    return Split(images, targets, 1.0 / 255.0, MEAN, STD)


# The original.

FOLDER = datasets.CIFAR10.base_folder
BATCHES = (*(name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list), "batches.meta")


def _present(root: Path) -> bool:
    return all((root / FOLDER / name).is_file() for name in BATCHES)


@lru_cache(maxsize=1)
def _load(root: Path | None) -> DataSet:
    def split(train: bool) -> Split:
        try:
            # torchvision compares each file with its MD5 before it opens it.
            raw = datasets.CIFAR10(root=str(root), train=train, download=False)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"CIFAR-10: the files are damaged ({_short(error)}). Remove {root / FOLDER} and "
                "download again with: python -m woodfisher_core data download cifar10"
            ) from None
        images = torch.from_numpy(np.ascontiguousarray(raw.data.transpose(0, 3, 1, 2)))
        return _split(images, torch.tensor(raw.targets, dtype=torch.int64))

    return DataSet("cifar10", split(True), split(False), CLASSES)


def _download(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    try:
        datasets.CIFAR10(root=str(root), train=True, download=True)
    except (RuntimeError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InputError(
            f"CIFAR-10: the download failed ({_short(error)}). Check the network, or copy the folder {FOLDER} to {root}."
        ) from None


# The copy in JPEG.

ARCHIVES = {"train": "cifar10_jpeg_train.tar.gz", "test": "cifar10_jpeg_test.tar.gz"}


def _jpeg_present(root: Path) -> bool:
    return all((root / name).is_file() for name in ARCHIVES.values())


@lru_cache(maxsize=1)
def _jpeg_load(root: Path | None) -> DataSet:
    """Decoded once, then read from one file in the cache folder that is named after the archives' contents.

    Images are in the order of their members' sorted names, so class by class.
    """
    digest = hashlib.sha256()
    for name in ARCHIVES.values():
        with (root / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    cached = cache_folder() / f"cifar10-jpeg-{digest.hexdigest()[:16]}.safetensors"
    tensors = _read_cache(cached)
    if tensors is None:
        tensors = {}
        for split, name in ARCHIVES.items():
            tensors[f"{split}.images"], tensors[f"{split}.targets"] = read_archive(root / name, split, EACH[split])
        _write_cache(cached, tensors)
    splits = [_split(tensors[f"{split}.images"], tensors[f"{split}.targets"]) for split in ARCHIVES]
    return DataSet("cifar10-jpeg", *splits, CLASSES)


def read_archive(path: Path, split: str, each: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) uint8 and targets (n,) of a .tar.gz of ``split``/class/name.jpg, ``each`` in every class.

    Members are decoded in memory; their names only sort them and give their class, and nothing is written to disk.

    Raises:
        InputError: The archive is damaged, or holds something else.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            # Read in the order of the archive, which a compressed stream is fast in, and sorted afterwards.
            pixels = {m.name: _decode(archive, m, path) for m in archive if m.isfile()}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"CIFAR-10 (JPEG): {path} is damaged ({_short(error)}). Copy it again.") from None
    names = sorted(pixels)
    classes = [tuple(name.removeprefix("./").split("/")[:-1]) for name in names]
    expected = [(split, name) for name in CLASSES for _ in range(each)]
    if classes != expected:
        found = ", ".join(sorted({"/".join(parts) for parts in classes})[:12]) or "nothing"
        raise InputError(
            f"CIFAR-10 (JPEG): {path.name}: expected {each:,} images in each of {split}/airplane … {split}/truck, "
            f"got {len(names):,} files in {found}. Copy the archive again."
        )
    images = torch.from_numpy(np.stack([pixels[name] for name in names])).permute(0, 3, 1, 2).contiguous()
    return images, torch.arange(len(CLASSES)).repeat_interleave(each)


def _decode(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> np.ndarray:
    """Pixels (32, 32, 3) of one member."""
    if member.size > MEMBER_BYTES:
        problem = f"{member.size:,} bytes, expected a small JPEG file"
    else:
        try:
            with Image.open(io.BytesIO(archive.extractfile(member).read()), formats=("JPEG",)) as image:
                if image.size == (SIZE, SIZE):
                    return np.asarray(image.convert("RGB"))
                problem = f"{image.width} × {image.height} pixels, expected {SIZE} × {SIZE}"
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            problem = f"no JPEG image ({_short(error)})"
    raise InputError(f"CIFAR-10 (JPEG): {path.name}: {member.name} is {problem}. Copy the archive again.")


def _read_cache(path: Path) -> dict[str, Tensor] | None:
    """The decoded images, or None where they are not there or not whole."""
    if not path.is_file():
        return None
    try:
        tensors = load_file(str(path))
    except (SafetensorError, OSError):
        return None
    expected = {}
    for split, each in EACH.items():
        count = each * len(CLASSES)
        expected[f"{split}.images"] = ((count, 3, SIZE, SIZE), torch.uint8)
        expected[f"{split}.targets"] = ((count,), torch.int64)
    return tensors if {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} == expected else None


def _write_cache(path: Path, tensors: dict[str, Tensor]) -> None:
    """Whole or not at all; a folder that cannot be written only costs the decoding next time."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(part))
        os.replace(part, path)
    except (OSError, SafetensorError):
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


SOURCE = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

SPEC = DataSetSpec(
    name="cifar10",
    label="CIFAR-10",
    description="60,000 colour images of 32×32 pixels in ten classes: 50,000 to train on, 10,000 to test on.",
    load=_load,
    train_size=len(CLASSES) * EACH["train"],
    test_size=len(CLASSES) * EACH["test"],
    present=_present,
    files=(FOLDER,),
    download=_download,
    download_bytes=170_498_071,
    source=SOURCE,
)

JPEG_SPEC = DataSetSpec(
    name="cifar10-jpeg",
    label="CIFAR-10 (JPEG)",
    description="The images of CIFAR-10 as JPEG files, other pixels than the original: networks trained on the original "
    "lose about ten points on it, so a data set of its own. 50,000 to train on, 10,000 to test on.",
    load=_jpeg_load,
    train_size=len(CLASSES) * EACH["train"],
    test_size=len(CLASSES) * EACH["test"],
    present=_jpeg_present,
    files=tuple(ARCHIVES.values()),
    source=f"{SOURCE}, in a JPEG copy",
)
