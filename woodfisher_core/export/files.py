"""Results to disk or as bytes: weights and masks as safetensors, the run as JSON beside them and inside."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.parameters import PrunableParameters

Tensors = Mapping[str, Tensor]
Run = Mapping[str, object]


def save_pruned(
    folder: str | Path,
    state: Tensors,
    parameters: PrunableParameters,
    weights: Tensor,
    keep: Tensor,
    run: Run,
    tensors: Tensors | None = None,
    smaller: Tensors | None = None,
    onnx: bytes | None = None,
) -> Path:
    """Writes ``pruned.safetensors`` (see :func:`pruned_bytes`) and ``run.json``; returns the first's path.

    ``smaller`` is the state of the network without the channels that went; where given it goes to ``smaller.safetensors``.
    ``onnx``, where given, goes to ``pruned.onnx``.
    """
    folder = Path(folder)
    files = {"pruned.safetensors": pruned_bytes(state, parameters, weights, keep, run, tensors)}
    if smaller is not None:
        files["smaller.safetensors"] = smaller_bytes(smaller, run)
    if onnx is not None:
        files["pruned.onnx"] = onnx
    files["run.json"] = run_bytes(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise InputError(f"output: cannot write to {folder} ({error}). Choose another --output.") from None
    return folder / "pruned.safetensors"


def pruned_bytes(
    state: Tensors,
    parameters: PrunableParameters,
    weights: Tensor,
    keep: Tensor,
    run: Run,
    tensors: Tensors | None = None,
) -> bytes:
    """A safetensors file: every tensor of ``state``, the pruned ``weights`` (d,) and other changed ``tensors`` in place, and the
    masks ``keep`` (d,) bool, cut into layers, under ``<name>.mask``. ``run`` is in its metadata, its config apart too."""
    written = {**parameters.written_into(state, weights), **(tensors or {})}
    return _packed({**written, **_masks(parameters, keep)}, run)


def masks_bytes(parameters: PrunableParameters, keep: Tensor, run: Run) -> bytes:
    """A safetensors file of the masks alone: bool, True where a weight stays, under ``<name>.mask``."""
    return _packed(_masks(parameters, keep), run)


def smaller_bytes(state: Tensors, run: Run) -> bytes:
    """A safetensors file of the network without the channels that went."""
    return _packed(state, run)


def run_bytes(run: Run) -> bytes:
    """The run's JSON object."""
    return (json.dumps(run, indent=2) + "\n").encode()


def _masks(parameters: PrunableParameters, keep: Tensor) -> dict[str, Tensor]:
    return {f"{name}.mask": mask for name, mask in parameters.unflatten(keep).items()}


def _packed(tensors: Tensors, run: Run) -> bytes:
    """Each tensor in memory of its own: safetensors refuses shared memory."""
    apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(apart, {"format": "pt", "config": json.dumps(run["config"]), "run": json.dumps(run)})
