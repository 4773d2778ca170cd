"""Trains the networks that ship with this package and writes their model cards."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from woodfisher_core.checkpoints import state_hash
from woodfisher_core.data import find_root, get_dataset
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation, evaluate
from woodfisher_core.models import ModelSpec, get_model
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.training import train


def train_and_save(
    name: str,
    folder: Path,
    data_dir: str | None = None,
    seed: int = 0,
    epochs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Evaluation]:
    """Trains network ``name`` by its recipe; writes ``<name>.safetensors`` and ``<name>.md`` into ``folder``."""
    spec = get_model(name)
    recipe = dataclasses.replace(spec.recipe, seed=seed, epochs=epochs or spec.recipe.epochs)
    data_spec = get_dataset(spec.dataset)
    data = data_spec.load(find_root(data_spec, data_dir))
    model = train(spec.build, data.train.samples(), recipe, progress=progress)
    result = evaluate(model, data.test.samples().batches(2000))
    state = model.state_dict()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.safetensors"
        save_file(state, str(path), metadata={"format": "pt"})
        card = _card(spec, recipe, data_spec.source, result, state)
        (folder / f"{name}.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise InputError(f"output: cannot write to {folder} ({error}). Choose another --output.") from None
    return path, result


def _card(spec: ModelSpec, recipe, source: str, result: Evaluation, state: dict[str, torch.Tensor]) -> str:
    model = spec.build()
    parameters = PrunableParameters.from_model(model)
    layers = ", ".join(f"{layer.name} {'×'.join(map(str, layer.shape))}" for layer in parameters.layers)
    command = f"python -m woodfisher_core train --model {spec.name} --seed {recipe.seed} --epochs {recipe.epochs}"
    return f"""# {spec.name}

{spec.description}

| | |
|---|---|
| data | {spec.dataset} ({source}) |
| test accuracy | {result.accuracy:.2f} % ± {result.standard_error:.2f} (binomial standard error, {result.num_samples:,} images) |
| test loss | {result.loss:.4f} nats |
| prunable weights | {parameters.num_prunable:,}: {layers} |
| other parameters | {sum(p.numel() for p in model.parameters()) - parameters.num_prunable:,} (biases, BatchNorm) |
| seed | {recipe.seed} |
| recipe | Adam, {recipe.epochs} epochs, batch {recipe.batch_size}, learning rate {recipe.learning_rate:g} (cosine) |
| weight decay | {recipe.weight_decay:g} |
| sha256 of the tensors | `{state_hash(state)}` |
| made with | torch {torch.__version__.split("+")[0]}, CPU, {torch.get_num_threads()} threads of {os.cpu_count()} |
| command | `{command} --output woodfisher_core/models/weights` |

Intended for learning and for experiments on pruning; not for reading real handwriting.
"""
