"""Two weights of a network, all others held fixed: the quadratic model between them, and the loss measured around them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.context import PruningContext
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.exact_losses import mean_change, pair_losses, sample_losses
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.points import points_together
from woodfisher_core.experiments.two_weights import TwoWeights, places
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Update
from woodfisher_core.timing import best_seconds

# Held-out images the loss is measured on, and points along each side of the grid.
SURFACE_IMAGES = 300
SIDE = 21


def damped_diagonal(context: PruningContext) -> Tensor:
    """diag F with the damping in it, (d,) float64."""
    return context.curvature().diagonal + context.damping


def pair_of(space: Workspace, config: PruneConfig, first: int, second: int) -> TwoWeights:
    """The model of these two weights with all others held fixed: their 2×2 part of F, damping included."""
    config = space.resolve(config)
    key = ("pair", *_surface_key(config, first, second)[1:])
    return space.results.get(key, lambda: _pair_of(space, config, first, second), lambda _: 500)


def _pair_of(space: Workspace, config: PruneConfig, first: int, second: int) -> TwoWeights:
    context = space.context(config)
    weights = context.weights.to(torch.float64)
    together = context.fisher().entry(first, second)
    a, b = (float(damped_diagonal(context)[index]) for index in (first, second))
    return TwoWeights(float(weights[first]), float(weights[second]), a, b, together)


@dataclass(frozen=True)
class Surface:
    """The measured loss around a pair: ``grid`` (columns ``first``, ``second``, ``nats``: mean change of the held-out loss), and
    ``places`` (:func:`~woodfisher_core.experiments.two_weights.places` with ``measured`` and its standard
    ``error`` over images beside the model's ``loss``)."""

    grid: pd.DataFrame
    places: pd.DataFrame
    images: int


def extent(pair: TwoWeights) -> tuple[tuple[float, float], tuple[float, float]]:
    """The window ((x from, to), (y from, to)) around the pair: the trained place in its middle, the axis of removal inside."""
    move = abs(float(pair.removals()["move"].iloc[0]))
    across, up = 1.5 * abs(pair.first), 1.5 * max(abs(pair.first), move)
    across, up = (side or 1.0 for side in (across, up))
    return (pair.first - across, pair.first + across), (pair.second - up, pair.second + up)


def surface(
    space: Workspace, config: PruneConfig, first: int, second: int, progress: Progress | None = None
) -> Surface | None:
    """Measures the held-out loss on a grid around two weights, all others fixed; None where no image is held out."""
    config = space.resolve(config)
    key = _surface_key(config, first, second)
    _, held_out = space.samples(config)
    if len(held_out) == 0:
        return None
    make = lambda: _surface(space, config, first, second, held_out[:SURFACE_IMAGES], progress)  # noqa: E731
    return space.results.get(key, make, lambda _: SIDE * SIDE * 24)


def _surface_key(config: PruneConfig, first: int, second: int) -> tuple:
    """What :func:`surface` of a resolved config is kept under: sparsity and update change nothing of it."""
    return ("surface", config.replace(sparsity=0.0, pattern=None, update=Update.NONE, update_scale=1.0), first, second)


def has_surface(space: Workspace, config: PruneConfig, first: int, second: int) -> bool:
    """Whether :func:`surface` is kept."""
    return space.results.peek(_surface_key(space.resolve(config), first, second)) is not None


def surface_seconds(space: Workspace, config: PruneConfig, first: int, second: int) -> float:
    """How long :func:`surface` takes, from a few of its points: the earlier the pair's layers, the longer."""
    config = space.resolve(config)
    problem, (_, held_out) = space.problem(config), space.samples(config)
    if len(held_out) == 0:
        return 0.0
    samples = problem.train_samples(held_out[:SURFACE_IMAGES])
    points = np.zeros((min(points_together(problem, len(samples)), SIDE), 2))
    some = lambda: pair_losses(problem, samples, (first, second), points)  # noqa: E731 - timed below
    key = ("seconds of a surface", *_surface_key(config.replace(damping=1.0, damping_scale="absolute"), first, second))
    return SIDE**2 / len(points) * space.cache.get(key, lambda: best_seconds(some, 1, problem.device), lambda _: 8)


def _surface(
    space: Workspace, config: PruneConfig, first: int, second: int, images: np.ndarray, progress: Progress | None
) -> Surface:
    problem, pair = space.problem(config), pair_of(space, config, first, second)
    (left, right), (low, high) = extent(pair)
    x, y = np.meshgrid(np.linspace(left, right, SIDE), np.linspace(low, high, SIDE))
    spots = places(pair, 1)
    samples = problem.train_samples(images)
    found = pair_losses(problem, samples, (first, second), np.stack([x.ravel(), y.ravel()], axis=1), progress)
    points = [problem.weights.to(torch.float64)]
    for spot in spots.itertuples():
        points.append(points[0].clone())
        points[-1][[first, second]] = points[0].new_tensor([spot.first, spot.second])
    before, *moved = sample_losses(problem, samples, points)
    measured = [mean_change(before, losses) for losses in moved]
    grid = pd.DataFrame({"first": x.ravel(), "second": y.ravel(), "nats": found - float(before.mean())})
    mean, error = zip(*measured, strict=True)
    return Surface(grid, spots.assign(measured=mean, error=error), len(images))
