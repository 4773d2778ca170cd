"""The loop that trains the shipped networks: Adam, cosine learning rate, one seed for everything random."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from woodfisher_core.data.base import Samples
from woodfisher_core.models.base import TrainingRecipe


def train(
    build: Callable[[], nn.Module],
    samples: Samples,
    recipe: TrainingRecipe,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> nn.Module:
    """A freshly built network trained on ``samples``, in eval mode; ``progress(done, total)`` is called each epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # initialisation, inside a fork so that the caller's stream is untouched
        model = build()
    order = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    model.train()
    for epoch in range(recipe.epochs):
        for picked in torch.randperm(len(samples), generator=order).split(recipe.batch_size):
            if len(picked) < 2:  # BatchNorm has no variance on one sample
                continue
            optimizer.zero_grad()
            cross_entropy(model(samples.inputs[picked]), samples.targets[picked]).backward()
            optimizer.step()
        scheduler.step()
        if progress:
            progress(epoch + 1, recipe.epochs)
    return model.eval()
