"""Trust: where the quadratic model is true. What it predicts against what is measured, weight by weight, along the pruning
step, and at growing sparsity; all of it on held-out training samples unless said otherwise, losses in float64.

Predictions are gᵀδ and ½δᵀFδ from gradients on the same held-out samples, without damping, in the Fisher's blocks: what is
tested is the quadratic model itself, not how well a few samples stand for others. The OBS statistic beside them is from the
Fisher's own samples and has the damping in it: it is what the method ranks by.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core import scores
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.cost import PROBES
from woodfisher_core.experiments.exact_losses import mean_losses
from woodfisher_core.experiments.keys import context_keys, digest, fisher_key, result_key, source_key
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.fisher import Blocks
from woodfisher_core.gradients import gradient_rows
from woodfisher_core.hessian import hessian_products
from woodfisher_core.loss_change import own_quadratic_terms, quadratic_terms
from woodfisher_core.options import Labels, Update
from woodfisher_core.timing import best_seconds

COMPUTE = torch.float64
# Bytes of float64 steps, or of projections of gradients on steps, held together.
STEP_BYTES = 1 << 26
# Images whose graph is held while it is differentiated twice.
HESSIAN_BATCH = 128
# Images by which the price of a loss is told.
PROBE_IMAGES = 64
SMALL = 20_000
# Offset between the stream that orders samples and the one that draws weights, so that they never coincide.
WEIGHT_STREAM = 0x7A57
ALONE, COMPENSATED = "alone", "compensated"
HELD_OUT, FISHER_SAMPLES = "held-out samples", "Fisher samples"
PATH = tuple(round(0.05 * step, 2) for step in range(25))
SPARSITIES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)

Told = Callable[[str, int, int], None]


def one_step(config: PruneConfig) -> PruneConfig:
    """``config`` pruned by WoodFisher's statistic in one step from the dense network, whose BatchNorm statistics stay.

    That is all a quadratic model around the dense weights can speak of.
    """
    own = {} if config.method == "woodfisher" else {"method": "woodfisher", "update": None, "update_scale": 1.0}
    return config.replace(**own, stages=1, batchnorm_images=0)


def terms_of_steps(rows: Iterable[Tensor], steps: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """(gᵀδ, ½ Σ_blocks ‖G_b δ_b‖²/N) of each of the ``steps`` (k, d), (k,) float64 each, from row chunks (c, d) of G.

    The same as :func:`woodfisher_core.loss_change.quadratic_terms` of each step, all of them in few products.
    """
    steps = steps.to(COMPUTE)
    widest = max(run.count * len(steps) for run in blocks.runs)
    together = max(1, STEP_BYTES // (8 * max(steps.shape[1], widest)))
    total = torch.zeros(steps.shape[1], dtype=COMPUTE, device=steps.device)
    second, count = torch.zeros(len(steps), dtype=COMPUTE, device=steps.device), 0
    for part in (some.to(steps) for piece in rows for some in piece.split(together)):
        count += len(part)
        total += part.sum(0)
        for run in blocks.runs:
            if run.size == 1:
                second += steps[:, run.slice].square() @ part[:, run.slice].square().sum(0)
                continue
            columns = part[:, run.slice].unflatten(1, (run.count, run.size)).transpose(0, 1)
            moved = torch.bmm(columns, steps[:, run.slice].unflatten(1, (run.count, run.size)).permute(1, 2, 0))
            second += moved.square_().sum((0, 1))
    if count == 0:
        raise InputError("predicted loss change: expected at least one gradient row, got none.")
    return steps @ total / count, 0.5 * second / count


def single_removals(space: Workspace, config: PruneConfig, count: int, progress: Told | None = None) -> pd.DataFrame:
    """What the removal of single weights costs, predicted and measured: two rows a weight, ``alone`` and ``compensated``.

    ``count`` weights are drawn, one from each of as many equal parts of the statistic's order, by the config's seed. Columns:
    ``position`` in the flat vector, ``layer``, ``weight``, ``removal`` (alone: the others stay; compensated: the single-weight
    OBS step δ = −w_q F⁻¹e_q/[F⁻¹]_qq), and in nats ``first_order``, ``second_order``, ``predicted`` (their sum), ``statistic``
    (½w²/[F⁻¹]_qq), ``magnitude`` (½w² times the mean curvature: a model that knows no differences), ``measured``.
    """
    config = space.resolve(one_step(config))
    key = _removals_key(space, config, count)
    return space.results.get(key, lambda: _single_removals(space, config, count, progress), _bytes)


def _removals_key(space: Workspace, config: PruneConfig, count: int) -> tuple:
    parts = context_keys(config)
    return ("single removals", count, config.seed, parts["inverse"], parts["saliency"], _samples_read(space, config))


def _single_removals(space: Workspace, config: PruneConfig, count: int, progress: Told | None) -> pd.DataFrame:
    problem, context = space.problem(config), space.context(config)
    used, held_out = _held_out(space, config)
    exact, statistic = problem.weights.to(COMPUTE), context.saliency()
    chosen = stratified(statistic, count, config.seed)
    inverse, diagonal = context.inverse(), context.inverse_diagonal()
    together, blocks = max(1, STEP_BYTES // (8 * len(exact))), space.blocks(config)
    found = {removal: [] for removal in (ALONE, COMPENSATED)}
    base = float(_losses(space, config, held_out, [exact])[0])
    done = 0
    for part in chosen.split(together):
        basis = torch.zeros(len(exact), len(part), dtype=COMPUTE, device=exact.device)
        basis[part, torch.arange(len(part), device=exact.device)] = -exact[part]
        for removal in found:
            steps = (basis if removal == ALONE else inverse.apply(basis) / diagonal[part]).T
            # Asked for anew each time: where they are too large to keep they are made in passing, and gone after one pass.
            first, second = terms_of_steps(space.held_out_rows(config, len(used), held_out), steps, blocks)

            def told(here: int, before: int = done) -> None:
                if progress:
                    progress("networks without one weight", before + here, 2 * len(chosen))

            points = (_without(exact, step, q) for step, q in zip(steps, part, strict=True))
            after = _losses(space, config, held_out, points, told)
            done += len(part)
            found[removal].append(torch.stack([first, second, after - base], dim=1))
    curvature = float(context.fisher().diagonal.mean()) * config.mini_batch
    layers = [next(layer.module for layer in problem.parameters.layers if q < layer.end) for q in chosen.tolist()]
    tables = []
    for removal, pieces in found.items():
        first, second, measured = torch.cat(pieces).T.cpu().numpy()
        tables.append(
            pd.DataFrame(
                {
                    "position": chosen.cpu().numpy(),
                    "layer": layers,
                    "weight": exact[chosen].cpu().numpy(),
                    "removal": removal,
                    "first_order": first,
                    "second_order": second,
                    "predicted": first + second,
                    "statistic": scores.obs(exact, diagonal)[chosen].cpu().numpy(),
                    "magnitude": 0.5 * curvature * exact[chosen].square().cpu().numpy(),
                    "measured": measured,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def stratified(values: Tensor, count: int, seed: int) -> Tensor:
    """Positions of up to ``count`` of the ``values`` (d,): one from each of as many equal parts of their order, lowest first."""
    order = values.argsort(stable=True).cpu()
    edges = np.linspace(0, len(order), min(count, len(order)) + 1).astype(np.int64)
    drawn = np.random.RandomState((seed + WEIGHT_STREAM) % 2**32).random_sample(len(edges) - 1)
    places = edges[:-1] + (drawn * np.diff(edges)).astype(np.int64)
    return order[torch.from_numpy(places)].to(values.device)


def step_path(space: Workspace, config: PruneConfig, progress: Told | None = None) -> pd.DataFrame:
    """Loss change at w + tδ for t of ``PATH``, δ the config's whole step: t = 1 is the pruned network.

    Columns: ``t``, ``samples`` (held-out or Fisher), ``predicted`` (t gᵀδ + t² ½δᵀFδ on those samples) and ``measured``,
    nats; ``hessian``, the parabola with the exact Hessian and gradient in the Fisher's place (NaN on Fisher samples); and
    ``magnitude``, what magnitude pruning of as many weights without an update costs along its own path (measured).
    """
    config = space.resolve(one_step(config))
    used, held_out = _held_out(space, config)

    def make() -> pd.DataFrame:
        step = space.outcome(config).weights.to(COMPUTE) - space.problem(config).weights.to(COMPUTE)
        inside = own_quadratic_terms(space.context(config).fisher(), step, config.mini_batch)
        outside = quadratic_terms(space.held_out_rows(config, len(used), held_out), step, space.blocks(config))
        exactly = _exact_terms(space, config, step, held_out)
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
    return space.results.get(("step path", fisher_key(config), *keys, _samples_read(space, config)), make, _bytes)


def _along(space: Workspace, config: PruneConfig, progress: Told | None) -> dict[str, np.ndarray]:
    """By kind of samples, the loss at w + tδ less that at w for each t of ``PATH``, δ the config's step."""

    def make() -> dict[str, np.ndarray]:
        exact, found = space.problem(config).weights.to(COMPUTE), {}
        step = space.outcome(config).weights.to(COMPUTE) - exact
        for samples, indices in zip((FISHER_SAMPLES, HELD_OUT), _held_out(space, config), strict=True):

            def told(here: int, samples: str = samples) -> None:
                if progress:
                    progress(f"points along the step of {config.method}, {samples}", here, len(PATH))

            losses = _losses(space, config, indices, (exact + t * step for t in PATH), told).cpu().numpy()
            found[samples] = losses - losses[0]
        return found

    return space.results.get(_along_key(space, config), make, lambda _: 16 * len(PATH))


def _along_key(space: Workspace, config: PruneConfig) -> tuple:
    return ("along the step", result_key(config), _samples_read(space, config))


def _exact_terms(space: Workspace, config: PruneConfig, step: Tensor, indices: np.ndarray) -> tuple[float, float]:
    """(∇Lᵀδ, ½δᵀHδ) on these training samples and their own labels: what the best of all quadratic models would say."""
    problem = space.problem(config)
    samples = problem.train_samples(indices)
    batches = list(samples.batches(HESSIAN_BATCH))
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
    used, held_out = _held_out(space, config)

    def make() -> pd.DataFrame:
        exact = space.problem(config).weights.to(COMPUTE)
        base = float(_losses(space, config, held_out, [exact])[0])
        lines, waiting = [], space.outcomes(config, sparsities)
        together = max(1, STEP_BYTES // (8 * len(exact)))
        while some := list(itertools.islice(waiting, together)):
            points = torch.stack([outcome.weights for outcome in some]).to(COMPUTE)
            rows = space.held_out_rows(config, len(used), held_out)
            first, second = terms_of_steps(rows, points - exact, space.blocks(config))
            measured = _losses(space, config, held_out, points) - base
            removed = [outcome.mask.sparsity for outcome in some]
            lines += zip(removed, *(x.tolist() for x in (first, second, first + second, measured)), strict=True)
            progress("sparsities", len(lines), len(sparsities))
        columns = ["sparsity", "first_order", "second_order", "predicted", "measured"]
        table = pd.DataFrame(lines, columns=columns)
        table.insert(0, "method", config.method)
        table.insert(1, "update", config.update.value)
        return table

    return space.results.get(_growth_key(space, config, sparsities), make, _bytes)


def _growth_key(space: Workspace, config: PruneConfig, sparsities: tuple[float, ...]) -> tuple:
    return ("growth", result_key(config), config.block_size, sparsities, _samples_read(space, config))


def networks_to_run(
    space: Workspace, config: PruneConfig, count: int, updates: Sequence[Update] = tuple(Update)
) -> int:
    """On how many images, over all networks together, losses are still to be measured for what the Trust page shows."""
    config = space.resolve(one_step(config))
    used, held_out = _held_out(space, config)
    images = 0
    if space.results.peek(_removals_key(space, config, count)) is None:
        images += (2 * min(count, space.problem(config).parameters.num_prunable) + 1) * len(held_out)
    for one in (config, _magnitude(config)):
        if space.results.peek(_along_key(space, one)) is None:
            images += len(PATH) * (len(held_out) + len(used))
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
    once = lambda: _losses(space, config, some, points)  # noqa: E731 - timed below
    key = ("seconds a float64 image", config.model, str(problem.device))
    return space.cache.get(
        key, lambda: best_seconds(once, PROBES, problem.device) / len(some) / len(points), lambda _: 8
    )


def _held_out(space: Workspace, config: PruneConfig) -> tuple[np.ndarray, np.ndarray]:
    """(Fisher samples, held-out samples), of which there must be some."""
    used, held_out = space.samples(config)
    if not len(held_out):
        raise InputError(
            f"held-out samples: expected at least one training image that the Fisher does not use, but it uses all "
            f"{len(used):,}. Lower the Fisher samples N."
        )
    return used, held_out


def _samples_read(space: Workspace, config: PruneConfig) -> tuple:
    """What a prediction or measurement on the config's samples depends on beyond network, data and step."""
    used, held_out = _held_out(space, config)
    drawn = None if config.labels is Labels.TRUE else (config.seed, len(used))
    return (source_key(config), digest(used), digest(held_out), drawn)


def _losses(
    space: Workspace,
    config: PruneConfig,
    indices: np.ndarray,
    points: Iterable[Tensor],
    told: Callable[[int], None] | None = None,
) -> Tensor:
    """Mean losses (k,) on these training samples at each of k weight vectors (d,), which may be made on the way."""
    problem = space.problem(config)
    found = mean_losses(problem, problem.train_samples(indices), points, told)
    values = found.to(problem.weights.device, COMPUTE)
    if not torch.isfinite(values).all():
        raise NumericalError(
            "measured loss: NaN or infinite, so large is the step. Use a larger damping or a lower sparsity."
        )
    return values


def _without(weights: Tensor, step: Tensor, position: Tensor) -> Tensor:
    """The weights after ``step``, the removed one exactly zero."""
    moved = weights + step
    moved[position] = 0.0
    return moved


def _bytes(table: pd.DataFrame) -> int:
    return int(table.memory_usage(deep=True).sum())
