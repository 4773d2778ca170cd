"""Exact OBS: the ground truth of tiny networks, one weight at a time with the exact Hessian."""

import math
from collections.abc import Iterator, Sequence

import torch

from woodfisher_core import scores
from woodfisher_core.elimination import damped, damped_inverse, eliminate
from woodfisher_core.fisher.dense import DenseCurvature
from woodfisher_core.hessian import LARGEST, dense_hessian
from woodfisher_core.masks import Mask, kept_count
from woodfisher_core.methods.base import Context, Method, Need, Outcome, labelled
from woodfisher_core.options import Budget, Scope, Update


def curvature(context: Context) -> DenseCurvature:
    """The Hessian of the mean loss over the samples, in float64."""
    return DenseCurvature(dense_hessian(context.network(), context.parameters, labelled(context), loss=context.loss))


def run(context: Context, sparsities: Sequence[float]) -> Iterator[Outcome]:
    """The cheapest weight goes, all others make up for it, and so on: one elimination serves all sparsities.

    What is left equals the joint step for all that went, which is why the update is always that one.
    """
    by_layer = context.scope is Scope.LAYER
    parts = [layer.slice for layer in context.parameters.layers] if by_layer else [slice(0, len(context.weights))]
    # What is gone already is no part of the problem any more, and cannot come back.
    there = torch.ones_like(context.weights, dtype=torch.bool) if context.keep is None else context.keep
    left = [int(there[part].sum()) for part in parts]
    ends = torch.tensor(left).cumsum(0).tolist()
    ranges = [slice(end - count, end) for end, count in zip(ends, left, strict=True)]

    def wanted(sparsity: float) -> int | list[int]:
        counts = [
            min(kept_count(part.stop - part.start, sparsity), most) for part, most in zip(parts, left, strict=True)
        ]
        return counts if by_layer else counts[0]

    own = context.curvature().matrix[there][:, there]
    snapshots = eliminate(
        context.inverse().matrix if context.keep is None else damped_inverse(own, context.damping),
        context.weights[there],
        [wanted(sparsity) for sparsity in sparsities],
        matrix=damped(own, context.damping),
        ranges=ranges if by_layer else None,
    )
    for found in snapshots:
        keep, weights = torch.zeros_like(there), torch.zeros_like(context.weights)
        keep[there], weights[there] = found.keep, found.weights.to(weights.dtype)
        yield Outcome(Mask(keep, (-math.inf,) * len(parts), 0), weights, context.saliency())


METHOD = Method(
    name="exact-obs",
    label="Exact OBS",
    help="The ground truth on tiny networks: the exact Hessian, one weight at a time, each removal paid for by all the others. λ "
    "must be larger than the Hessian's most negative curvature.",
    equation=r"q=\arg\min_j\dfrac{w_j^2}{2\,[H^{-1}]_{jj}},\quad\delta=-\dfrac{w_q}{[H^{-1}]_{qq}}H^{-1}e_q,\ \ldots",
    reference="Hassibi & Stork 1993; Frantar & Alistarh 2022, lemma 1",
    unit="nats",
    meaning="It is what the first removal would cost; every later one is priced anew.",
    cost=r"O(d)\text{ Hessian products}+O(d^3)",
    needs=frozenset({Need.SAMPLES, Need.INVERSE}),
    default_update=Update.JOINT,
    score=lambda context: scores.obs(context.weights, context.inverse_diagonal()),
    run=run,
    curvature=curvature,
    passes=lambda dim, probes: dim / 20,
    updates=(Update.JOINT,),
    budgets=(Budget.WEIGHTS,),
    scopes=(Scope.GLOBAL, Scope.LAYER),
    chooses=True,
    largest=LARGEST,
)
