"""From saliency to mask, by the official code's rule, with ties resolved by index."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.options import Scope
from woodfisher_core.parameters import PrunableParameters


@dataclass(frozen=True)
class Mask:
    """``keep`` (d,) bool, True where a weight stays; one threshold for ``global`` scope, one a layer for ``layer``.

    ``thresholds`` are in the saliency's units, −inf where nothing was to be pruned. ``ties`` counts weights that share a
    threshold's exact value with another weight; where some of those stay, it is the ones that come first.
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


def select(saliency: Tensor, sparsities: Sequence[float], scope: Scope, parameters: PrunableParameters) -> list[Mask]:
    """The masks that keep the most salient weights of the network, or of each layer, one a sparsity; one sort for all.

    Raises:
        InputError: a sparsity outside [0, 1).
        NumericalError: the saliency holds NaN.
    """
    for sparsity in sparsities:
        check_sparsity(sparsity)
    if torch.isnan(saliency).any():
        raise NumericalError(f"saliency: {int(torch.isnan(saliency).sum())} values are NaN. Use a larger damping.")
    ranges: Sequence[slice] = [slice(0, len(saliency))]
    if scope is Scope.LAYER:
        ranges = [layer.slice for layer in parameters.layers]
    orders = [saliency[part].argsort(descending=True, stable=True) for part in ranges]
    return [_mask(saliency, sparsity, ranges, orders) for sparsity in sparsities]


def _mask(saliency: Tensor, sparsity: float, ranges: Sequence[slice], orders: Sequence[Tensor]) -> Mask:
    keep = torch.zeros(len(saliency), dtype=torch.bool, device=saliency.device)
    thresholds, ties = [], 0
    for part, order in zip(ranges, orders, strict=True):
        values = saliency[part]
        count = kept_count(len(values), sparsity)
        if count == len(values):
            keep[part] = True
            thresholds.append(-math.inf)
            continue
        keep[part.start + order[:count]] = True
        threshold = values[order[count]]  # the largest value that goes
        same = int((values == threshold).sum())
        ties += same if same > 1 else 0
        thresholds.append(float(threshold))
    return Mask(keep, tuple(thresholds), ties)
