"""Three curvatures of the same few weights: the exact Hessian, and the Fisher with true and with sampled labels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import digest, source_key
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.hessian import hessian_products
from woodfisher_core.options import Labels
from woodfisher_core.parameters import Layer, PrunableParameters
from woodfisher_core.sampling import label_uniforms

COMPUTE = torch.float64
LARGEST = 64
# Images whose graph is held while it is differentiated twice.
HESSIAN_BATCH = 256


@dataclass(frozen=True)
class BlockCurvatures:
    """(B, B) float64 matrices in nats per squared weight over the same ``num_images`` images, no damping in any of them.

    ``hessian`` is exact, at the true labels; ``true`` is the empirical Fisher (1/N) Σ gₙgₙᵀ with their labels, ``sampled`` the
    one with labels drawn from the network's own predictions; ``positions`` (B,) within the ``layer``.
    """

    layer: str
    positions: np.ndarray
    hessian: np.ndarray
    true: np.ndarray
    sampled: np.ndarray
    num_images: int


@dataclass(frozen=True)
class Likeness:
    """How like two matrices are: ``correlation`` of their entries, ``cosine`` ⟨A,B⟩/‖A‖‖B‖ (Frobenius), ``size`` ‖A‖/‖B‖.

    NaN where one of them is zero, or all its entries are equal (correlation).
    """

    correlation: float
    cosine: float
    size: float


def block_curvatures(
    space: Workspace, config: PruneConfig, layer: str, size: int, place: float = 0.0, images: int | None = None
) -> BlockCurvatures:
    """The curvatures of ``size`` consecutive weights of ``layer`` (a module's name), on the config's Fisher samples.

    Args:
        space: Where data and results are kept.
        config: Network, data, samples and seed; its damping, block size and labels are not read.
        layer: One of the prunable layers.
        size: B, at most ``LARGEST``; a smaller layer gives all it has.
        place: Where in the layer they begin: 0 at its first weight, 1 so that they end with its last.
        images: Only so many of the Fisher samples; all by default.
    """
    config = space.resolve(config)
    problem = space.problem(config)
    one = _layer(problem, layer)
    if not 1 <= size <= LARGEST:
        raise InputError(f"block: expected 1 to {LARGEST} weights, got {size}.")
    if not 0.0 <= place <= 1.0:
        raise InputError(f"block: expected a place from 0 to 1 within the layer, got {place}.")
    size = min(size, one.numel)
    first = round(place * (one.numel - size))
    used = space.samples(config)[0][:images]
    key = ("block curvatures", *source_key(config), layer, first, size, digest(used), config.seed)

    def make() -> BlockCurvatures:
        return _block_curvatures(problem, one, slice(first, first + size), used, config.seed)

    return space.cache.get(key, make, lambda found: 3 * found.hessian.nbytes)


def _block_curvatures(problem: Problem, layer: Layer, picked: slice, used: np.ndarray, seed: int) -> BlockCurvatures:
    samples = problem.train_samples(used)
    # Of that layer alone: nothing further back is differentiated.
    alone = PrunableParameters((Layer(layer.name, layer.shape, 0, layer.kind, layer.aliases),))
    basis = torch.zeros(layer.numel, picked.stop - picked.start, dtype=COMPUTE, device=problem.weights.device)
    basis[picked].fill_diagonal_(1.0)
    hessian = hessian_products(problem.model, alone, list(samples.batches(HESSIAN_BATCH)), basis, dtype=COMPUTE)[picked]
    fishers = []
    for options in ({"labels": Labels.TRUE}, {"labels": Labels.SAMPLED, "uniforms": label_uniforms(len(used), seed)}):
        rows = gradient_matrix(problem.model, alone, samples.batches(1024), len(used), **options)[:, picked].to(COMPUTE)
        fishers.append(_array(rows.T @ rows / len(used)))
    positions = np.arange(picked.start, picked.stop)
    return BlockCurvatures(layer.module, positions, _array((hessian + hessian.T) / 2), *fishers, len(used))


def likeness(matrix: np.ndarray, other: np.ndarray) -> Likeness:
    """How like ``matrix`` is to ``other``, both (B, B)."""
    first, second = matrix.ravel(), other.ravel()
    norms = np.linalg.norm(first), np.linalg.norm(second)
    spread = first.std() * second.std()
    correlation = ((first - first.mean()) * (second - second.mean())).mean() / spread if spread > 0 else np.nan
    cosine = first @ second / (norms[0] * norms[1]) if min(norms) > 0 else np.nan
    return Likeness(float(correlation), float(cosine), float(norms[0] / norms[1]) if norms[1] > 0 else np.nan)


def _layer(problem: Problem, name: str) -> Layer:
    for layer in problem.parameters.layers:
        if name in (layer.module, layer.name):
            return layer
    known = ", ".join(layer.module for layer in problem.parameters.layers)
    raise InputError(f"layer: expected one of {known}, got {name!r}.")


def _array(matrix: Tensor) -> np.ndarray:
    return matrix.cpu().numpy()
