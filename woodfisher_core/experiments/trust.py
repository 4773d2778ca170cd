"""Trust: where the quadratic model is true. What it predicts against what is measured, along the pruning step and at growing
sparsity (weight by weight: ``removals``); all of it on held-out training samples unless said otherwise, losses in float64.

Predictions are gᵀδ and ½δᵀFδ from gradients on the same held-out samples, without damping, in the Fisher's blocks: what is
tested is the quadratic model itself, not how well a few samples stand for others.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.cost import PROBES
from woodfisher_core.experiments.held_out import (
    COMPUTE,
    Told,
    losses,
    one_step,
    samples_read,
    split,
    steps_together,
    table_bytes,
    terms_of_steps,
)
from woodfisher_core.experiments.keys import digest, fisher_key, result_key, source_key
from woodfisher_core.experiments.removals import removals_key
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.gradients import gradient_rows
from woodfisher_core.hessian import hessian_products
from woodfisher_core.loss_change import own_quadratic_terms, quadratic_terms
from woodfisher_core.options import Labels, Update
from woodfisher_core.timing import best_seconds

# Images whose graph is held while it is differentiated twice.
HESSIAN_BATCH = 128
# Images by which the price of a loss is told.
PROBE_IMAGES = 64
SMALL = 20_000
HELD_OUT, FISHER_SAMPLES = "held-out samples", "Fisher samples"
PATH = tuple(round(0.05 * step, 2) for step in range(25))
SPARSITIES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def step_path(space: Workspace, config: PruneConfig, progress: Told | None = None) -> pd.DataFrame:
    """Loss change at w + tδ for t of ``PATH``, δ the config's whole step: t = 1 is the pruned network.

    Columns: ``t``, ``samples`` (held-out or Fisher), ``predicted`` (t gᵀδ + t² ½δᵀFδ on those samples) and ``measured``,
    nats; ``hessian``, the parabola with the exact Hessian and gradient in the Fisher's place (NaN on Fisher samples); and
    ``magnitude``, what magnitude pruning of as many weights without an update costs along its own path (measured).
    """
    config = space.resolve(one_step(config))
    used, held_out = split(space, config)

    def make() -> pd.DataFrame:
        step = space.outcome(config).weights.to(COMPUTE) - space.problem(config).weights.to(COMPUTE)
        inside = own_quadratic_terms(space.context(config).fisher(), step, config.mini_batch)
        outside = quadratic_terms(space.held_out_rows(config, len(used), held_out), step, space.blocks(config))
        known = outside.first_order if config.labels is Labels.TRUE else None
        exactly = _exact_terms(space, config, step, held_out, known)
        measured, rivals = (_along(space, one, progress) for one in (config, _magnitude(config)))
        times, tables = np.array(PATH), []
        for samples, terms in ((HELD_OUT, outside), (FISHER_SAMPLES, inside)):
            slope, bend = exactly if samples == HELD_OUT else (np.nan, np.nan)
            columns = {
                "t": times,
                "samples": samples,
                "predicted": times * terms.first_order + times**2 * terms.second_order,
                "hessian": times * slope + times**2 * bend,
                "measured": measured[samples],
                "magnitude": rivals[samples],
            }
            tables.append(pd.DataFrame(columns))
        return pd.concat(tables, ignore_index=True)

    keys = (result_key(one) for one in (config, _magnitude(config)))
    return space.results.get(("step path", fisher_key(config), *keys, samples_read(space, config)), make, table_bytes)


def _along(space: Workspace, config: PruneConfig, progress: Told | None) -> dict[str, np.ndarray]:
    """By kind of samples, the loss at w + tδ less that at w for each t of ``PATH``, δ the config's step."""

    def make(samples: str, indices: np.ndarray) -> np.ndarray:
        def told(here: int) -> None:
            if progress:
                progress(f"points along the step of {config.method}, {samples}", here, len(PATH))

        exact = space.problem(config).weights.to(COMPUTE)
        step = space.outcome(config).weights.to(COMPUTE) - exact
        measured = losses(space, config, indices, (exact + t * step for t in PATH), told).cpu().numpy()
        return measured - measured[0]

    kinds = zip((FISHER_SAMPLES, HELD_OUT), split(space, config), strict=True)
    return {
        samples: space.results.get(
            _along_key(config, indices), partial(make, samples, indices), lambda found: found.nbytes
        )
        for samples, indices in kinds
    }


def _along_key(config: PruneConfig, indices: np.ndarray) -> tuple:
    return ("along the step", result_key(config), source_key(config), digest(indices))


def _exact_terms(
    space: Workspace, config: PruneConfig, step: Tensor, indices: np.ndarray, slope: float | None
) -> tuple[float, float]:
    """(∇Lᵀδ, ½δᵀHδ) on these training samples and their own labels: what the best of all quadratic models would say.

    ``slope`` is the first of them, where it is known.
    """
    problem = space.problem(config)
    samples = problem.train_samples(indices)
    batches = list(samples.batches(HESSIAN_BATCH))
    if slope is None:
        rows = gradient_rows(problem.model, problem.parameters, batches)
        slope = sum(float((piece.to(step) @ step).sum()) for piece in rows) / len(samples)
    curved = hessian_products(problem.model, problem.parameters, batches, step, dtype=COMPUTE)
    return slope, 0.5 * float(curved @ step.to(curved))


def growth(
    space: Workspace,
    config: PruneConfig,
    updates: Sequence[Update] = tuple(Update),
    sparsities: Sequence[float] = SPARSITIES,
    progress: Told | None = None,
) -> pd.DataFrame:
    """Held-out loss change at growing sparsity, for each update of WoodFisher's masks, and for magnitude without one.

    Columns: ``method``, ``update``, ``sparsity`` (removed fraction of the weights), ``first_order``, ``second_order``,
    ``predicted`` (their sum, on the same samples) and ``measured``, nats.
    """
    tables = []
    variants = _variants(space, config, updates)
    for index, variant in enumerate(variants):

        def told(phase: str, done: int, total: int, before: int = index * len(sparsities)) -> None:
            if progress:
                progress(phase, before + done, len(variants) * len(sparsities))

        tables.append(_growth(space, variant, tuple(sparsities), told))
    return pd.concat(tables, ignore_index=True)


def _variants(space: Workspace, config: PruneConfig, updates: Sequence[Update]) -> list[PruneConfig]:
    """The resolved configs behind each line of :func:`growth`."""
    base = space.resolve(one_step(config)).replace(pattern=None, sparsity=0.5, update_scale=1.0)
    # The scale of the setting in focus is the independent update's own.
    scale = config.update_scale if config.update is Update.INDEPENDENT else 1.0
    scales = {Update.INDEPENDENT: scale}
    own = [base.replace(update=update, update_scale=scales.get(update, 1.0)) for update in updates]
    return [*own, _magnitude(base)]


def _magnitude(config: PruneConfig) -> PruneConfig:
    """The baseline at the same setting."""
    return config.replace(method="magnitude", update=Update.NONE, update_scale=1.0)


def _growth(space: Workspace, config: PruneConfig, sparsities: tuple[float, ...], progress: Told) -> pd.DataFrame:
    used, held_out = split(space, config)

    def make() -> pd.DataFrame:
        exact = space.problem(config).weights.to(COMPUTE)
        base = float(losses(space, config, held_out, [exact])[0])
        lines, waiting = [], space.outcomes(config, sparsities)
        together = steps_together(len(exact))
        while some := list(itertools.islice(waiting, together)):
            points = torch.stack([outcome.weights for outcome in some]).to(COMPUTE)
            rows = space.held_out_rows(config, len(used), held_out)
            first, second = terms_of_steps(rows, points - exact, space.blocks(config))
            measured = losses(space, config, held_out, points) - base
            removed = [outcome.mask.sparsity for outcome in some]
            lines += zip(removed, *(x.tolist() for x in (first, second, first + second, measured)), strict=True)
            progress("sparsities", len(lines), len(sparsities))
        columns = ["sparsity", "first_order", "second_order", "predicted", "measured"]
        table = pd.DataFrame(lines, columns=columns)
        table.insert(0, "method", config.method)
        table.insert(1, "update", config.update.value)
        return table

    return space.results.get(_growth_key(space, config, sparsities), make, table_bytes)


def _growth_key(space: Workspace, config: PruneConfig, sparsities: tuple[float, ...]) -> tuple:
    return ("growth", result_key(config), config.block_size, sparsities, samples_read(space, config, own=False))


def networks_to_run(
    space: Workspace, config: PruneConfig, count: int, updates: Sequence[Update] = tuple(Update)
) -> int:
    """On how many images, over all networks together, losses are still to be measured for what the Trust page shows.

    At most: which single weights will be drawn, and so how many of their losses are known, is not known before.
    """
    config = space.resolve(one_step(config))
    used, held_out = split(space, config)
    images = 0
    if space.results.peek(removals_key(space, config, count)) is None:
        images += (2 * min(count, space.problem(config).parameters.num_prunable) + 1) * len(held_out)
    for one in (config, _magnitude(config)):
        for indices in (used, held_out):
            if space.results.peek(_along_key(one, indices)) is None:
                images += len(PATH) * len(indices)
    for variant in _variants(space, config, updates):
        if space.results.peek(_growth_key(space, variant, SPARSITIES)) is None:
            images += (len(SPARSITIES) + 1) * len(held_out)
    return images


def seconds_an_image(space: Workspace, config: PruneConfig) -> float:
    """Seconds one image takes through one network in float64, measured once a network."""
    problem = space.problem(config)
    # A small network's images cost next to nothing beside the call itself, which many images and networks share.
    small = problem.parameters.num_prunable <= SMALL
    some = np.arange(min(4 * PROBE_IMAGES if small else PROBE_IMAGES, len(problem.dataset.train)))
    points = [problem.weights] * (8 if small else 1)
    once = lambda: losses(space, config, some, points)  # noqa: E731 - timed below
    key = ("seconds a float64 image", config.model, str(problem.device))
    return space.cache.get(
        key, lambda: best_seconds(once, PROBES, problem.device) / len(some) / len(points), lambda _: 8
    )
