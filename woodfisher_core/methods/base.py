"""What a pruning method is: a function from a context to an outcome, with the texts and needs it declares."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor, nn

from woodfisher_core import updates
from woodfisher_core.curvature import Curvature, InverseCurvature
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Fisher
from woodfisher_core.gradients import sampled_labels
from woodfisher_core.masks import Mask
from woodfisher_core.options import Budget, Labels, Scope, Update
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import label_uniforms


class Need(str, Enum):
    """What a method's statistic is made from, beyond the weights."""

    GRADIENTS = "gradients"  # per-sample gradient rows
    SAMPLES = "samples"  # training images themselves: activations, Hessian products
    INVERSE = "inverse"  # the damped inverse of its curvature
    DAMPING = "damping"  # λ, where it inverts something of its own
    SEED = "seed"  # random numbers, without any data


class Context(Protocol):
    """What a method may ask for; everything expensive is made on the first call and shared."""

    weights: Tensor
    parameters: PrunableParameters
    scope: Scope
    budget: Budget
    update: Update
    update_scale: float
    num_samples: int
    mini_batch: int
    labels: Labels
    seed: int
    probes: int | None
    loss: Loss
    keep: Tensor | None
    """(d,) weights that are still there, None where all are; the others stay at zero and are never revived."""

    @property
    def damping(self) -> float:
        """λ in force, in the units of the curvature, whatever it was given as."""

    def fisher(self) -> Fisher:
        """Gradient rows cut into blocks."""

    def curvature(self) -> Curvature:
        """The method's own curvature; the empirical Fisher for most."""

    def inverse(self) -> InverseCurvature:
        """The inverse of the curvature at the context's damping."""

    def inverse_diagonal(self) -> Tensor:
        """Its diagonal, (d,) float64."""

    def saliency(self) -> Tensor:
        """The statistic that ranks the weights, (d,) float64: the method's own, over c_j^β where that is asked for."""

    def masks(self, sparsities: Sequence[float]) -> list[Mask]:
        """What the saliency keeps at each sparsity, by the context's scope, budget or pattern."""

    def network(self) -> nn.Module:
        """The network in eval mode with the context's weights; not to be changed."""

    def samples(self) -> list[tuple[Tensor, Tensor]]:
        """The num_samples × mini_batch training samples, (inputs, targets) batches on the network's device."""


def labelled(context: Context) -> list[tuple[Tensor, Tensor]]:
    """The context's samples with the labels asked for: their own, or those drawn from the network's predictions."""
    if context.labels is Labels.TRUE:
        return context.samples()
    network, batches, done = context.network(), [], 0
    uniforms = label_uniforms(context.num_samples * context.mini_batch, context.seed)
    for inputs, targets in context.samples():
        with torch.no_grad():
            outputs = network(inputs)
        batches.append((inputs, sampled_labels(outputs, uniforms[done:][: len(targets)])))
        done += len(targets)
    return batches


def empirical(context: Context) -> Fisher:
    """The empirical Fisher from per-sample gradients, in the blocks asked for."""
    return context.fisher()


EMPIRICAL = empirical


@dataclass(frozen=True)
class Outcome:
    """A pruned network: its mask, its weights (d,) with exact zeros where pruned, and the statistic that chose them.

    ``tensors`` are other tensors of the network that changed, by their names in its state dict: re-estimated BatchNorm
    statistics, or biases of removed channels.
    """

    mask: Mask
    weights: Tensor
    saliency: Tensor | None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Without the statistic, which is its context's."""
        return self.weights.nbytes + self.mask.keep.nbytes + sum(own.nbytes for own in self.tensors.values())


def score_mask_update(
    context: Context, sparsities: Sequence[float], start: Callable[[Context], Tensor] | None = None
) -> Iterator[Outcome]:
    """The stock composition: statistic → mask → compensation of the survivors; any mask goes with any update.

    ``start(context)`` is the point (d,) that weights are removed from, the weights themselves by default; without an update the
    survivors keep their weights whatever it is.
    """
    masks = context.masks(sparsities)
    keeps = [mask.keep for mask in masks]
    if context.update is Update.NONE:
        weights = (updates.none(context.weights, keep) for keep in keeps)
    else:
        point = context.weights if start is None else start(context)
        if context.update is Update.INDEPENDENT:
            weights = updates.independent(
                point, keeps, context.inverse(), context.inverse_diagonal(), context.update_scale
            )
        else:
            weights = updates.joint(point, keeps, context.curvature(), context.damping)
    for mask, updated in zip(masks, weights, strict=True):
        yield Outcome(mask, updated.to(context.weights.dtype), context.saliency())


def _all(context: Context) -> float:
    return 1.0


def _no_passes(num_prunable: int, probes: int | None) -> float:
    return 0.0


@dataclass(frozen=True)
class Method:
    """A registered method.

    ``score(context)`` gives its statistic (d,) float64, in ``unit``, and ``meaning`` is what one of its values says;
    ``run(context, sparsities)`` yields one outcome a sparsity, sharing what it can between them, up to ``reach(context)``, the
    largest sparsity it can give. ``curvature`` is the quadratic model behind its inverse and its updates, ``cost`` what the
    statistic takes (LaTeX), ``passes(d, probes)`` how many gradients of each sample that is worth beyond the Fisher's rows,
    ``updates``, ``scopes`` and ``budgets`` those it goes with; ``chooses`` says that it makes its masks itself, so that patterns
    and weighting by FLOPs do not apply, ``largest`` how many weights it takes at most. With ``removes_channels`` weights go by
    whole channels, at least as many as asked for, and a smaller network is left.
    """

    name: str
    label: str
    help: str
    equation: str
    reference: str
    unit: str
    meaning: str
    cost: str
    needs: frozenset[Need]
    default_update: Update
    score: Callable[[Context], Tensor]
    run: Callable[[Context, Sequence[float]], Iterator[Outcome]] = score_mask_update
    reach: Callable[[Context], float] = _all
    passes: Callable[[int, int | None], float] = _no_passes
    curvature: Callable[[Context], Curvature] = EMPIRICAL
    updates: tuple[Update, ...] = tuple(Update)
    budgets: tuple[Budget, ...] = tuple(Budget)
    scopes: tuple[Scope, ...] = tuple(Scope)
    chooses: bool = False
    largest: int | None = None
    removes_channels: bool = False

    def check(self, update: Update, scope: Scope, budget: Budget, pattern: str | None, flops_power: float) -> None:
        """Raises an InputError where this method cannot do what is asked of it."""
        for knob, asked, able in (
            ("update", update, self.updates),
            ("scope", scope, self.scopes),
            ("budget", budget, self.budgets),
        ):
            if asked not in able:
                names = ", ".join(choice.value for choice in able)
                raise InputError(f"{knob}: {self.name} goes with {names}, got {asked.value!r}.")
        if self.chooses and (pattern is not None or flops_power):
            raise InputError(
                f"{self.name} chooses its weights itself: no pattern and no weighting by FLOPs. Leave these as they are."
            )
