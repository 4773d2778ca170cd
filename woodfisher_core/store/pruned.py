"""A run's weights and mask as one artefact, in safetensors: tensors and names, nothing that could run when read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.store import artefacts

# Under which name a run's record keeps it.
NAME = "pruned.safetensors"


@dataclass(frozen=True)
class Pruned:
    """``weights`` (d,) and ``keep`` (d,) bool of the prunable weights, and the shapes of their ``layers`` by name, in order."""

    weights: Tensor
    keep: Tensor
    layers: Mapping[str, tuple[int, ...]]


def put_pruned(folder: Path, pruned: Pruned) -> dict[str, object]:
    """Keeps ``pruned``; returns ``sha256`` and ``bytes``, as :class:`RunRecord` names an artefact.

    Raises:
        InputError: The shapes do not fit each other; StoreError: it cannot be kept.
    """
    _check(pruned)
    tensors = {"weights": pruned.weights, "keep": pruned.keep}
    flat = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    layers = json.dumps([[name, list(shape)] for name, shape in pruned.layers.items()])
    return artefacts.put(folder, save(flat, metadata={"format": "pt", "layers": layers}))


def get_pruned(folder: Path, sha256: str) -> Pruned:
    """What :func:`put_pruned` kept, on the CPU.

    Raises:
        StoreError: It is not there, damaged, or another kind of file.
    """
    artefacts.verify(folder, sha256)
    path = artefacts.path_of(folder, sha256)
    try:
        with safe_open(str(path), framework="pt") as file:
            layers = {name: _shape(shape) for name, shape in json.loads((file.metadata() or {})["layers"])}
            found = Pruned(file.get_tensor("weights"), file.get_tensor("keep"), layers)
        _check(found)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"store: the file {path} of a run holds no pruned weights ({error}).") from None
    return found


def _shape(values: Sequence[int]) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"expected a shape, got {values!r}")
    return tuple(values)


def _check(pruned: Pruned) -> None:
    size = sum(prod(shape) for shape in pruned.layers.values())
    if pruned.weights.shape != (size,) or pruned.keep.shape != (size,) or pruned.keep.dtype != torch.bool:
        raise InputError(
            f"artefact: expected {size:,} weights and as many booleans for these layers, got {tuple(pruned.weights.shape)} and "
            f"{tuple(pruned.keep.shape)} {pruned.keep.dtype}."
        )
