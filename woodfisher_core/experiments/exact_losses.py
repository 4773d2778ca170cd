"""Losses to float64's precision: one weight among thousands changes the loss by less than float32 can tell."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from woodfisher_core.data import Samples
from woodfisher_core.devices import compute_device
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.points import at_points, points_together
from woodfisher_core.experiments.problem import Problem


def exact_losses(problem: Problem, samples: Samples) -> Callable[..., Tensor]:
    """(weights (d,), other tensors by name) → the loss of each sample (n,), in float64 where the device has it."""
    dtype = _dtype(problem)
    state = _state(problem, dtype)

    def losses(weights: Tensor, tensors: Mapping[str, Tensor] | None = None) -> Tensor:
        own = problem.parameters.unflatten(weights.to(problem.device, dtype))
        own |= {name: _as(tensor, dtype) for name, tensor in (tensors or {}).items()}
        with torch.no_grad():
            parts = [
                cross_entropy(
                    functional_call(problem.model, {**state, **own}, (inputs.to(dtype),)), targets, reduction="none"
                )
                for inputs, targets in samples.for_evaluation()
            ]
        return torch.cat(parts)

    return losses


def sample_losses(problem: Problem, samples: Samples, points: Iterable[Tensor]) -> Tensor:
    """Loss of each sample (k, n) at each of k weight vectors (d,)."""
    losses, dtype = exact_losses(problem, samples), _dtype(problem)
    return torch.cat(list(at_points(problem, len(samples), (point.to(dtype) for point in points), losses)))


def mean_losses(
    problem: Problem, samples: Samples, points: Iterable[Tensor], told: Callable[[int], None] | None = None
) -> Tensor:
    """Mean losses (k,) at each of k weight vectors (d,), which may be made on the way; ``told`` how many are done."""
    losses, found, done = exact_losses(problem, samples), [], 0
    for some in at_points(problem, len(samples), points, lambda point: losses(point).mean()):
        found.append(some)
        done += len(some)
        if told:
            told(done)
    return torch.cat(found)


def mean_change(before: Tensor, after: Tensor) -> tuple[float, float]:
    """(mean, its standard error) of the change of each sample's loss; the error of one sample is 0."""
    change = after - before
    return float(change.mean()), float(change.std()) / len(change) ** 0.5 if len(change) > 1 else 0.0


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _dtype(problem: Problem) -> torch.dtype:
    return torch.float64 if compute_device(problem.device) == problem.device else torch.float32


def _state(problem: Problem, dtype: torch.dtype) -> dict[str, Tensor]:
    """The network's tensors in ``dtype``, each tied one under one name."""
    aliases = {alias for layer in problem.parameters.layers for alias in layer.aliases}
    return {name: _as(tensor, dtype) for name, tensor in problem.model.state_dict().items() if name not in aliases}


def pair_losses(
    problem: Problem,
    samples: Samples,
    pair: tuple[int, int],
    points: np.ndarray,
    progress: Progress | None = None,
) -> np.ndarray:
    """Mean loss (n,) with the two weights of ``pair`` at each of ``points`` (n, 2), all others as they are.

    Layers before the pair's are the same at all points, and computed once for many.
    """
    dtype = _dtype(problem)
    state, parameters = _state(problem, dtype), problem.parameters
    weights = problem.weights.to(problem.device, dtype)
    units = []
    for index in pair:
        unit = torch.zeros_like(weights)
        unit[index] = 1.0
        units.append(
            {
                layer.name: unit[layer.slice].view(layer.shape)
                for layer in parameters.layers
                if layer.offset <= index < layer.end
            }
        )
    batches = [(inputs.to(dtype), targets) for inputs, targets in samples.for_evaluation()]
    own = {**state, **parameters.unflatten(weights)}

    def loss(step: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        moved = dict(own)
        for part, unit in zip(step, units, strict=True):
            for name, direction in unit.items():
                moved[name] = moved[name] + part * direction
        return cross_entropy(functional_call(problem.model, moved, (inputs,)), targets, reduction="sum")

    together, done, found = vmap(loss, in_dims=(0, None, None)), 0, []
    steps = torch.as_tensor(points, device=problem.device).to(dtype) - weights[list(pair)]
    with torch.no_grad():
        for some in steps.split(points_together(problem, len(samples))):
            found.append(sum(together(some, inputs, targets) for inputs, targets in batches) / len(samples))
            done += len(some)
            if progress:
                progress("points", done, len(steps))
    return torch.cat(found).cpu().numpy()
