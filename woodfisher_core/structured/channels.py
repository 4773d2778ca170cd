"""What makes up a channel: everything that must be zero for it to vanish, found by Torch-Pruning's dependency graph.

θ ∈ R^D holds the weights and biases of Linear and Conv layers and γ, β of BatchNorm, in the model's order. A channel's group G
is its filter (a row of the weight), its bias, its γ and β, the input slices of the layers that read it, and the same of every
layer that shares the channel's index with it through additions (residual partners). Groups overlap: a weight between two
channels belongs to both. Fang et al. 2023 (arXiv 2301.12900) describe the graph.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch_pruning.ops import OPTYPE

from woodfisher_core.parameters import PRUNABLE_MODULES, Layer, PrunableParameters

# Nodes of the graph that hold no parameters: the channel passes through them.
PASSING = frozenset(
    {OPTYPE.CONCAT, OPTYPE.SPLIT, OPTYPE.ELEMENTWISE, OPTYPE.RESHAPE, OPTYPE.UNBIND, OPTYPE.EXPAND, OPTYPE.SLICE}
)
# One index of one side ("out" or "in") of the module of that name.
Slot = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channel ``index`` of layer ``name``, the first in model order of all the layers that share it.

    ``members`` (|G|,) int64, ascending, are its places in θ, ``readers`` those of them that read it: the input slices of other
    layers. ``slots`` are the (module, side, index) that disappear with it, the side "out" or "in" (BatchNorm and depthwise
    layers have one side only, "out").
    """

    name: str
    index: int
    members: Tensor
    readers: Tensor
    slots: tuple[Slot, ...]


def all_parameters(model: nn.Module, exclude: Iterable[str] = ()) -> PrunableParameters:
    """θ: weights and biases of Linear and Conv layers, γ and β of BatchNorm, in the model's order.

    Layers that ``exclude`` names (as in :meth:`PrunableParameters.from_model`, which checks it) are left out, bias and all.
    """
    kept = set(PrunableParameters.from_model(model, exclude).names)
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    found: dict[str, Layer] = {}
    offset = 0
    for module in model.modules():
        if isinstance(module, PRUNABLE_MODULES):
            if names_of[id(module.weight)][0] not in kept:
                continue
        elif not isinstance(module, _BatchNorm):
            continue
        for parameter in (module.weight, module.bias):
            if parameter is None:
                continue
            first, *aliases = names_of[id(parameter)]
            if first not in found:
                found[first] = Layer(first, tuple(parameter.shape), offset, type(module).__name__, tuple(aliases))
                offset += parameter.numel()
    return PrunableParameters(tuple(found.values()))


def dependent_channels(
    model: nn.Module, parameters: PrunableParameters, example: Tensor
) -> tuple[tuple[ChannelGroup, ...], dict[str, str]]:
    """The groups of all channels that can go, each channel once, and layer → why (some of) its channels cannot.

    Args:
        model: Any module; traced on a copy, in eval mode.
        parameters: θ; a channel that touches a Linear or Conv layer outside it cannot go.
        example: A batch of inputs, on the model's device.
    """
    network = copy.deepcopy(model).eval().requires_grad_(True)
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            network, example_inputs=example, forward_fn=lambda module, inputs: module(inputs), verbose=False
        )
    modules = dict(network.named_modules())
    tracer = _Tracer(graph, {module: name for name, module in modules.items()}, _fixed(network, parameters))
    sets = _Sets()
    roots = [name for name, module in modules.items() if isinstance(module, PRUNABLE_MODULES)]
    reasons: dict[Slot, str] = {}
    for name in roots:
        if modules[name] not in graph.module2node:
            reasons[name, "out", 0] = "it takes no part in computing the outputs"
            continue
        for index in range(modules[name].weight.shape[0]):
            root = (name, "out", index)
            if root in sets:
                continue
            sets.add(root)
            for slot, reason in tracer.group(modules[name], index):
                if reason:
                    reasons.setdefault(root, reason)
                else:
                    sets.join(root, slot)
    for name in roots:
        _join_same_place(sets, name, modules[name])
    stuck: dict[Slot, str] = {}
    for root, reason in reasons.items():
        stuck.setdefault(sets.find(root), reason)
    places = _Places(modules, parameters, network)
    groups, blocked, order = [], {}, {name: rank for rank, name in enumerate(modules)}
    for top, slots in sets.all():
        owners = [slot for slot in slots if slot[1] == "out" and slot[0] in roots]
        name, _, index = min(owners, key=lambda slot: (order[slot[0]], slot[2]))
        if top in stuck:
            for owner, _, _ in owners:
                blocked.setdefault(owner, stuck[top])
            continue
        readers = places.of([slot for slot in slots if slot[1] == "in"])
        groups.append(ChannelGroup(name, index, places.of(slots), readers, tuple(slots)))
    groups.sort(key=lambda group: (order[group.name], group.index))
    return tuple(groups), {name: blocked[name] for name in roots if name in blocked}


def _groups(module: nn.Module) -> int:
    """How many groups a convolution has; 1 for anything else, whatever it calls ``groups``."""
    return module.groups if isinstance(module, PRUNABLE_MODULES) and not isinstance(module, nn.Linear) else 1


def _fixed(model: nn.Module, parameters: PrunableParameters) -> dict[str, str]:
    """Module → why it must stay as it is: excluded, or sharing a tensor with another."""
    own = {name: layer for layer in parameters.layers for name in (layer.name, *layer.aliases)}
    found = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        layers = [own.get(f"{prefix}{part}") for part, _ in module.named_parameters(recurse=False)]
        if isinstance(module, PRUNABLE_MODULES) and None in layers:
            found[name] = f"{name} is excluded"
        elif _groups(module) > 1 and module.groups == module.out_channels != module.in_channels:
            found[name] = f"{name} reads several channels for each it makes, in groups of their own"
        elif any(layer is not None and layer.aliases for layer in layers):
            found[name] = f"{name} shares its weight with another layer (tied)"
    return found


@dataclass(frozen=True)
class _Tracer:
    """Reads groups off Torch-Pruning's graph under the model's names."""

    graph: torch_pruning.DependencyGraph
    names: dict[nn.Module, str]
    fixed: dict[str, str]

    def group(self, module: nn.Module, index: int) -> Iterator[tuple[Slot, str]]:
        """(slot, "" or why it cannot go) of everything that goes with output channel ``index`` of ``module``."""
        pruner = self.graph.get_pruner_of_module(module)
        for dependency, indices in self.graph.get_pruning_group(module, pruner.prune_out_channels, [index]):
            target, kind = dependency.target.module, dependency.target.type
            side = "out" if self.graph.is_out_channel_pruning_fn(dependency.handler) else "in"
            # A layer whose own output the network returns has no output node behind it.
            last = kind == OPTYPE.OUTPUT or (side == "out" and not dependency.target.outputs)
            parameterless = kind in PASSING or (kind == OPTYPE.PRELU and target.num_parameters == 1)
            if parameterless and not last:
                continue
            name = self.names.get(target, "")
            if last:
                reason = "its channels are outputs of the network"
            elif isinstance(target, (*PRUNABLE_MODULES, _BatchNorm)):
                reason = self.fixed.get(name, "")
            else:
                reason = f"{name or 'a parameter'} ({type(target).__name__}) cannot lose a channel here"
            for place in indices:
                yield (name, side, place), reason


class _Sets:
    """Disjoint sets of slots (union-find)."""

    def __init__(self):
        self._parent: dict[Slot, Slot] = {}

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._parent

    def add(self, slot: Slot) -> None:
        self._parent.setdefault(slot, slot)

    def find(self, slot: Slot) -> Slot:
        """The slot that stands for the set of this one."""
        self.add(slot)
        while self._parent[slot] != slot:
            self._parent[slot] = self._parent[self._parent[slot]]
            slot = self._parent[slot]
        return slot

    def join(self, one: Slot, other: Slot) -> None:
        self._parent[self.find(other)] = self.find(one)

    def all(self) -> Iterator[tuple[Slot, list[Slot]]]:
        """(the slot that stands for it, sorted slots) of every set."""
        found: dict[Slot, list[Slot]] = {}
        for slot in self._parent:
            found.setdefault(self.find(slot), []).append(slot)
        for top, slots in found.items():
            yield top, sorted(slots)


def _join_same_place(sets: _Sets, name: str, module: nn.Module) -> None:
    """A grouped convolution stays one only if every one of its groups loses the channel at the same place."""
    count = _groups(module)
    if count == 1 or module.out_channels == count:
        return
    for side, total in (("out", module.out_channels), ("in", module.in_channels)):
        for place in range(total // count):
            for other in range(place, total, total // count):
                if (name, side, other) in sets and (name, side, place) in sets:
                    sets.join((name, side, place), (name, side, other))


class _Places:
    """From slots to places in θ."""

    def __init__(self, modules: dict[str, nn.Module], parameters: PrunableParameters, model: nn.Module):
        own = {layer.name: layer for layer in parameters.layers}
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._modules = modules
        self._of = {
            id(parameter): torch.arange(own[name].offset, own[name].end).view(own[name].shape)
            for parameter, name in ((p, names[id(p)]) for p in model.parameters())
            if name in own
        }

    def of(self, slots: list[Slot]) -> Tensor:
        """(|G|,) int64, ascending, each place once."""
        none = torch.empty(0, dtype=torch.int64)
        return torch.cat([none, *(piece.reshape(-1) for slot in slots for piece in self._at(*slot))]).unique()

    def _at(self, name: str, side: str, index: int) -> Iterator[Tensor]:
        module = self._modules[name]
        if side == "out":
            for parameter in (module.weight, module.bias):
                if parameter is not None:
                    yield self._of[id(parameter)][index]
            return
        weight = self._of[id(module.weight)]
        groups = _groups(module)
        # Group q of a grouped convolution reads inputs q·I/g to (q+1)·I/g − 1 and makes outputs q·O/g to (q+1)·O/g − 1.
        group, column = divmod(index, weight.shape[1])
        rows = weight.shape[0] // groups
        yield weight[group * rows : (group + 1) * rows, column]
