"""BatchNorm's running statistics: estimated anew on given images, and compared with those that a checkpoint holds.

In eval mode BatchNorm normalises each channel by a stored mean and variance. They are no parameters that training fits but
averages over the inputs it saw: beside good weights they are wrong where the inputs are normalised otherwise than in
training, or where a script let them drift.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from woodfisher_core.errors import InputError

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
# What half of a layer's channels may differ by: a factor on the variance, and standard deviations of the mean. Measured on
# 64 to 2,000 images, worst layer: 1.2 and 0.06 for our trained networks; for the WoodFisher authors' ResNet-20 4.5 and 0.06
# in its first layer, 1.2 and 0.04 in all the others (with images normalised by mean and deviation 0.5 its first layer is off
# by 1.3 only, and its accuracy as stored 81 % instead of 44 %).
VARIANCE_FACTOR = 2.0
MEAN_SHIFT = 0.5


@dataclass(frozen=True)
class Mismatch:
    """A BatchNorm layer whose stored statistics are not those of the images, by medians over its channels.

    ``variance_factor`` (1 or more) is the factor between stored and measured variance, either way; ``mean_shift`` is the
    distance of the means in measured standard deviations.
    """

    layer: str
    variance_factor: float
    mean_shift: float


def reestimate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor] | Tensor]) -> dict[str, Tensor]:
    """Running statistics of every BatchNorm layer, estimated on exactly these images.

    Each layer sees what the layers before it give when they normalise by the batch, as in training; the mean and the
    unbiased variance of the batches are averaged, each batch weighted by its number of images. Dropout stays off.

    Args:
        model: Left as it is, on its device.
        batches: Inputs (n, ...), or (inputs, targets). A batch of a single image is joined with its neighbour.

    Returns:
        ``running_mean``, ``running_var`` and ``num_batches_tracked`` by their names in the state dict; nothing for a
        network without BatchNorm.

    Raises:
        InputError: No images, or too few for a variance.
    """
    copy = deepcopy(model)
    layers = _layers(copy)
    if not layers:
        return {}
    norms, seen = list(layers.values()), 0

    def weighted() -> Iterator[Tensor]:
        nonlocal seen
        # From here on update_bn only feeds the network: it has put all of it in training mode, dropout too.
        copy.eval()
        for inputs in _no_single(batches):
            seen += len(inputs)
            for norm in norms:
                norm.train()
                norm.momentum = len(inputs) / seen  # the running average so far keeps 1 − n/seen
            yield inputs

    try:
        update_bn(weighted(), copy)
    except ValueError as error:
        raise InputError(
            f"BatchNorm: a variance needs more images than {seen} ({error}). Give more, at least two in a batch."
        ) from None
    if not seen:
        raise InputError("BatchNorm: expected images to estimate its statistics on, got none.")
    return {
        _key(name, kind): value for name, norm in layers.items() for kind, value in norm.named_buffers(recurse=False)
    }


def mismatch(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor] | Tensor]) -> tuple[Mismatch, ...]:
    """The BatchNorm layers whose stored statistics are far from those of the images, in the network's order.

    A layer is compared on what it sees where all layers before it normalise rightly, so one bad layer names itself alone.
    Half of its channels must be off, by ``VARIANCE_FACTOR`` or ``MEAN_SHIFT``; some 100 images are enough to tell.

    Raises:
        InputError: As ``reestimate``.
    """
    measured = reestimate(model, batches)
    found = []
    for name, norm in _layers(model).items():
        mean, variance = (measured[_key(name, kind)] for kind in ("running_mean", "running_var"))
        shift = (norm.running_mean - mean).abs() / (variance + norm.eps).sqrt()
        factor = ((norm.running_var + norm.eps) / (variance + norm.eps)).log().abs().exp()
        layer = Mismatch(name, float(factor.median()), float(shift.median()))
        # Not "larger than": statistics that are NaN are no better.
        if not (layer.variance_factor <= VARIANCE_FACTOR and layer.mean_shift <= MEAN_SHIFT):
            found.append(layer)
    return tuple(found)


def _key(layer: str, kind: str) -> str:
    """The name of a layer's buffer in the state dict; the layer that is the whole network has no name."""
    return f"{layer}.{kind}" if layer else kind


def _layers(model: nn.Module) -> dict[str, BatchNorm]:
    """BatchNorm layers with running statistics, by name."""
    norms = {name: module for name, module in model.named_modules() if isinstance(module, BatchNorm)}
    return {name: norm for name, norm in norms.items() if norm.track_running_stats}


def _no_single(batches: Iterable[tuple[Tensor, Tensor] | Tensor]) -> Iterator[Tensor]:
    """Inputs of ``batches``; one image alone, which may have no variance, goes with its neighbour."""
    held = None
    for batch in batches:
        inputs = batch if isinstance(batch, Tensor) else batch[0]
        if held is None:
            held = inputs
        elif min(len(held), len(inputs)) == 1:
            held = torch.cat([held, inputs])
        else:
            yield held
            held = inputs
    if held is not None:
        yield held
