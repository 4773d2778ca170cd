"""Single weights gone: what the removal of one costs on held-out samples, predicted and measured, alone and compensated.

Predictions as in ``trust``. The OBS statistic beside them is from the Fisher's own samples and has the damping in it: it is what
the method ranks by.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core import scores
from woodfisher_core.experiments.config import PruneConfig
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
from woodfisher_core.experiments.keys import context_keys, digest, source_key
from woodfisher_core.experiments.weights import weight_name
from woodfisher_core.experiments.workspace import Workspace

# Offset between the stream that orders samples and the one that draws weights, so that they never coincide.
WEIGHT_STREAM = 0x7A57
ALONE, COMPENSATED = "alone", "compensated"
# Losses of single weights' removals that are kept, and bytes of each.
KEPT_LOSSES, ENTRY_BYTES = 5000, 200


def single_removals(space: Workspace, config: PruneConfig, count: int, progress: Told | None = None) -> pd.DataFrame:
    """What the removal of single weights costs, predicted and measured: two rows a weight, ``alone`` and ``compensated``.

    ``count`` weights are drawn as :func:`stratified` says, by the config's seed. Columns: ``position`` in the flat vector,
    ``name`` (``fc1[3, 17]``), ``layer``, ``weight``, ``removal`` (alone: the others stay; compensated: the single-weight OBS step
    δ = −w_q F⁻¹e_q/[F⁻¹]_qq), and in nats ``first_order``, ``second_order``, ``predicted`` (their sum), ``statistic``
    (½w²/[F⁻¹]_qq), ``magnitude`` (½w² times the mean curvature: a model that knows no differences), ``measured``.
    """
    config = space.resolve(one_step(config))
    key = removals_key(space, config, count)
    return space.results.get(key, lambda: _single_removals(space, config, count, progress), table_bytes)


def removals_key(space: Workspace, config: PruneConfig, count: int) -> tuple:
    """Under what the workspace keeps the table of this resolved config."""
    parts = context_keys(config)
    return ("single removals", count, config.seed, parts["inverse"], parts["saliency"], samples_read(space, config))


def _single_removals(space: Workspace, config: PruneConfig, count: int, progress: Told | None) -> pd.DataFrame:
    problem, context = space.problem(config), space.context(config)
    exact, diagonal = problem.weights.to(COMPUTE), context.inverse_diagonal()
    chosen = stratified(context.saliency(), count, config.seed)
    base = float(losses(space, config, split(space, config)[1], [exact])[0])

    def told(done: int) -> None:
        if progress:
            progress("networks without one weight", done, 2 * len(chosen))

    found = {
        ALONE: _alone(space, config, exact, chosen, told),
        COMPENSATED: _compensated(space, config, exact, chosen, lambda done: told(len(chosen) + done)),
    }
    curvature = float(context.fisher().diagonal.mean()) * config.mini_batch
    layers = [next(layer.module for layer in problem.parameters.layers if q < layer.end) for q in chosen.tolist()]
    names = [weight_name(problem.parameters, q) for q in chosen.tolist()]
    tables = []
    for removal, terms in found.items():
        first, second, after = (values.cpu().numpy() for values in terms)
        tables.append(
            pd.DataFrame(
                {
                    "position": chosen.cpu().numpy(),
                    "name": names,
                    "layer": layers,
                    "weight": exact[chosen].cpu().numpy(),
                    "removal": removal,
                    "first_order": first,
                    "second_order": second,
                    "predicted": first + second,
                    "statistic": scores.obs(exact, diagonal)[chosen].cpu().numpy(),
                    "magnitude": 0.5 * curvature * exact[chosen].square().cpu().numpy(),
                    "measured": after - base,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _alone(
    space: Workspace, config: PruneConfig, exact: Tensor, chosen: Tensor, told: Callable[[int], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """(−w_q g_q, ½ w_q² F_qq, loss without weight q), each (k,): no other weight moves, so that no block and no λ enters."""
    used, held_out = split(space, config)
    slope, bend = torch.zeros(2, len(chosen), dtype=COMPUTE, device=exact.device)
    for part in space.held_out_rows(config, len(used), held_out):
        columns = part[:, chosen.to(part.device)].to(exact)
        slope += columns.sum(0)
        bend += columns.square().sum(0)
    weights = exact[chosen]
    # The same at all dampings and Fisher samples, which mostly draw the same weights: each is measured once (with what company
    # decides its last bit).
    key, positions = ("losses without one weight", source_key(config), digest(held_out)), chosen.tolist()
    known = space.results.peek(key) or {}
    missing = [q for q in positions if q not in known]
    points = (_without(exact, torch.zeros_like(exact), q) for q in missing)
    before = len(positions) - len(missing)
    measured = losses(space, config, held_out, points, lambda done: told(before + done)).tolist() if missing else []
    fresh = dict(zip(missing, measured, strict=True))
    after = {q: fresh[q] if q in fresh else known[q] for q in positions}
    kept = dict(itertools.islice({**after, **known}.items(), max(KEPT_LOSSES, len(after))))
    space.results.put(key, kept, ENTRY_BYTES * len(kept))
    found = torch.tensor(list(after.values()), dtype=COMPUTE)
    return -weights * slope / len(held_out), 0.5 * weights.square() * bend / len(held_out), found


def _compensated(
    space: Workspace, config: PruneConfig, exact: Tensor, chosen: Tensor, told: Callable[[int], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """(gᵀδ, ½δᵀFδ, loss at w + δ), each (k,), of the single-weight OBS steps δ."""
    context, blocks = space.context(config), space.blocks(config)
    used, held_out = split(space, config)
    inverse, diagonal, found, done = context.inverse(), context.inverse_diagonal(), [], 0
    for part in chosen.split(steps_together(len(exact))):
        basis = torch.zeros(len(exact), len(part), dtype=COMPUTE, device=exact.device)
        basis[part, torch.arange(len(part), device=exact.device)] = -exact[part]
        steps = (inverse.apply(basis) / diagonal[part]).T
        # Asked for anew each time: where they are too large to keep they are made in passing, and gone after one pass.
        first, second = terms_of_steps(space.held_out_rows(config, len(used), held_out), steps, blocks)
        points = (_without(exact, step, q) for step, q in zip(steps, part.tolist(), strict=True))
        after = losses(space, config, held_out, points, lambda here, before=done: told(before + here))
        done += len(part)
        found.append(torch.stack([first, second, after]))
    first, second, after = torch.cat(found, dim=1)
    return first, second, after


def stratified(values: Tensor, count: int, seed: int) -> Tensor:
    """Positions of up to ``count`` of the ``values`` (d,): one from each of as many equal parts of their order, lowest first.

    Each place has a lot of its own from the seed, and of each part the lowest is drawn: where the order changes a little, as it
    does with the damping, most of those drawn stay.
    """
    order = values.argsort(stable=True).cpu().numpy()
    lots = np.random.RandomState((seed + WEIGHT_STREAM) % 2**32).random_sample(len(order))[order]
    edges = np.linspace(0, len(order), min(count, len(order)) + 1).astype(np.int64)
    drawn = [start + lots[start:end].argmin() for start, end in itertools.pairwise(edges)]
    return torch.from_numpy(order[drawn]).to(values.device)


def _without(weights: Tensor, step: Tensor, position: int) -> Tensor:
    """The weights after ``step``, the removed one exactly zero."""
    moved = weights + step
    moved[position] = 0.0
    return moved
