"""Taking channels out: a smaller network that computes what the same one with zeros does."""

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch_pruning.ops import module2type
from torch_pruning.pruner.function import PrunerBox

from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.structured.channels import ChannelGroup


def without_channels(model: nn.Module, groups: Sequence[ChannelGroup]) -> nn.Module:
    """A smaller copy of ``model``: Torch-Pruning's layer surgery for every slot of ``groups``, all of a layer at once.

    All at once, because indices are those of the layer as it was. What stays keeps its values and ``requires_grad``.
    """
    smaller = copy.deepcopy(model)
    trainable = {name: parameter.requires_grad for name, parameter in smaller.named_parameters()}
    gone: dict[tuple[str, str], set[int]] = {}
    for group in groups:
        for name, side, index in group.slots:
            gone.setdefault((name, side), set()).add(index)
    # Chosen before anything is cut: a grouped convolution left with one channel a group would pass for a depthwise one.
    surgeons = {name: PrunerBox[module2type(smaller.get_submodule(name))] for name, _ in gone}
    for (name, side), indices in gone.items():
        module, surgeon = smaller.get_submodule(name), surgeons[name]
        cut = surgeon.prune_out_channels if side == "out" else surgeon.prune_in_channels
        cut(module, sorted(indices))
    for name, parameter in smaller.named_parameters():
        parameter.requires_grad_(trainable[name])
    return smaller


def disagreement(
    model: nn.Module, parameters: PrunableParameters, groups: Sequence[ChannelGroup], example: Tensor
) -> float:
    """:func:`difference` where everything that makes up ``groups`` is zero."""
    values = parameters.flatten(model.state_dict())
    for group in groups:
        values[group.members.to(values.device)] = 0.0
    return difference(parameters.placed_in(model, values), groups, example)


def difference(model: nn.Module, groups: Sequence[ChannelGroup], example: Tensor) -> float:
    """Largest difference between the outputs of ``model`` and of it without ``groups``, over the largest output.

    Infinite where the smaller network does not run or gives outputs of another shape, or where an output is not finite.
    ``model`` is in eval mode.
    """
    with torch.no_grad():
        wanted = _tensors(model(example))
        try:
            got = _tensors(without_channels(model, groups)(example))
        except (RuntimeError, ValueError, IndexError):  # sizes written into the model's code
            return float("inf")
    if [tensor.shape for tensor in got] != [tensor.shape for tensor in wanted]:
        return float("inf")
    if not wanted or not all(torch.isfinite(tensor).all() for tensor in wanted):
        return float("inf")
    largest = max(float(tensor.abs().max()) for tensor in wanted)
    error = max(float((a - b).abs().max()) for a, b in zip(got, wanted, strict=True))
    return error / largest if largest else error


def _tensors(outputs: object) -> list[Tensor]:
    """The floating-point tensors in whatever a network returned."""
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, Mapping):
        outputs = outputs.values()
    if isinstance(outputs, Iterable) and not isinstance(outputs, str):
        return [tensor for output in outputs for tensor in _tensors(output)]
    return []
