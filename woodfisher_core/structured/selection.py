"""Which channels go: in ascending saliency until the wanted share of weights or multiply-adds is gone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.masks import check_sparsity
from woodfisher_core.options import Budget
from woodfisher_core.structured.options import Per
from woodfisher_core.structured.survey import Channels

# Relative slack when a reached share is held against the wanted one: a fraction times a count is not exact.
SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Selection:
    """``order`` holds the numbers of the groups that go, first the one that went first; ``keep`` (D,) bool what stays of θ.

    ``share`` is the fraction of the budget that is gone, at least the one asked for.
    """

    order: tuple[int, ...]
    keep: Tensor
    share: float


def select_groups(
    channels: Channels,
    saliency: Tensor,
    sparsities: Sequence[float],
    *,
    per: Per = Per.WEIGHT,
    budget: Budget = Budget.WEIGHTS,
    min_channels: int = 1,
    allowed: Tensor | None = None,
) -> list[Selection]:
    """One selection a sparsity; each is the first of the next higher one's choices.

    A group goes if its set of dependent channels keeps at least ``min_channels``; ties go in model order. What a group frees is
    counted once where groups overlap (a weight between two removed channels); ``per`` divides by what it frees alone.

    ``allowed`` (D,) bool marks what is still there of θ, all of it by default. What is gone counts as freed, and groups without
    a single weight left go first, always, whatever their saliency: training may have moved their biases.

    Raises:
        InputError: A sparsity outside [0, 1), or more than can be reached, naming the most; NumericalError: NaN saliency.
    """
    for sparsity in sparsities:
        check_sparsity(sparsity)
    budget = Budget.parse(budget, "budget")
    path, gone, least = _ranked_path(channels, saliency, per, budget, min_channels, allowed)
    total = int(_price(channels, budget).sum())
    found = []
    for sparsity in sparsities:
        wanted = sparsity * total * (1.0 - SLACK)
        length = next((n for n, freed in enumerate(gone) if n >= least and freed >= wanted), None)
        if length is None:
            raise InputError(
                f"sparsity: removing channels reaches at most {gone[-1] / total:.4f} of the {budget.label.lower()} here "
                f"(at least {min_channels} stay in each layer), got {sparsity}. Lower the sparsity or min_channels, or "
                "exclude fewer layers."
            )
        keep = torch.ones(channels.parameters.num_prunable, dtype=torch.bool)
        for number in path[:length]:
            keep[channels.groups[number].members] = False
        found.append(Selection(tuple(path[:length]), keep, gone[length] / total))
    return found


def reachable(
    channels: Channels,
    saliency: Tensor,
    *,
    per: Per = Per.WEIGHT,
    budget: Budget = Budget.WEIGHTS,
    min_channels: int = 1,
    allowed: Tensor | None = None,
) -> float:
    """The largest sparsity :func:`select_groups` can give."""
    budget = Budget.parse(budget, "budget")
    _, gone, _ = _ranked_path(channels, saliency, per, budget, min_channels, allowed)
    return gone[-1] / int(_price(channels, budget).sum())


def _price(channels: Channels, budget: Budget) -> Tensor:
    """(D,) int64, what each parameter counts in the budget."""
    return channels.countable.to(torch.int64) if budget is Budget.WEIGHTS else channels.uses


def _ranked_path(
    channels: Channels, saliency: Tensor, per: Per, budget: Budget, min_channels: int, allowed: Tensor | None
) -> tuple[list[int], list[int], int]:
    """:func:`_path` in the order of the saliency over what ``per`` says; with how many of its groups are gone already."""
    if saliency.shape != (len(channels.groups),):
        raise InputError(
            f"channel saliency: expected one of each of {len(channels.groups)} groups, got {tuple(saliency.shape)}."
        )
    if torch.isnan(saliency).any():
        raise NumericalError(f"channel saliency: {int(torch.isnan(saliency).sum())} are NaN. Use a larger damping.")
    score, per = saliency.cpu(), Per.parse(per, "per")
    there = torch.ones(len(channels.uses), dtype=torch.bool) if allowed is None else allowed.cpu()
    if per is not Per.CHANNEL:
        of = _price(channels, Budget.WEIGHTS if per is Per.WEIGHT else Budget.FLOPS) * there
        score = score / torch.tensor([int(of[group.members].sum()) for group in channels.groups], dtype=score.dtype)
    weights = channels.countable & there
    gone_already = torch.tensor([not weights[group.members].any() for group in channels.groups])
    score = score.masked_fill(gone_already, -math.inf)
    path, gone = _path(channels, score.argsort(stable=True).tolist(), _price(channels, budget), min_channels, there)
    return path, gone, sum(bool(gone_already[number]) for number in path)


def _path(
    channels: Channels, order: list[int], price: Tensor, min_channels: int, there: Tensor
) -> tuple[list[int], list[int]]:
    """The groups that may go, in ``order``, and what is freed after none, one, two, ... of them."""
    left = dict(channels.widths)
    stays = there.clone()
    path, gone = [], [int(price[~there].sum())]
    for number in order:
        group = channels.groups[number]
        if left[group.name] <= min_channels:
            continue
        left[group.name] -= 1
        newly = group.members[stays[group.members]]
        stays[newly] = False
        path.append(number)
        gone.append(gone[-1] + int(price[newly].sum()))
    return path, gone
