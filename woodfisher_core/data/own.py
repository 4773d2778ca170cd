"""Data sets that users brought, as registered ones: described from the head of their file, loaded bit for bit as they came."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from woodfisher_core.data import brought
from woodfisher_core.data.base import DataSet, DataSetSpec, Split

DESCRIPTION = brought.DESCRIPTION
# What reading a file that is not as it was written may raise.
_BROKEN = (SafetensorError, OSError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading its images; ``shape`` is (C, H, W) of one."""

    label: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_size: int
    test_size: int


def describe(name: str) -> Description:
    """The description of the own data set ``name``.

    Raises:
        InputError: It is not on this machine, or damaged.
    """
    return _described(str(brought.own_file(brought.DATA, name)), brought.stamp_of(brought.DATA, name), name)


@lru_cache(maxsize=64)
def _described(_path: str, _stamp: tuple[int, int], name: str) -> Description:
    values = _values(name)
    try:
        return Description(
            str(values["label"]),
            tuple(values["shape"]),
            tuple(values["classes"]),
            int(values["train_size"]),
            int(values["test_size"]),
        )
    except _BROKEN as error:
        raise brought.damaged(brought.DATA, name, type(error).__name__) from None


def _values(name: str) -> dict[str, object]:
    try:
        return json.loads(brought.metadata(brought.DATA, name)[DESCRIPTION])
    except (KeyError, ValueError) as error:
        raise brought.damaged(brought.DATA, name, type(error).__name__) from None


def digest_of(data: DataSet) -> str:
    """Hex sha256 over images, labels, normalisation and the names of the classes."""
    return hashlib.sha256(f"{data.hash}|{json.dumps(data.classes)}".encode()).hexdigest()


def file_of(data: DataSet, label: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) that ``data`` is kept as; :func:`own_spec` reads them again."""
    tensors = {}
    for split, content in (("train", data.train), ("test", data.test)):
        tensors[f"{split}.images"] = content.images.contiguous()
        tensors[f"{split}.targets"] = content.targets.contiguous()
    values = {
        "label": label,
        "shape": list(data.train.images.shape[1:]),
        "classes": list(data.classes),
        "train_size": len(data.train),
        "test_size": len(data.test),
        "scale": data.train.scale,
        "mean": data.train.mean,
        "std": data.train.std,
    }
    return tensors, {DESCRIPTION: json.dumps(values)}


def forget() -> None:
    """Lets go of the data set that was loaded last."""
    _loaded.cache_clear()


@lru_cache(maxsize=1)
def _loaded(path: str, _stamp: tuple[int, int], name: str) -> DataSet:
    values = _values(name)
    try:
        tensors = load_file(path)
        splits = [_split(tensors, values, split) for split in ("train", "test")]
        data = DataSet(name, *splits, tuple(values["classes"]))
        intact = brought.own_name(digest_of(data)) == name
    except _BROKEN as error:
        raise brought.damaged(brought.DATA, name, type(error).__name__) from None
    if not intact:
        raise brought.damaged(brought.DATA, name, "its contents are not those of its name")
    return data


def _split(tensors: Mapping[str, Tensor], values: Mapping[str, object], split: str) -> Split:
    mean, std = (tuple(v) if isinstance(v, list) else v for v in (values["mean"], values["std"]))
    return Split(tensors[f"{split}.images"], tensors[f"{split}.targets"], values["scale"], mean, std)


def own_spec(name: str) -> DataSetSpec:
    """The own data set ``name`` as a registered one. Where it is not here only loading it is an error: links and kept runs
    name data sets of other machines."""

    def load(_root: Path | None) -> DataSet:
        stamp = brought.stamp_of(brought.DATA, name)
        brought.used(brought.DATA, name)
        return _loaded(str(brought.own_file(brought.DATA, name)), stamp, name)

    if not brought.is_here(brought.DATA, name):
        return DataSetSpec(name, f"{name}, not on this machine", "Brought by a user elsewhere.", load, 0, 0)
    found = describe(name)
    return DataSetSpec(name, found.label, words_of(found), load, found.train_size, found.test_size)


def words_of(found: Description) -> str:
    """A data set in a sentence."""
    channels, height, width = found.shape
    colour = "colour" if channels == 3 else "grey"
    return (
        f"Your data: {colour} images of {height}×{width} pixels in {len(found.classes)} classes, {found.train_size:,} to train "
        f"on, {found.test_size:,} to test on."
    )
