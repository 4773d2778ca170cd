"""First-order Taylor pruning, sample by sample."""

from woodfisher_core import scores
from woodfisher_core.methods.base import Method, Need
from woodfisher_core.options import Update

METHOD = Method(
    name="taylor",
    label="Taylor (first order)",
    help="How much each sample's own loss changes at first order, whatever its sign: samples that pull in opposite directions do "
    "not cancel, so that it still tells weights apart where the mean gradient is zero.",
    equation=r"\rho_j=\tfrac1N\sum_n|w_j\,g_{nj}|",
    reference="Molchanov et al. 2017, eq. 8",
    unit="nats",
    meaning="It is how much the loss of an average sample would change at first order if that weight went, whatever the sign.",
    cost=r"O(Nd)",
    needs=frozenset({Need.GRADIENTS}),
    default_update=Update.NONE,
    score=lambda context: scores.first_order(context.weights, context.fisher().mean_absolute),
)
