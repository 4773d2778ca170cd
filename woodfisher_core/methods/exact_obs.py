"""Exact OBS: the ground truth of tiny networks, one weight at a time with the exact Hessian."""

import math
from collections.abc import Iterator, Sequence

from woodfisher_core import scores
from woodfisher_core.elimination import damped, eliminate
from woodfisher_core.fisher.dense import DenseCurvature
from woodfisher_core.hessian import LARGEST, dense_hessian
from woodfisher_core.masks import Mask, kept_count
from woodfisher_core.methods.base import Context, Method, Need, Outcome
from woodfisher_core.options import Budget, Scope, Update


def curvature(context: Context) -> DenseCurvature:
    """The Hessian of the mean loss over the samples, in float64."""
    return DenseCurvature(dense_hessian(context.network(), context.parameters, context.samples(), loss=context.loss))


def run(context: Context, sparsities: Sequence[float]) -> Iterator[Outcome]:
    """The cheapest weight goes, all others make up for it, and so on: one elimination serves all sparsities.

    What is left equals the joint step for all that went, which is why the update is always that one.
    """
    ranges = [layer.slice for layer in context.parameters.layers] if context.scope is Scope.LAYER else None
    own = ranges or [slice(0, len(context.weights))]
    sizes = [len(context.weights[part]) for part in own]
    # What is gone already costs nothing to remove, so it goes first: no more may stay than is left.
    left = sizes if context.keep is None else [int(context.keep[part].sum()) for part in own]

    def wanted(sparsity: float) -> int | list[int]:
        counts = [min(kept_count(size, sparsity), most) for size, most in zip(sizes, left, strict=True)]
        return counts if ranges else counts[0]

    counts = [wanted(sparsity) for sparsity in sparsities]
    snapshots = eliminate(
        context.inverse().matrix,
        context.weights,
        counts,
        matrix=damped(context.curvature().matrix, context.damping),
        ranges=ranges,
    )
    for found in snapshots:
        mask = Mask(found.keep, (-math.inf,) * len(sizes), 0)
        yield Outcome(mask, found.weights.to(context.weights.dtype), context.saliency())


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
    updates=(Update.JOINT,),
    budgets=(Budget.WEIGHTS,),
    chooses=True,
    largest=LARGEST,
)
