"""One epoch of training: the loop under training from scratch and under fine-tuning with a mask."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from woodfisher_core.data.augmentation import augmented
from woodfisher_core.data.base import Samples
from woodfisher_core.errors import NumericalError
from woodfisher_core.evaluation import Loss


def train_epoch(
    model: nn.Module,
    samples: Samples,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    batch_size: int,
    augment: bool = False,
    bfloat16: bool = False,
    loss: Loss = cross_entropy,
    after_step: Callable[[], None] | None = None,
) -> float:
    """Trains ``model`` in place, in train mode, over all ``samples`` once; returns the mean loss of the epoch.

    The CPU ``generator`` makes the order of the samples and their augmentation; ``after_step()`` is called after each step.
    A last batch of a single sample is left out: BatchNorm has no variance on it.

    Raises:
        NumericalError: The loss became NaN or infinite.
    """
    device = next(model.parameters()).device
    model.train()
    if bfloat16:
        model.to(memory_format=torch.channels_last)  # what bfloat16 convolutions are fast in
    total, count = torch.zeros((), device=device), 0
    for picked in torch.randperm(len(samples), generator=generator).split(batch_size):
        if len(picked) < 2:
            continue
        inputs, targets = samples.inputs[picked], samples.targets[picked].to(device)
        if augment:
            inputs = augmented(inputs, generator)
        if bfloat16 and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            outputs = model(inputs.to(device))
        value = loss(outputs.float() if bfloat16 else outputs, targets)
        value.backward()
        optimizer.step()
        if after_step is not None:
            after_step()
        total, count = total + value.detach() * len(picked), count + len(picked)
    if bfloat16:
        model.to(memory_format=torch.contiguous_format)
    mean = float(total) / max(1, count)  # read once an epoch: each reading waits for the device
    if not math.isfinite(mean):
        raise NumericalError(f"training: the loss became {mean}. Use a lower learning rate.")
    return mean
