"""The loop that trains the shipped networks: Adam or SGD, cosine learning rate, one seed for everything random."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from woodfisher_core.data.base import Samples
from woodfisher_core.epoch import train_epoch
from woodfisher_core.models.base import TrainingRecipe
from woodfisher_core.snapshots import check_same, plain, read_snapshot, write_snapshot

MOMENTUM = 0.9
# Share of the steps in which SGD's rate rises: a fresh network does not bear the full rate at once (Goyal et al. 2017).
WARM_UP = 0.15


def train(
    build: Callable[[], nn.Module],
    samples: Samples,
    recipe: TrainingRecipe,
    *,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[int, float], None] | None = None,
    snapshot: Path | None = None,
) -> nn.Module:
    """A freshly built network trained on ``samples``, in eval mode.

    Args:
        build: Makes the network.
        samples: The training set.
        recipe: Hyper-parameters, the seed among them.
        progress: Called after each epoch with (epochs done, epochs in all).
        report: Called after each epoch with (epochs done, mean training loss of that epoch in nats).
        snapshot: A file written after each epoch; where it exists the training goes on from it, to the same weights.

    Raises:
        InputError: ``snapshot`` is damaged or of another recipe.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # initialisation, inside a fork so that the caller's stream is untouched
        model = build()
    order = torch.Generator().manual_seed(recipe.seed)
    steps = sum(1 for start in range(0, len(samples), recipe.batch_size) if len(samples) - start > 1)
    optimizer, scheduler = _descent(model, recipe, steps)
    done = 0 if snapshot is None else _resume(snapshot, recipe, model, optimizer, scheduler, order)
    for epoch in range(done, recipe.epochs):
        mean = train_epoch(
            model,
            samples,
            optimizer,
            order,
            batch_size=recipe.batch_size,
            augment=recipe.augment,
            bfloat16=recipe.precision == "bfloat16",
            after_step=scheduler.step if recipe.optimizer == "sgd" else None,
        )
        if recipe.optimizer == "adam":
            scheduler.step()
        if snapshot is not None:
            _save(snapshot, recipe, model, optimizer, scheduler, order, epoch + 1)
        if report:
            report(epoch + 1, mean)
        if progress:
            progress(epoch + 1, recipe.epochs)
    return model.eval()


def _descent(model: nn.Module, recipe: TrainingRecipe, steps: int):
    """(optimizer, learning-rate scheduler); the scheduler counts epochs for Adam, steps for SGD (``steps`` an epoch)."""
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    last = max(1, steps * recipe.epochs)
    rise = max(1, round(WARM_UP * last))

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - rise) / max(1, last - rise))))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _save(file: Path, recipe: TrainingRecipe, model, optimizer, scheduler, order, done: int) -> None:
    """Writes everything the next epoch starts from."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    state = optimizer.state_dict()
    for index, remembered in state["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in remembered.items() if value is not None}
    about = {"recipe": asdict(recipe), "done": done, "rate": scheduler.state_dict(), "groups": state["param_groups"]}
    write_snapshot(file, tensors | {"order": order.get_state()}, about)


def _resume(file: Path, recipe: TrainingRecipe, model, optimizer, scheduler, order) -> int:
    """Takes up the snapshot in ``file``, if there is one; returns the epochs it has behind it."""
    if not file.is_file():
        return 0
    tensors, about = read_snapshot(file)
    check_same(file, plain(asdict(recipe)), about["recipe"])
    remembered: dict[int, dict[str, Tensor]] = {}
    for name in tensors:
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            remembered.setdefault(int(index), {})[key] = tensors[name]
    model.load_state_dict({name: tensors[f"model/{name}"] for name in model.state_dict()})
    optimizer.load_state_dict({"state": remembered, "param_groups": about["groups"]})
    scheduler.load_state_dict(about["rate"])
    order.set_state(tensors["order"])
    return about["done"]
