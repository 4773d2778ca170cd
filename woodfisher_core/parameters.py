"""Which tensors are prunable, and the one mapping between named layers and the flat vector w ∈ R^d."""

import copy
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn

from woodfisher_core.errors import InputError

PRUNABLE_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


# What to do about a layer of another type.
NOT_PRUNED = "express them through Linear or Conv layers to prune them."


def dense_layers(model: nn.Module) -> list[str]:
    """``name (Type)`` of the layers whose weight matrices this package does not prune: embeddings, recurrent layers, ..."""
    found = []
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if not isinstance(p, nn.parameter.UninitializedParameter)]
        if not isinstance(module, PRUNABLE_MODULES) and any(p.ndim >= 2 for p in own):
            found.append(f"{name or 'the model itself'} ({type(module).__name__})")
    return found


def patterns(exclude: str | Iterable[str]) -> tuple[str, ...]:
    """``exclude`` as a tuple; a single name need not be wrapped."""
    return (exclude,) if isinstance(exclude, str) else tuple(exclude)


@dataclass(frozen=True)
class Layer:
    """One prunable weight tensor and its place [offset, offset + numel) in the flat vector.

    ``aliases`` are further names of the same tensor (tied weights): it is pruned once and written under each.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    kind: str
    aliases: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def end(self) -> int:
        """The first position after it."""
        return self.offset + self.numel

    @property
    def slice(self) -> slice:
        return slice(self.offset, self.end)

    @property
    def module(self) -> str:
        """The module's name: ``fc1`` for ``fc1.weight``."""
        return self.name.rpartition(".")[0] or self.name


@dataclass(frozen=True)
class PrunableParameters:
    """Named layers laid end to end in one flat vector, in the model's own order."""

    layers: tuple[Layer, ...]

    @classmethod
    def from_model(cls, model: nn.Module, exclude: Iterable[str] = ()) -> "PrunableParameters":
        """Weights of all Linear and Conv layers of ``model``, less those named in ``exclude``.

        ``exclude`` holds module names (``fc1``), parameter names (``fc1.weight``) or shell patterns (``layer1.*``).
        Biases and BatchNorm parameters are never pruned, as in the paper.
        """
        exclude = patterns(exclude)
        names_of: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names_of.setdefault(id(parameter), []).append(name)
        candidates: dict[str, tuple[Tensor, str, tuple[str, ...]]] = {}
        for module_name, module in model.named_modules():
            if not isinstance(module, PRUNABLE_MODULES):
                continue
            if id(module.weight) not in names_of:
                raise InputError(
                    f"layer {module_name!r}: its weight is computed (parametrised or already wrapped for pruning), not a "
                    "plain parameter. Make it permanent first (torch.nn.utils.prune.remove or "
                    "parametrize.remove_parametrizations)."
                )
            if isinstance(module.weight, nn.parameter.UninitializedParameter):
                raise InputError(
                    f"layer {module_name!r}: its size is not known yet. Run one batch through the model first."
                )
            if module.weight.dtype not in (torch.float32, torch.float64):
                raise InputError(
                    f"layer {module_name!r}: expected float32 or float64 weights, got {module.weight.dtype}. Convert the model "
                    "first, model.float()."
                )
            first, *aliases = names_of[id(module.weight)]
            candidates.setdefault(first, (module.weight, type(module).__name__, tuple(aliases)))

        dropped: set[str] = set()
        for pattern in exclude:
            hits = {
                name
                for name, (_, _, aliases) in candidates.items()
                for known in (name, *aliases)
                if fnmatch.fnmatchcase(known, pattern) or fnmatch.fnmatchcase(known.rpartition(".")[0], pattern)
            }
            if not hits:
                known = ", ".join(n.rpartition(".")[0] for n in candidates) or "none"
                raise InputError(f"exclude: no prunable layer matches {pattern!r}; prunable layers are {known}.")
            dropped |= hits
        layers, offset = [], 0
        for name, (weight, kind, aliases) in candidates.items():
            if name in dropped:
                continue
            layers.append(Layer(name, tuple(weight.shape), offset, kind, aliases))
            offset += weight.numel()
        if not layers:
            others = dense_layers(model)
            instead = f" Its other weights cannot be pruned: {', '.join(others)}; {NOT_PRUNED}" if others else ""
            raise InputError(
                "no prunable weights: expected at least one Linear or Conv layer that is not excluded, "
                f"got {type(model).__name__} with exclude={list(exclude)}.{instead}"
            )
        return cls(tuple(layers))

    @cached_property
    def num_prunable(self) -> int:
        """d, the length of the flat vector."""
        return sum(layer.numel for layer in self.layers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers)

    @property
    def modules(self) -> tuple[str, ...]:
        """What people call the layers: ``fc1`` for ``fc1.weight``."""
        return tuple(layer.module for layer in self.layers)

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A new (d,) vector from tensors under the layers' names (a state dict will do)."""
        return torch.cat([tensors[layer.name].detach().reshape(-1) for layer in self.layers])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of the (d,) vector ``flat`` in the layers' shapes, under their first names."""
        if flat.shape != (self.num_prunable,):
            raise InputError(f"flat vector: expected shape ({self.num_prunable},), got {tuple(flat.shape)}.")
        return {layer.name: flat[layer.slice].view(layer.shape) for layer in self.layers}

    def checked_mask(self, keep: Tensor) -> Tensor:
        """``keep`` where it is a (d,) bool mask; an InputError otherwise."""
        if keep.shape != (self.num_prunable,) or keep.dtype is not torch.bool:
            raise InputError(
                f"keep: expected a bool mask of shape ({self.num_prunable},), got {keep.dtype} of shape {tuple(keep.shape)}."
            )
        return keep

    def written_into(self, state: Mapping[str, Tensor], flat: Tensor) -> dict[str, Tensor]:
        """A copy of ``state`` in which the prunable weights, under all their names, come from ``flat``."""
        result = {name: tensor.detach().clone() for name, tensor in state.items()}
        for layer, tensor in zip(self.layers, self.unflatten(flat).values(), strict=True):
            for name in (layer.name, *layer.aliases):
                if name in result:
                    result[name] = tensor.to(result[name]).clone()
        return result

    def placed_in(self, model: nn.Module, flat: Tensor, tensors: Mapping[str, Tensor] | None = None) -> nn.Module:
        """A copy of ``model`` with the (d,) weights ``flat``, and other ``tensors`` by name, in place."""
        copied = copy.deepcopy(model)
        copied.load_state_dict({**self.written_into(copied.state_dict(), flat), **(tensors or {})})
        return copied
