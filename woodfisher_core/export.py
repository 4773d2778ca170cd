"""Results to disk: weights and masks as safetensors, the run as JSON beside them."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.parameters import PrunableParameters


def save_pruned(
    folder: str | Path,
    state: Mapping[str, Tensor],
    parameters: PrunableParameters,
    weights: Tensor,
    keep: Tensor,
    run: Mapping[str, object],
    tensors: Mapping[str, Tensor] | None = None,
    smaller: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes ``pruned.safetensors`` (every tensor of ``state``, pruned weights and other changed ``tensors`` in place,
    masks under ``<name>.mask``) and ``run.json``; returns the first's path.

    ``smaller`` is the state of the network without the channels that went; where given it goes to ``smaller.safetensors``.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = {**parameters.written_into(state, weights), **(tensors or {})}
        tensors = {name: t.cpu().contiguous() for name, t in written.items()}
        masks = {f"{name}.mask": mask.cpu().contiguous() for name, mask in parameters.unflatten(keep).items()}
        path = folder / "pruned.safetensors"
        config = json.dumps(run["config"])
        about = {"format": "pt", "config": config}
        save_file({**tensors, **masks}, str(path), metadata=about)
        if smaller is not None:
            apart = {
                name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in smaller.items()
            }
            save_file(apart, str(folder / "smaller.safetensors"), metadata=about)
        (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"output: cannot write to {folder} ({error}). Choose another --output.") from None
    return path
