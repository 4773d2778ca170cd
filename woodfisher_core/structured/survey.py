"""What a network offers to structured pruning: its channels, what each weight costs to use, and what cannot go and why."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from woodfisher_core.errors import InputError
from woodfisher_core.flops import positions
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.structured.channels import ChannelGroup, all_parameters, dependent_channels
from woodfisher_core.structured.removal import disagreement

# Largest difference, relative to the outputs, between zeroed and removed channels that rounding in float32 explains
# (a sum in another order; measured 1e-6 on ResNet-20).
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Channels:
    """θ's layout, the channel groups that can go, and what they cost.

    Attributes:
        parameters: θ, D entries.
        groups: In model order; ``blocked`` maps a layer to why (some of) its channels are not among them.
        uses: (D,) int64, multiply-adds a sample each weight takes part in: its layer's output positions (padding counted as
            work); zero for biases and BatchNorm.
        num_parameters: All of the model's, θ or not.
        multiply_adds: A sample, in all Linear and Conv layers, excluded ones too.
    """

    parameters: PrunableParameters
    groups: tuple[ChannelGroup, ...]
    blocked: dict[str, str]
    uses: Tensor
    num_parameters: int
    multiply_adds: int

    @property
    def nbytes(self) -> int:
        """Of the tensors, :attr:`countable` among them."""
        own = sum(group.members.nbytes + group.readers.nbytes for group in self.groups)
        return own + self.uses.nbytes + self.parameters.num_prunable

    @cached_property
    def countable(self) -> Tensor:
        """(D,) bool, True for Linear and Conv weights: what "weights" counts."""
        found = torch.zeros(self.parameters.num_prunable, dtype=torch.bool)
        for layer in self.parameters.layers:
            found[layer.slice] = len(layer.shape) > 1
        return found

    @cached_property
    def widths(self) -> dict[str, int]:
        """Set of dependent channels, by the layer it is named after → how many groups it has."""
        return _counts(self.groups)


def find_channels(model: nn.Module, example: Tensor, exclude: Iterable[str] = ()) -> Channels:
    """The channels of ``model`` that can really be removed.

    Every set of them is tried on ``example``: with every other channel zeroed and with it removed the network must compute
    the same; a set that fails (a size written into the model's code, channels mixed in ways the graph does not see) is
    blocked.

    Args:
        model: Left untouched; used in eval mode.
        example: Inputs (n, ...) on the model's device; a few real samples are best.
        exclude: Layers to leave alone, by name or shell pattern: nothing that touches them can go, and they are not in θ.

    Raises:
        InputError: No channel can go; the message says for each layer why.
    """
    channels = channels_if_any(model, example, exclude)
    if not channels.groups:
        why = "; ".join(f"{name}: {reason}" for name, reason in channels.blocked.items())
        raise InputError(
            f"channels: no channel of {type(model).__name__} can be removed. {why}. Expected a hidden layer whose channels only "
            "Linear, Conv and BatchNorm layers read; exclude fewer layers."
        )
    return channels


def channels_if_any(model: nn.Module, example: Tensor, exclude: Iterable[str] = ()) -> Channels:
    """:func:`find_channels` that does not mind where there are none."""
    network = copy.deepcopy(model).eval()
    parameters = all_parameters(network, exclude)
    check_finite(network, parameters)
    groups, blocked = dependent_channels(network, parameters, example)
    groups, failed = _sound(network, parameters, groups, example)
    for name in failed:
        blocked.setdefault(name, "removing them changes what the network computes on the example, or stops it running")
    lone = {name for name, count in _counts(groups).items() if count == 1}
    for name in lone:
        blocked.setdefault(name, "it has one channel, which must stay")
    return Channels(
        parameters,
        tuple(group for group in groups if group.name not in lone),
        blocked,
        positions(network, parameters, example).to("cpu", torch.int64),
        sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds(network, example),
    )


def check_finite(model: nn.Module, parameters: PrunableParameters) -> None:
    """Raises an InputError where one of θ is NaN or infinite."""
    if not torch.isfinite(parameters.flatten(model.state_dict())).all():
        raise InputError("model: its parameters hold NaN or infinite values; expected finite ones.")


def multiply_adds(model: nn.Module, example: Tensor) -> int:
    """A sample, in all Linear and Conv layers of ``model``."""
    return int(positions(model, all_parameters(model), example).sum())


def restless(model: nn.Module) -> InputError:
    """What is said of a network on which nothing can be compared."""
    return InputError(
        f"channels: {type(model).__name__} gives other outputs each time, or NaN, on the example. Switch off what is random "
        "in eval mode, and give an example of real inputs."
    )


def _counts(groups: Iterable[ChannelGroup]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in groups:
        counts[group.name] = counts.get(group.name, 0) + 1
    return counts


def _sound(
    model: nn.Module, parameters: PrunableParameters, groups: tuple[ChannelGroup, ...], example: Tensor
) -> tuple[tuple[ChannelGroup, ...], list[str]]:
    """The groups whose sets pass the trial on ``example``, and the names of those that fail; one trial where all pass."""
    sets: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        sets.setdefault(group.name, []).append(group)
    tried = {name: some[1::2] for name, some in sets.items()}

    def passes(names: Iterable[str]) -> bool:
        some = [group for name in names for group in tried[name]]
        return disagreement(model, parameters, some, example) <= TOLERANCE

    if passes(tried):
        return groups, []
    if not passes(()):
        raise restless(model)
    failed = [name for name in tried if not passes([name])]
    left = [name for name in tried if name not in failed]
    if not passes(left):
        raise InputError(
            f"channels: {', '.join(left)} can lose channels one layer at a time but not together: zeroed and removed channels "
            "give other outputs. Exclude some of these layers."
        )
    return tuple(group for group in groups if group.name not in failed), failed
