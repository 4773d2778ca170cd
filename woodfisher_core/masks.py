"""From saliency to mask, by the official code's rule, with ties resolved by index; or exactly N of every M inputs."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.options import Scope
from woodfisher_core.parameters import PrunableParameters


@dataclass(frozen=True)
class Mask:
    """``keep`` (d,) bool, True where a weight stays; one threshold for ``global`` scope, else one a layer.

    ``thresholds`` are in the saliency's units, −inf where nothing was to be pruned and where there is no threshold (N:M).
    ``ties`` counts weights that share a threshold's exact value with another weight; where some of those stay, it is the
    ones that come first.
    """

    keep: Tensor
    thresholds: tuple[float, ...]
    ties: int

    @property
    def kept(self) -> int:
        return int(self.keep.sum())

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights removed."""
        return 1.0 - self.kept / len(self.keep)


@dataclass(frozen=True)
class Pattern:
    """N:M sparsity: ``stays`` of every ``of`` consecutive inputs of an output, at each kernel position of a convolution."""

    stays: int
    of: int

    def __str__(self) -> str:
        return f"{self.stays}:{self.of}"

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """The pattern written ``2:4``."""
        found = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", str(text).strip())
        if not found or int(found[1]) >= int(found[2]):
            raise InputError(f"pattern: expected N:M with N below M, such as 2:4 (2 of 4 stay), got {text!r}.")
        return cls(int(found[1]), int(found[2]))

    @property
    def sparsity(self) -> float:
        """The fraction it removes, in every layer alike."""
        return 1.0 - self.stays / self.of

    def check(self, parameters: PrunableParameters) -> None:
        """Raises an InputError unless the inputs of every layer divide by M."""
        odd = [f"{layer.module} ({layer.shape[1]})" for layer in parameters.layers if layer.shape[1] % self.of]
        if odd:
            raise InputError(
                f"pattern {self}: the inputs of every layer must divide by {self.of}; those of {', '.join(odd)} do not. "
                "Exclude these layers."
            )


def check_sparsity(sparsity: float) -> float:
    """``sparsity`` if it lies in [0, 1)."""
    if not (isinstance(sparsity, (int, float)) and math.isfinite(sparsity) and 0.0 <= sparsity < 1.0):
        raise InputError(f"sparsity: expected a fraction from 0 to below 1, got {sparsity}. For 95 % write 0.95.")
    return float(sparsity)


def kept_count(total: int, sparsity: float) -> int:
    """How many of ``total`` weights stay: k − 1 with k = ceil(total·(1 − sparsity)); all of them at sparsity 0.

    The official code keeps what lies strictly above the k-th largest value, hence k − 1; its floating-point ceiling is
    kept too (32,360 weights at 0.95: 1,618.0000000000014 rounds up to 1,619, so 1,618 stay).
    """
    if sparsity == 0.0:
        return total
    return max(0, math.ceil(total * (1.0 - sparsity)) - 1)


def erk_densities(parameters: PrunableParameters, sparsity: float) -> list[float]:
    """Share of each layer's weights that stays, by Erdős–Rényi kernels (Evci et al. 2020, sec. 3): ∝ Σ dims / Π dims.

    Layers that would keep more than all of their weights stay dense, and the others share the rest; together they keep
    1 − ``sparsity`` of all weights.
    """
    sizes = [layer.numel for layer in parameters.layers]
    raw = [sum(layer.shape) / layer.numel for layer in parameters.layers]
    budget = (1.0 - sparsity) * sum(sizes)
    dense: set[int] = set()
    while True:
        open_layers = [i for i in range(len(sizes)) if i not in dense]
        share = sum(raw[i] * sizes[i] for i in open_layers)
        scale = (budget - sum(sizes[i] for i in dense)) / share if open_layers else 0.0
        full = {i for i in open_layers if scale * raw[i] >= 1.0 - 1e-12}  # rounding must not cost a full layer a weight
        if not full:
            return [1.0 if i in dense else scale * raw[i] for i in range(len(sizes))]
        dense |= full


def select(
    saliency: Tensor,
    sparsities: Sequence[float],
    scope: Scope,
    parameters: PrunableParameters,
    *,
    pattern: Pattern | None = None,
    allowed: Tensor | None = None,
    costs: Tensor | None = None,
) -> list[Mask]:
    """The masks that keep the most salient weights of the network, or of each layer, one a sparsity; one sort for all.

    Args:
        saliency: (d,), what stays is largest.
        sparsities: Fractions of the weights to remove; of the costs where these are given.
        scope: How far one threshold reaches.
        parameters: The layers of the flat vector.
        pattern: N:M instead of a threshold; its own fraction is then removed, and ``sparsities`` only say how many masks.
        allowed: (d,) bool; weights outside it go first, whatever their saliency (those pruned before).
        costs: (d,) what each weight costs, in any unit; weights then are kept in the order of their saliency as long as
            all of them together cost no more than 1 − sparsity of the whole.

    Raises:
        InputError: a sparsity outside [0, 1); layers that the pattern does not divide.
        NumericalError: the saliency holds NaN.
    """
    for sparsity in sparsities:
        check_sparsity(sparsity)
    if torch.isnan(saliency).any():
        raise NumericalError(f"saliency: {int(torch.isnan(saliency).sum())} values are NaN. Use a larger damping.")
    if allowed is not None:
        saliency = saliency.masked_fill(~allowed, -math.inf)
    if pattern is not None:
        pattern.check(parameters)
        return [_patterned(saliency, pattern, parameters)] * len(sparsities)
    ranges: Sequence[slice] = [slice(0, len(saliency))]
    if scope is not Scope.GLOBAL:
        ranges = [layer.slice for layer in parameters.layers]
    orders = [saliency[part].argsort(descending=True, stable=True) for part in ranges]

    def counts(sparsity: float) -> list[int]:
        if costs is not None:
            return [_affordable(costs[part][order], sparsity) for part, order in zip(ranges, orders, strict=True)]
        shares = [sparsity] * len(ranges)
        if scope is Scope.ERK:
            shares = [1.0 - density for density in erk_densities(parameters, sparsity)]
        return [kept_count(len(order), share) for order, share in zip(orders, shares, strict=True)]

    return [_mask(saliency, counts(sparsity), ranges, orders, allowed) for sparsity in sparsities]


def _affordable(costs: Tensor, sparsity: float) -> int:
    """How many of the first weights together cost at most 1 − ``sparsity`` of all of them."""
    spent = costs.to(torch.float64).cumsum(0)
    return int((spent <= (1.0 - sparsity) * spent[-1] * (1.0 + 1e-12)).sum())


def _mask(
    saliency: Tensor, counts: Sequence[int], ranges: Sequence[slice], orders: Sequence[Tensor], allowed: Tensor | None
) -> Mask:
    keep = torch.zeros(len(saliency), dtype=torch.bool, device=saliency.device)
    thresholds, ties = [], 0
    for part, order, count in zip(ranges, orders, counts, strict=True):
        values = saliency[part]
        keep[part.start + order[:count]] = True
        if count == len(values):
            thresholds.append(-math.inf)
            continue
        threshold = float(values[order[count]])  # the largest value that goes
        same = int((values == threshold).sum())
        ties += same if same > 1 and math.isfinite(threshold) else 0
        thresholds.append(threshold)
    return Mask(keep if allowed is None else keep & allowed, tuple(thresholds), ties)


def _patterned(saliency: Tensor, pattern: Pattern, parameters: PrunableParameters) -> Mask:
    """The N most salient of every M consecutive inputs; the first of equals."""
    keep = torch.empty(len(saliency), dtype=torch.bool, device=saliency.device)
    for layer in parameters.layers:
        values = _inputs_last(saliency[layer.slice].view(layer.shape))
        grouped = values.unflatten(-1, (-1, pattern.of))
        order = grouped.argsort(dim=-1, descending=True, stable=True)
        stays = torch.zeros_like(grouped, dtype=torch.bool).scatter_(-1, order[..., : pattern.stays], True)
        stays &= grouped > -math.inf
        keep[layer.slice] = _inputs_last(stays.flatten(-2)).reshape(-1)
    return Mask(keep, (-math.inf,), 0)


def _inputs_last(weight: Tensor) -> Tensor:
    """(out, in, …) with the input dimension swapped with the last; its own inverse."""
    return weight.transpose(1, -1)
