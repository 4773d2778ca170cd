"""What a pruning method is: a function from a context to an outcome, with the texts and needs it declares."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from torch import Tensor

from woodfisher_core import updates
from woodfisher_core.fisher import Fisher, Inverse
from woodfisher_core.masks import Mask, select
from woodfisher_core.options import Scope, Update
from woodfisher_core.parameters import PrunableParameters


class Need(str, Enum):
    """What a method's statistic is made from, beyond the weights."""

    GRADIENTS = "gradients"
    INVERSE = "inverse"


class Context(Protocol):
    """What a method may ask for; everything expensive is made on the first call and shared."""

    weights: Tensor
    parameters: PrunableParameters
    scope: Scope
    update: Update
    update_scale: float

    @property
    def damping(self) -> float:
        """λ in force, in the units of F, whatever it was given as."""

    def fisher(self) -> Fisher:
        """Gradient rows cut into blocks."""

    def inverse(self) -> Inverse:
        """F⁻¹ at the context's damping."""

    def inverse_diagonal(self) -> Tensor:
        """diag F⁻¹, (d,) float64."""

    def saliency(self) -> Tensor:
        """The method's own statistic, (d,) float64."""


@dataclass(frozen=True)
class Outcome:
    """A pruned network: its mask, its weights (d,) with exact zeros where pruned, and the statistic that chose them."""

    mask: Mask
    weights: Tensor
    saliency: Tensor | None


def score_mask_update(context: Context, sparsities: Sequence[float]) -> Iterator[Outcome]:
    """The stock composition: statistic → mask → compensation of the survivors; any mask goes with any update."""
    saliency = context.saliency()
    masks = select(saliency, sparsities, context.scope, context.parameters)
    keeps = [mask.keep for mask in masks]
    if context.update is Update.NONE:
        weights = (updates.none(context.weights, keep) for keep in keeps)
    elif context.update is Update.INDEPENDENT:
        weights = updates.independent(
            context.weights, keeps, context.inverse(), context.inverse_diagonal(), context.update_scale
        )
    else:
        weights = updates.joint(context.weights, keeps, context.fisher(), context.damping)
    for mask, updated in zip(masks, weights, strict=True):
        yield Outcome(mask, updated, saliency)


@dataclass(frozen=True)
class Method:
    """A registered method.

    ``score(context)`` gives its statistic (d,) float64, in ``unit``; ``run(context, sparsities)`` yields one outcome a
    sparsity, sharing what it can between them.
    """

    name: str
    label: str
    help: str
    equation: str
    reference: str
    unit: str
    needs: frozenset[Need]
    default_update: Update
    score: Callable[[Context], Tensor]
    run: Callable[[Context, Sequence[float]], Iterator[Outcome]] = score_mask_update
