"""Optimal Brain Damage with the Hessian's own diagonal."""

from torch import Tensor

from woodfisher_core import scores
from woodfisher_core.hessian import hessian_diagonal
from woodfisher_core.methods.base import Context, Method, Need, labelled
from woodfisher_core.options import Update

# Networks up to this many weights have their diagonal computed exactly, one Hessian product a weight; larger ones estimated.
EXACT_UP_TO = 4096
PROBES = 128


def score(context: Context) -> Tensor:
    """½ w_j² H_jj."""
    probes = context.probes
    if probes is None and len(context.weights) > EXACT_UP_TO:
        probes = PROBES
    found = hessian_diagonal(
        context.network(), context.parameters, labelled(context), probes=probes, seed=context.seed, loss=context.loss
    )
    return scores.diagonal(context.weights, found.values.to(context.weights.device))


def passes(num_prunable: int, probes: int | None) -> float:
    """One product serves many vectors at once: measured, an exact diagonal is worth d/70 gradients, five probes one."""
    if probes is None and num_prunable <= EXACT_UP_TO:
        return num_prunable / 70
    return (probes or PROBES) / 5


METHOD = Method(
    name="diagonal-hessian",
    label="Diagonal Hessian (OBD)",
    help=f"Optimal Brain Damage as first written. Exact up to {EXACT_UP_TO:,} weights, by one Hessian-vector product a weight; "
    f"beyond that estimated with {PROBES} random vectors (Hutchinson), unless the number of probes says otherwise. Negative "
    "curvature counts as such: those weights go first.",
    equation=r"\rho_j=\tfrac12\,w_j^2\,H_{jj}",
    reference="LeCun et al. 1990, eq. 6; Bekas et al. 2007",
    unit="nats",
    meaning="It is what the quadratic model expects from removing that weight while the others stay.",
    cost=r"O(d)\text{ or }O(\text{probes})\text{ Hessian products}",
    needs=frozenset({Need.SAMPLES}),
    default_update=Update.NONE,
    score=score,
    passes=passes,
)
