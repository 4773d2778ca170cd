"""One network at many weight vectors: networks of Linear layers go through several at once."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from woodfisher_core.data import Samples
from woodfisher_core.evaluation import Evaluation, evaluation_of
from woodfisher_core.experiments.problem import Problem

# Numbers held while points are measured together, and how many more the widest activation of an image has than the image
# itself, roughly.
HELD = 1 << 22
WIDENING = 8


def points_together(problem: Problem, images: int) -> int:
    """How many weight vectors' networks fit into one pass."""
    widest = max(layer.numel for layer in problem.parameters.layers)
    return max(1, HELD // (widest + WIDENING * images * problem.test.inputs[0].numel()))


def at_points(
    problem: Problem, images: int, points: Iterable[Tensor], function: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """``function(point)`` (...) of some points (d,) at a time, stacked (k, ...); it sends ``images`` through the network."""
    linear = all(layer.kind == nn.Linear.__name__ for layer in problem.parameters.layers)
    # Convolutions gain nothing by it.
    together = points_together(problem, images) if linear else 1
    at_once, waiting = vmap(function), iter(points)
    while some := list(itertools.islice(waiting, together)):
        yield at_once(torch.stack(some)) if len(some) > 1 else function(some[0]).unsqueeze(0)


def evaluations(problem: Problem, samples: Samples, points: Iterable[Tensor]) -> Iterator[Evaluation]:
    """:meth:`Problem.evaluate` at each of ``points`` (d,)."""

    def outputs(point: Tensor) -> Tensor:
        own = problem.parameters.unflatten(point.to(problem.device))
        with torch.no_grad():
            return torch.cat([functional_call(problem.model, own, (inputs,)) for inputs, _ in samples.for_evaluation()])

    for some in at_points(problem, len(samples), points, outputs):
        yield from (evaluation_of(each, samples.targets) for each in some)
