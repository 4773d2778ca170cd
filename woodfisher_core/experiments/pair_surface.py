"""Two weights of a network, all others held fixed: the quadratic model between them, and the loss measured around them."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.context import PruningContext
from woodfisher_core.data import Samples
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.exact_losses import mean_change, pair_losses, sample_losses
from woodfisher_core.experiments.keys import digest, source_key
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.points import points_together
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.two_weights import TwoWeights, places
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Update
from woodfisher_core.timing import best_seconds

# Held-out images the loss is measured on, and points along each side of the grid.
SURFACE_IMAGES = 300
SIDE = 21
# What one row of numbers takes in the cache; generous.
ROW_BYTES = 100


def damped_diagonal(context: PruningContext) -> Tensor:
    """diag F with the damping in it, (d,) float64."""
    return context.curvature().diagonal + context.damping


def pair_of(space: Workspace, config: PruneConfig, first: int, second: int) -> TwoWeights:
    """The model of these two weights with all others held fixed: their 2×2 part of F, damping included."""
    config = space.resolve(config)
    key = _model_key(config, first, second)
    return space.results.get(key, lambda: _pair_of(space, config, first, second), lambda _: 500)


def _model_key(config: PruneConfig, first: int, second: int) -> tuple:
    model = config.replace(sparsity=0.0, pattern=None, update=Update.NONE, update_scale=1.0)
    return ("pair", model, first, second)


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
    """The window ((x from, to), (y from, to)) around the pair: the trained place in its middle, the axis of removal inside.

    It grows with the second weight's move in steps of √2, so that another damping seldom changes it.
    """
    own, move = abs(pair.first), abs(float(pair.removals()["move"].iloc[0]))
    steps = round(2.0 * math.log2(move / own)) if move > own > 0.0 else 0
    across, up = 1.5 * own or 1.0, 1.5 * own * 2.0 ** (0.5 * steps) or 1.0
    return (pair.first - across, pair.first + across), (pair.second - up, pair.second + up)


def surface(
    space: Workspace, config: PruneConfig, first: int, second: int, progress: Progress | None = None
) -> Surface | None:
    """Measures the held-out loss on a grid around two weights, all others fixed; None where no image is held out.

    Settings with the same window share the grid.
    """
    config = space.resolve(config)
    images = _images(space, config)
    if len(images) == 0:
        return None
    problem, pair = space.problem(config), pair_of(space, config, first, second)
    samples, key = problem.train_samples(images), _measured_key(config, images, first, second)
    grid = space.results.get(
        _grid_key(pair, key),
        lambda: _grid(problem, samples, pair, (first, second), progress),
        lambda table: ROW_BYTES * len(table),
    )
    spots = space.results.get(
        ("places", pair, *key),
        lambda: _measured(problem, samples, pair, (first, second)),
        lambda table: ROW_BYTES * len(table),
    )
    return Surface(grid, spots, len(images))


def has_surface(space: Workspace, config: PruneConfig, first: int, second: int) -> bool:
    """Whether the grid of :func:`surface` is kept; not known, and so False, before :func:`pair_of` is."""
    config = space.resolve(config)
    pair = space.results.peek(_model_key(config, first, second))
    if pair is None:
        return False
    key = _measured_key(config, _images(space, config), first, second)
    return space.results.peek(_grid_key(pair, key)) is not None


def surface_seconds(space: Workspace, config: PruneConfig, first: int, second: int) -> float:
    """How long :func:`surface` takes, from a few of its points: the earlier the pair's layers, the longer."""
    config = space.resolve(config)
    problem, images = space.problem(config), _images(space, config)
    if len(images) == 0:
        return 0.0
    samples = problem.train_samples(images)
    points = np.zeros((min(points_together(problem, len(samples)), SIDE), 2))
    some = lambda: pair_losses(problem, samples, (first, second), points)  # noqa: E731 - timed below
    key = ("seconds of a surface", *_measured_key(config, images, first, second))
    return SIDE**2 / len(points) * space.cache.get(key, lambda: best_seconds(some, 1, problem.device), lambda _: 8)


def _images(space: Workspace, config: PruneConfig) -> np.ndarray:
    return space.samples(config)[1][:SURFACE_IMAGES]


def _measured_key(config: PruneConfig, images: np.ndarray, first: int, second: int) -> tuple:
    """What a measured loss depends on beside the place: no more than the network and the images."""
    return (*source_key(config), digest(images), first, second)


def _grid_key(pair: TwoWeights, measured: tuple) -> tuple:
    return ("surface", extent(pair), *measured)


def _grid(
    problem: Problem, samples: Samples, pair: TwoWeights, indices: tuple[int, int], progress: Progress | None
) -> pd.DataFrame:
    (left, right), (low, high) = extent(pair)
    x, y = np.meshgrid(np.linspace(left, right, SIDE), np.linspace(low, high, SIDE))
    found = pair_losses(problem, samples, indices, np.stack([x.ravel(), y.ravel()], axis=1), progress)
    before = float(sample_losses(problem, samples, [problem.weights.to(torch.float64)]).mean())
    return pd.DataFrame({"first": x.ravel(), "second": y.ravel(), "nats": found - before})


def _measured(problem: Problem, samples: Samples, pair: TwoWeights, indices: tuple[int, int]) -> pd.DataFrame:
    """:func:`places` when the first weight goes, with what is ``measured`` there and its ``error``."""
    spots, points = places(pair, 1), [problem.weights.to(torch.float64)]
    for spot in spots.itertuples():
        points.append(points[0].clone())
        points[-1][list(indices)] = points[0].new_tensor([spot.first, spot.second])
    before, *moved = sample_losses(problem, samples, points)
    mean, error = zip(*(mean_change(before, losses) for losses in moved), strict=True)
    return spots.assign(measured=mean, error=error)
