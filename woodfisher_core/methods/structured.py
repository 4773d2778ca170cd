"""Structured pruning: whole channels by group OBS, everything that vanishes with a channel together."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from woodfisher_core.fisher.operator import InverseFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.masks import Mask
from woodfisher_core.methods.base import Context, Method, Need, Outcome
from woodfisher_core.options import Budget, Labels, Scope, Solver, Update
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import label_uniforms
from woodfisher_core.structured import (
    EXAMPLES,
    Channels,
    Criterion,
    Per,
    StructuredOptions,
    Undamped,
    find_channels,
    one_block,
    reachable,
    saliency_of,
    structured_results,
    undamped,
)

# Dampings whose saliencies are kept.
DAMPINGS_KEPT = 32


class ChannelFisher:
    """The empirical Fisher as one block over θ: all weights, biases and BatchNorm parameters; with the channels of θ.

    ``rows`` (N, D) are the gradients over θ, ``theta`` (D,) its values; both are zero outside ``allowed`` (D,) bool, what is
    still there of θ.
    """

    def __init__(self, channels: Channels, rows: Tensor, theta: Tensor, allowed: Tensor):
        self.channels, self.rows, self.theta, self.allowed = channels, rows, theta, allowed
        self.fisher = one_block(channels, rows, keep_products=True)
        self._saliencies: dict[float, Tensor] = {}

    @property
    def nbytes(self) -> int:
        count, groups = len(self.rows), len(self.channels.groups)
        return self.rows.nbytes + self.fisher.nbytes + 8 * (count * (count + groups) + DAMPINGS_KEPT * groups)

    @cached_property
    def _undamped(self) -> Undamped:
        """What every damping's saliency needs."""
        return undamped(self.rows, self.theta, self.channels.groups, self.fisher)

    @property
    def diagonal(self) -> Tensor:
        """diag F over θ, (D,) float64."""
        return self.fisher.diagonal

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> InverseFisher:
        """(F + λI)⁻¹ over θ."""
        return self.fisher.inverse(damping, solver)

    def saliency(self, options: StructuredOptions) -> Tensor:
        """What each channel costs at the options' λ, (num_groups,) float64; kept, since several ask for it, and again later."""
        found = self._saliencies.get(options.damping)
        if found is None:
            found = saliency_of(self.channels, self.theta, self.rows, options, self._undamped)
            for oldest in list(self._saliencies)[: len(self._saliencies) + 1 - DAMPINGS_KEPT]:
                self._saliencies.pop(oldest, None)
            self._saliencies[options.damping] = found
        return found

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint steps over θ, as :meth:`EmpiricalFisher.joint_steps`."""
        return self.fisher.joint_steps(weights, keeps, damping)


def curvature(context: Context) -> ChannelFisher:
    """The channels of the network, and the gradients over everything they are made of."""
    network = context.network()
    batches = context.samples()
    there = set(context.parameters.names)
    left_alone = [name for name in PrunableParameters.from_model(network).names if name not in there]
    channels = find_channels(network, batches[0][0][:EXAMPLES], left_alone)
    allowed = torch.ones(channels.parameters.num_prunable, dtype=torch.bool)
    if context.keep is not None:
        for name, part in context.parameters.unflatten(context.keep).items():
            channels.parameters.unflatten(allowed)[name].copy_(part)
    count = context.num_samples * context.mini_batch
    drawn = {"uniforms": label_uniforms(count, context.seed)} if context.labels is Labels.SAMPLED else {}
    rows = gradient_matrix(
        network,
        channels.parameters,
        batches,
        context.num_samples,
        loss=context.loss,
        labels=context.labels,
        mini_batch=context.mini_batch,
        keep=None if context.keep is None else channels.parameters.unflatten(allowed),
        **drawn,
    )
    theta = channels.parameters.flatten(network.state_dict()).to(rows.device)
    return ChannelFisher(channels, rows, theta, allowed)


def _options(context: Context) -> StructuredOptions:
    flops = context.budget is Budget.FLOPS
    return StructuredOptions(
        damping=context.damping,
        update=context.update,
        criterion=Criterion.FISHER,
        per=Per.FLOP if flops else Per.WEIGHT,
        budget=context.budget,
    )


def score(context: Context) -> Tensor:
    """(d,) float64: to each weight the saliency, a weight removed, of its cheapest channel; the dearest where it has none."""
    model = context.curvature()
    channels = model.channels
    values = model.saliency(_options(context))
    spread = torch.full((channels.parameters.num_prunable,), math.inf, dtype=torch.float64, device=values.device)
    countable = (channels.countable & model.allowed).to(values.device)
    for group, value in zip(channels.groups, values, strict=True):
        members = group.members.to(values.device)
        each = value / countable[members].sum().clamp_min(1)
        spread[members] = torch.minimum(spread[members], each)
    largest = spread[spread.isfinite()].max()
    found = channels.parameters.unflatten(torch.where(spread.isfinite(), spread, largest))
    return torch.cat([found[name].reshape(-1) for name in context.parameters.names]).to(context.weights.device)


def reach(context: Context) -> float:
    """The share of the budget that is gone when every set of channels is down to one."""
    model, options = context.curvature(), _options(context)
    saliency = model.saliency(options)
    return reachable(model.channels, saliency, per=options.per, budget=options.budget, allowed=model.allowed)


def run(context: Context, sparsities: Sequence[float]) -> Iterator[Outcome]:
    """The cheapest channels go, with all that belongs to them, and θ moves to make up for it.

    Weights that were gone before stay so, and count; channels of which nothing is left go first, with their biases.
    """
    model, options = context.curvature(), _options(context)
    parameters, state = model.channels.parameters, context.network().state_dict()
    names = context.parameters.names
    for result in structured_results(
        model.channels, model.theta, model.saliency(options), model.fisher, options, sparsities, model.allowed
    ):
        keep, theta = parameters.unflatten(result.keep & model.allowed), parameters.unflatten(result.weights)
        mask = Mask(torch.cat([keep[name].reshape(-1) for name in names]).to(context.weights.device), (-math.inf,), 0)
        weights = torch.cat([theta[name].reshape(-1) for name in names]).to(context.weights)
        others = {name: value.to(state[name]).clone() for name, value in theta.items() if name not in set(names)}
        yield Outcome(mask, weights, context.saliency(), others)


METHOD = Method(
    name="structured",
    label="Structured (group OBS)",
    help="Whole channels go: a filter with its bias, its BatchNorm scale and shift, the inputs that read it, and its partners "
    "across residual sums; everything else moves to make up for it. What is left is a smaller, faster network. Cheapest price a "
    "weight (or a multiply-add) first; each set of channels keeps at least one. Take a larger λ than for single weights.",
    equation=r"\rho_G=\tfrac12\,\theta_G^\top\big([F^{-1}]_{GG}\big)^{-1}\theta_G",
    reference="Singh & Alistarh 2020, future work; Kurtic et al. 2022",
    unit="nats",
    meaning="It is, a weight removed, what the damped quadratic model expects from removing the cheapest channel it is in.",
    cost=r"O(N^2D+\sum_G N^2|G|)",
    needs=frozenset({Need.SAMPLES, Need.DAMPING}),
    default_update=Update.JOINT,
    score=score,
    run=run,
    reach=reach,
    curvature=curvature,
    passes=lambda dim, probes: 2.0,
    updates=(Update.NONE, Update.JOINT),
    scopes=(Scope.GLOBAL,),
    chooses=True,
    removes_channels=True,
)
