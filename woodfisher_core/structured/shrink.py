"""The smaller network behind any pruned one: every channel that nothing reads is cut out.

A channel's outputs reach the rest of the network through its readers alone: the input slices of the layers after it, of all its
partners across residual sums too. Where all of these are zero, its filter, bias, γ and β may hold what they like, as after
training on with a mask, which moves the biases of channels that are gone. Cutting a channel out takes its filter along, which may
have been the last reader of channels before it: they go next.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from woodfisher_core.errors import InputError
from woodfisher_core.structured.channels import ChannelGroup
from woodfisher_core.structured.removal import difference, without_channels
from woodfisher_core.structured.survey import (
    TOLERANCE,
    Channels,
    channels_if_any,
    check_finite,
    multiply_adds,
    restless,
)


@dataclass(frozen=True)
class Sizes:
    """All parameters, and multiply-adds a sample in Linear and Conv layers, of a smaller network and of the one before."""

    parameters: int
    parameters_before: int
    multiply_adds: int
    multiply_adds_before: int


def shrunk(model: nn.Module, example: Tensor, channels: Channels | None = None) -> nn.Module:
    """A smaller copy of ``model`` without the channels that nothing reads; it computes the same (in eval mode, to rounding).

    It does not matter how the zeros came about: structured or unstructured, gradual, or by hand. At least one channel of each
    set of dependent channels stays; a layer that cannot lose channels (see :func:`find_channels`, which says why) stays as it
    is. Where nothing is to be removed the copy equals the model.

    Args:
        model: Left untouched. The copy has its training mode and its ``requires_grad``.
        example: Inputs (n, ...) on the model's device; a few real samples are best: the outputs are compared on them.
        channels: Those of this architecture, from :func:`channels_if_any` at any finite weights, where they are known.

    Raises:
        InputError: The model holds NaN or infinite values, or gives other outputs each time.
    """
    network = copy.deepcopy(model).eval()
    if channels is None:
        channels = channels_if_any(network, example)
    else:
        check_finite(network, channels.parameters)
    groups = _unread(network, channels, channels.groups)
    if difference(network, groups, example) > TOLERANCE:
        if difference(network, [], example) > TOLERANCE:
            raise restless(model)
        # Something beside layers reads them (a norm over channels, say), which zeros in the filter had kept out of sight.
        names = {group.name for group in groups}
        unsound = {
            name
            for name in names
            if difference(network, [group for group in groups if group.name == name], example) > TOLERANCE
        }
        groups = _unread(network, channels, [group for group in channels.groups if group.name not in unsound])
        if not unsound or difference(network, groups, example) > TOLERANCE:
            raise InputError(
                f"channels: {', '.join(sorted(names))} have channels that no layer reads, and yet {type(model).__name__} gives "
                "other outputs without them. Give an example of real inputs, or mix channels by layers only."
            )
    return without_channels(model, groups)


def sizes(model: nn.Module, smaller: nn.Module, example: Tensor) -> Sizes:
    """What cutting ``model`` down to ``smaller`` frees; ``example`` (n, ...) are inputs on their device."""
    return Sizes(
        sum(parameter.numel() for parameter in smaller.parameters()),
        sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds(smaller, example),
        multiply_adds(model, example),
    )


def _unread(model: nn.Module, channels: Channels, groups: Iterable[ChannelGroup]) -> list[ChannelGroup]:
    """Those of ``groups`` without a reader that is not zero, in the order they are found; one of each set stays."""
    used = channels.parameters.flatten(model.state_dict()).cpu() != 0
    left, waiting = dict(channels.widths), list(groups)
    found: list[ChannelGroup] = []
    more = True
    while more:
        more = False
        for group in list(waiting):
            if left[group.name] > 1 and not used[group.readers].any():
                used[group.members] = False
                left[group.name] -= 1
                waiting.remove(group)
                found.append(group)
                more = True
    return found
