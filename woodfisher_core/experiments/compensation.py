"""Compensation: how the survivors move when one weight goes, and when all chosen ones go together."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.data import Samples
from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.exact_losses import mean_change, sample_losses
from woodfisher_core.experiments.pair_surface import damped_diagonal
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.update_effects import least_move
from woodfisher_core.experiments.weights import weight_name
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Choice, Update
from woodfisher_core.parameters import PrunableParameters

# Survivors listed of one removal.
LISTED = 12
# What one line of the numbers takes in the cache; generous.
ROW_BYTES = 500


class Which(Choice):
    """Which of the removed weights to look at."""

    HELPED = (
        "helped",
        "Helped most",
        "the one for which the others' move saves most loss, by the model",
        r"\max_q\ \tfrac12 w_q^2\left(F_{qq}-\tfrac1{[F^{-1}]_{qq}}\right)",
    )
    FIRST = (
        "first",
        "First to go",
        "the one with the smallest statistic",
        r"\min_q \tfrac12 w_q^2/[F^{-1}]_{qq}",
    )
    LAST = (
        "last",
        "Last to go",
        "the one with the largest statistic of those that go",
        r"\max_q \tfrac12 w_q^2/[F^{-1}]_{qq}",
    )
    LARGEST = ("largest", "Largest", "the one that magnitude would have kept longest", r"\max_q |w_q|")
    NUMBER = ("number", "By number", "the one you name", "q")


@dataclass(frozen=True)
class Removal:
    """One weight removed alone, and how all others move for it.

    ``survivors`` are the others that move most, and measurably (:func:`least_move`), one row each: ``weight`` its name,
    ``layer``, ``value``, ``move`` δ_i = −w_q [F⁻¹]_iq/[F⁻¹]_qq, ``correlation`` [F⁻¹]_iq/√([F⁻¹]_ii [F⁻¹]_qq), ``kept`` whether
    it stays when all go that the sparsity asks for. ``changes`` has the loss with and without their move: ``update`` (without,
    with), ``term``, ``nats``, ``error`` (its standard error over images; 0 of the model). ``lost_share`` is the share of ‖δ‖²
    over the others that falls on weights which go as well; ``saved`` has (mean, standard error) of what the move saves on each
    kind of samples, in nats. ``partner`` is the survivor most correlated with it (None where nothing is).
    """

    index: int
    name: str
    value: float
    gone: bool
    rank: int
    curvature: float
    inverse_diagonal: float
    partner: int | None
    partner_correlation: float
    lost_share: float
    saved: dict[str, tuple[float, float]]
    survivors: pd.DataFrame
    changes: pd.DataFrame

    @property
    def obd(self) -> float:
        """½ w² F_qq, with the damping in F."""
        return 0.5 * self.value**2 * self.curvature

    @property
    def obs(self) -> float:
        """½ w²/[F⁻¹]_qq."""
        return 0.5 * self.value**2 / self.inverse_diagonal


def choose(space: Workspace, config: PruneConfig, which: Which, index: int = 0) -> int:
    """The weight q to look at, among those the config removes (among all where it removes none)."""
    total = space.problem(config).parameters.num_prunable
    if which is Which.NUMBER:
        if not 0 <= index < total:
            raise InputError(f"weight: expected a number from 0 to {total - 1:,}, got {index:,}. Choose another.")
        return index
    outcome, context = space.outcome(config), space.context(config)
    gone = ~outcome.mask.keep
    gone = gone if bool(gone.any()) else ~gone
    exact = context.weights.to(torch.float64)
    if which is Which.FIRST:
        return int(outcome.saliency.masked_fill(~gone, torch.inf).argmin())
    values = {
        Which.LAST: lambda: outcome.saliency,
        Which.LARGEST: exact.abs,
        Which.HELPED: lambda: exact.square() * (damped_diagonal(context) - context.inverse_diagonal().reciprocal()),
    }[which]()
    return int(values.masked_fill(~gone, -torch.inf).argmax())


def removal(space: Workspace, config: PruneConfig, index: int) -> Removal:
    """What removing weight ``index`` alone does; the config's sparsity says which others would go beside it."""
    config = space.resolve(config)
    key = ("removal", config.replace(update=Update.NONE, update_scale=1.0), index)
    return space.results.get(key, lambda: _removal(space, config, index), lambda _: 40 * ROW_BYTES)


def _removal(space: Workspace, config: PruneConfig, index: int) -> Removal:
    problem, context, outcome = space.problem(config), space.context(config), space.outcome(config)
    keep, weights = outcome.mask.keep, context.weights.to(torch.float64)
    diagonal, value = context.inverse_diagonal(), float(context.weights[index])
    curvature, inverse = float(damped_diagonal(context)[index]), float(diagonal[index])
    unit = torch.zeros_like(weights)
    unit[index] = 1.0
    column = context.inverse().apply(unit)
    others = (-value / inverse * column).masked_fill(unit.bool(), 0.0)
    correlation = (column / (diagonal * inverse).sqrt()).masked_fill(unit.bool(), 0.0)
    related = torch.where(keep, correlation.abs(), 0.0)
    partner = int(related.argmax())
    largest = others.abs().argsort(descending=True)[:LISTED]
    moving = others[largest].abs() > least_move(float(weights.abs().mean()))
    total = float(others.square().sum())
    steps = {"without": -value * unit, "with": others - value * unit}
    own = dict(zip(steps, (0.5 * value**2 * curvature, 0.5 * value**2 / inverse), strict=True))
    rows = [{"update": update, "term": "model|½δᵀFδ", "nats": nats, "error": 0.0} for update, nats in own.items()]
    saved = {}
    for name, indices in zip(("Fisher samples", "held-out samples"), space.samples(config), strict=True):
        if len(indices):
            measured, saved[name] = _measured(problem, problem.train_samples(indices), steps)
            rows += [{**row, "term": f"measured on|{name}"} for row in measured]
    return Removal(
        index=index,
        name=weight_name(problem.parameters, index),
        value=value,
        gone=not bool(keep[index]),
        rank=int((outcome.saliency < outcome.saliency[index]).sum()) + 1,
        curvature=curvature,
        inverse_diagonal=inverse,
        partner=partner if float(related[partner]) > 0 else None,
        partner_correlation=float(correlation[partner]),
        lost_share=float(torch.where(keep, 0.0, others).square().sum()) / total if total else 0.0,
        saved=saved,
        survivors=_listed(problem.parameters, largest[moving], weights, others, correlation, keep),
        changes=pd.DataFrame(rows),
    )


def _listed(
    parameters: PrunableParameters, order: Tensor, weights: Tensor, moves: Tensor, correlation: Tensor, keep: Tensor
) -> pd.DataFrame:
    names = [weight_name(parameters, int(i)) for i in order]
    return pd.DataFrame(
        {
            "weight": names,
            "layer": [name.partition("[")[0] for name in names],
            "value": weights[order].cpu(),
            "move": moves[order].cpu(),
            "correlation": correlation[order].cpu(),
            "kept": keep[order].cpu(),
        }
    )


def _measured(
    problem: Problem, samples: Samples, steps: Mapping[str, Tensor]
) -> tuple[list[dict[str, object]], tuple[float, float]]:
    """(a row a step, the mean and standard error of what the second step saves over the first), in nats."""
    weights = problem.weights.to(torch.float64)
    before, *moved = sample_losses(problem, samples, [weights, *(weights + step for step in steps.values())])
    after = dict(zip(steps, moved, strict=True))
    rows = []
    for update, found in after.items():
        nats, error = mean_change(before, found)
        rows.append({"update": update, "nats": nats, "error": error})
    return rows, mean_change(after["with"], after["without"])
