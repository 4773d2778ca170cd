"""All chosen weights removed together: what the survivors' move is worth, and how the independent one differs from the joint."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.errors import NumericalError
from woodfisher_core.evaluation import CONFIDENT, Evaluation, paired_standard_error
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.exact_losses import exact_losses, mean_change, sample_losses
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.points import evaluations
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.methods import Outcome
from woodfisher_core.options import Update

UPDATES = (Update.NONE, Update.INDEPENDENT, Update.JOINT)
SCALED = "scaled"
# Moves below this share of a weight's mean size are rounding: float32 weights have no more than seven digits.
ROUNDING = 1e-9
# What one row of numbers takes in the cache; generous.
ROW_BYTES = 500


def update_configs(config: PruneConfig) -> dict[str, PruneConfig]:
    """``config`` with each update, by name; ``scaled`` is the independent one where the config's update is shortened."""
    found = {update.value: config.replace(update=update, update_scale=1.0) for update in UPDATES}
    if config.update is Update.INDEPENDENT and config.update_scale != 1.0:
        found[SCALED] = config
    return found


def update_effects(
    space: Workspace, config: PruneConfig, sparsities: Sequence[float], progress: Progress | None = None
) -> pd.DataFrame:
    """One row an update and sparsity, masks the same for all updates.

    Columns: ``update``, ``sparsity`` removed, ``accuracy`` (percent, test), ``standard_error`` (points, of the test set),
    ``gain`` over no update with its paired error ``gain_error`` (points), ``loss`` and ``loss_error`` (held-out images after
    less before, nats; NaN without any), ``moved`` ‖δ_S‖/‖w_S‖. An update that breaks down numerically has no rows. ``config``
    must not name a pattern.
    """
    base = space.resolve(config)
    return space.results.get(
        _key(base, sparsities),
        lambda: _effects(space, base, sparsities, progress),
        lambda table: ROW_BYTES * (1 + len(table)),
    )


def has_effects(space: Workspace, config: PruneConfig, sparsities: Sequence[float]) -> bool:
    """Whether :func:`update_effects` is kept."""
    return space.results.peek(_key(space.resolve(config), sparsities)) is not None


def effects_now(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    """The same columns at the config's own sparsity or pattern, one row an update."""
    config = space.resolve(config)
    return space.results.get(
        ("update effects", _plain(config)),
        lambda: _effects_now(space, config),
        lambda table: ROW_BYTES * (1 + len(table)),
    )


def _effects_now(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    configs, found = update_configs(config), {}
    for name, one in configs.items():
        try:
            found[name] = space.outcome(one)
        except NumericalError:
            continue
    changes = _changes(space, config, list(found.values()))
    results = {name: space.evaluation(configs[name]) for name in found}
    rows = [
        _effect(space, config, name, outcome, results[name], results["none"], change)
        for (name, outcome), change in zip(found.items(), changes, strict=True)
    ]
    return pd.DataFrame(rows)


def _key(config: PruneConfig, sparsities: Sequence[float]) -> tuple:
    return ("update effects", _plain(config).replace(sparsity=0.0), tuple(sparsities))


def _plain(config: PruneConfig) -> PruneConfig:
    """All updates are drawn whatever the config's own is, unless it is shortened."""
    return config if SCALED in update_configs(config) else config.replace(update=Update.NONE, update_scale=1.0)


def _effects(
    space: Workspace, config: PruneConfig, sparsities: Sequence[float], progress: Progress | None
) -> pd.DataFrame:
    problem, configs = space.problem(config), update_configs(config)
    reference: dict[float, Evaluation] = {}
    rows = []
    for number, (name, one) in enumerate(configs.items()):
        try:
            reached = space.reached(one, sparsities)
            outcomes = list(space.outcomes(one, reached, progress=progress))
        except NumericalError:
            continue
        changes = _changes(space, config, outcomes)
        of_each = zip(reached, outcomes, _results(problem, outcomes), changes, strict=True)
        for place, (sparsity, outcome, result, change) in enumerate(of_each, start=1):
            reference.setdefault(sparsity, result)
            rows.append(_effect(space, config, name, outcome, result, reference[sparsity], change))
            if progress:
                progress("updates", number * len(sparsities) + place, len(configs) * len(sparsities))
    return pd.DataFrame(rows)


def _results(problem: Problem, outcomes: Sequence[Outcome]) -> Iterable[Evaluation]:
    """On the test set."""
    if any(outcome.tensors for outcome in outcomes):
        return (problem.evaluate(outcome.weights, problem.test, outcome.tensors) for outcome in outcomes)
    return evaluations(problem, problem.test, (outcome.weights for outcome in outcomes))


def _changes(space: Workspace, config: PruneConfig, outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    """Of each of ``outcomes`` the mean change of the held-out losses and its standard error, NaN where nothing is held out."""
    problem, (_, held_out) = space.problem(config), space.samples(config)
    if len(held_out) == 0:
        return [(np.nan, np.nan)] * len(outcomes)
    samples = problem.train_samples(held_out)
    if any(outcome.tensors for outcome in outcomes):
        losses = exact_losses(problem, samples)
        before, after = losses(problem.weights), [losses(outcome.weights, outcome.tensors) for outcome in outcomes]
    else:
        points = [problem.weights, *(outcome.weights for outcome in outcomes)]
        before, *after = sample_losses(problem, samples, points)
    return [mean_change(before, own) for own in after]


def _effect(
    space: Workspace,
    config: PruneConfig,
    name: str,
    outcome: Outcome,
    result: Evaluation,
    reference: Evaluation,
    change: tuple[float, float],
) -> dict[str, object]:
    """The row of the update ``name``; ``reference`` is the result of no update, ``change`` that of the held-out loss."""
    return {
        "update": name,
        "sparsity": outcome.mask.sparsity,
        "accuracy": result.accuracy,
        "standard_error": result.standard_error,
        "gain": result.accuracy - reference.accuracy,
        "gain_error": paired_standard_error(result, reference),
        "loss": change[0],
        "loss_error": change[1],
        "moved": relative_norm(space.problem(config).weights, outcome.weights, outcome.mask.keep),
    }


def relative_norm(before: Tensor, after: Tensor, keep: Tensor) -> float:
    """‖δ_S‖/‖w_S‖ over the survivors; 0 where none is left."""
    step, own = (after - before)[keep].double().norm(), before[keep].double().norm()
    return float(step / own) if float(own) > 0 else 0.0


def survivor_moves(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    """One row a survivor of the config's mask: ``layer``, ``value`` w_i, its ``independent`` and its ``joint`` move δ_i."""
    config = _plain(space.resolve(config))
    return space.cache.get(
        ("survivor moves", config),
        lambda: _survivor_moves(space, config),
        lambda t: int(t.memory_usage(deep=True).sum()),
    )


def _survivor_moves(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    problem, configs = space.problem(config), update_configs(config)
    keep = space.outcome(configs["none"]).mask.keep
    columns = {"value": problem.weights[keep].cpu().double()}
    for name in ("independent", "joint"):
        step = space.outcome(configs[name]).weights.double() - problem.weights.double()
        columns[name] = step[keep].cpu()
    layers = [np.repeat(layer.module, int(keep[layer.slice].sum())) for layer in problem.parameters.layers]
    return pd.DataFrame({"layer": np.concatenate(layers), **columns})


def least_move(size: float) -> float:
    """The smallest move that is more than rounding among weights of this mean ``size`` |w|."""
    return ROUNDING * size


def anybody_moves(moves: pd.DataFrame) -> bool:
    """Whether any survivor of :func:`survivor_moves` moves measurably under either update."""
    return bool(_moving(moves).any())


def _moving(moves: pd.DataFrame) -> pd.Series:
    return moves[["independent", "joint"]].abs().max(axis=1) > least_move(moves["value"].abs().mean())


@dataclass(frozen=True)
class MoveAgreement:
    """The independent moves against the joint ones: their ``correlation``, the ``ratio`` of their norms, and the shares of the
    survivors that the independent update moves too far (``over``), too little (``under``) and the wrong way (``opposite``)."""

    correlation: float
    ratio: float
    over: float
    under: float
    opposite: float
    count: int


def agreement(moves: pd.DataFrame) -> MoveAgreement | None:
    """None where fewer than two survivors move measurably."""
    moving = moves[_moving(moves)]
    if len(moving) < 2 or not moving["joint"].any() or not moving["independent"].any():
        return None
    alone, joint = moving["independent"].to_numpy(), moving["joint"].to_numpy()
    opposite = alone * joint < 0
    over = ~opposite & (np.abs(alone) > np.abs(joint))
    # The cosine: moves are measured from zero, not from their mean.
    norms = float(np.linalg.norm(alone)), float(np.linalg.norm(joint))
    return MoveAgreement(
        correlation=float(alone @ joint) / (norms[0] * norms[1]),
        ratio=norms[0] / norms[1],
        over=float(over.mean()),
        under=float((~opposite & ~over).mean()),
        opposite=float(opposite.mean()),
        count=len(moving),
    )


def best_scale(space: Workspace, config: PruneConfig) -> float | None:
    """The s at which the independent step u costs least by the model: s = uᵀFj / uᵀFu over the survivors, j the joint step.

    (The minimiser of ½δᵀFδ over δ_S = s·u, since F_SP w_P = F_SS j.) None where nothing moves.
    """
    config = _plain(space.resolve(config))
    # Wrapped: where nothing moves there is a None to keep.
    return space.results.get(("best scale", config), lambda: (_best_scale(space, config),), lambda _: ROW_BYTES)[0]


def _best_scale(space: Workspace, config: PruneConfig) -> float | None:
    configs, context = update_configs(config), space.context(config)
    keep, weights = space.outcome(configs["none"]).mask.keep, context.weights.double()
    alone, joint = (
        torch.where(keep, space.outcome(configs[name]).weights.double() - weights, 0.0)
        for name in ("independent", "joint")
    )
    fisher = context.fisher()
    across = squared = 0.0
    for first, second in zip(fisher.projections(alone), fisher.projections(joint), strict=True):
        across += float((first * second).sum()) / fisher.num_rows
        squared += float(first.square().sum()) / fisher.num_rows
    across += context.damping * float(alone @ joint)
    squared += context.damping * float(alone @ alone)
    return across / squared if squared > 0 else None


def layer_moves(moves: pd.DataFrame) -> pd.DataFrame:
    """One row a layer and update: how far survivors move for their size, |δ|/|w|: ``low``, ``median`` and ``high``
    (10, 50, 90 %), ``moved`` ‖δ‖/‖w‖, ``survivors``. Survivors of exactly zero weight are left out of the quantiles."""
    rows = []
    for layer, part in moves.groupby("layer", sort=False):
        values = part["value"].to_numpy()
        there, norm = values != 0, float(np.linalg.norm(values))
        for update in ("independent", "joint"):
            steps = part[update].to_numpy()
            relative = np.abs(steps[there] / values[there])
            low, median, high = np.quantile(relative, [0.1, 0.5, 0.9]) if len(relative) else (np.nan,) * 3
            rows.append(
                {
                    "layer": layer,
                    "update": update,
                    "low": low,
                    "median": median,
                    "high": high,
                    "moved": float(np.linalg.norm(steps)) / norm if norm > 0 else 0.0,
                    "survivors": len(part),
                }
            )
    return pd.DataFrame(rows)


def turning_point(effects: pd.DataFrame, update: str = "independent") -> float | None:
    """The lowest sparsity at which ``update`` is less accurate than none beyond the noise of the test set; None if nowhere."""
    part = effects[effects["update"] == update]
    worse = part[part["gain"] < -CONFIDENT * part["gain_error"]]
    worse = worse[worse["gain"] < 0]
    return float(worse["sparsity"].min()) if len(worse) else None
