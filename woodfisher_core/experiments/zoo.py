"""Trains the networks that ship with this package and writes their model cards."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from woodfisher_core.checkpoints import state_hash
from woodfisher_core.data import DataSetSpec, find_root, get_dataset
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation, evaluate
from woodfisher_core.models import ModelSpec, get_model
from woodfisher_core.models.base import TrainingRecipe
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.training import train


def train_and_save(
    name: str,
    folder: Path,
    data_dir: str | None = None,
    seed: int = 0,
    epochs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    dataset: str | None = None,
    report: Callable[[int, float], None] | None = None,
    snapshot: Path | None = None,
) -> tuple[Path, Evaluation]:
    """Trains network ``name`` by its recipe; writes ``<name>.safetensors`` and ``<name>.md`` into ``folder``.

    ``dataset`` is one of those the network reads, its first by default; ``report`` and ``snapshot`` are ``train``'s.
    """
    spec = get_model(name)
    recipe = dataclasses.replace(spec.recipe, seed=seed, epochs=epochs or spec.recipe.epochs)
    data_spec = get_dataset(spec.check_dataset(dataset or spec.dataset))
    data = data_spec.load(find_root(data_spec, data_dir))
    model = train(spec.build, data.train.samples(), recipe, progress=progress, report=report, snapshot=snapshot)
    result = evaluate(model, data.test.samples().for_evaluation())
    state = model.state_dict()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.safetensors"
        save_file(state, str(path), metadata={"format": "pt"})
        card = _card(spec, recipe, data_spec, result, state)
        (folder / f"{name}.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise InputError(f"output: cannot write to {folder} ({error}). Choose another --output.") from None
    return path, result


def _card(
    spec: ModelSpec, recipe: TrainingRecipe, data: DataSetSpec, result: Evaluation, state: dict[str, torch.Tensor]
) -> str:
    model = spec.build()
    parameters = PrunableParameters.from_model(model)
    layers = ", ".join(f"{layer.name} {'×'.join(map(str, layer.shape))}" for layer in parameters.layers)
    command = f"python -m woodfisher_core train --model {spec.name}"
    if data.name != spec.dataset:
        command += f" --dataset {data.name}"
    command += f" --seed {recipe.seed} --epochs {recipe.epochs}"
    noise = f"± {result.standard_error:.2f} on {data.label} (binomial standard error, {result.num_samples:,} images)"
    return f"""# {spec.name}

{spec.description}

| | |
|---|---|
| data | {data.name}: {data.label} ({data.source}) |
| test accuracy | {result.accuracy:.2f} % {noise} |
| test loss | {result.loss:.4f} nats |
| prunable weights | {parameters.num_prunable:,}: {layers} |
| other parameters | {sum(p.numel() for p in model.parameters()) - parameters.num_prunable:,} (biases, BatchNorm) |
| seed | {recipe.seed} |
| recipe | {_recipe(recipe)} |
| weight decay | {recipe.weight_decay:g} |
| sha256 of the tensors | `{state_hash(state)}` |
| made with | torch {torch.__version__.split("+")[0]}, CPU, {torch.get_num_threads()} threads of {os.cpu_count()} |
| command | `{command} --output woodfisher_core/models/weights` |

Intended for learning and for experiments on pruning; not for use on images of the world.
"""


def _recipe(recipe: TrainingRecipe) -> str:
    """The recipe in words."""
    optimizer, rate = {
        "adam": ("Adam", "(cosine)"),
        "sgd": ("SGD with Nesterov momentum 0.9", "at the peak (linear warm-up, cosine)"),
    }[recipe.optimizer]
    words = (
        f"{optimizer}, {recipe.epochs} epochs, batch {recipe.batch_size}, learning rate {recipe.learning_rate:g} {rate}"
    )
    if recipe.augment:
        words += ", random shifts of 4 pixels and mirror images"
    if recipe.precision != "float32":
        words += f", products in {recipe.precision}"
    return words
