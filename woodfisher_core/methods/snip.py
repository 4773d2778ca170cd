"""SNIP: connection sensitivity, here at the trained weights."""

from woodfisher_core import scores
from woodfisher_core.methods.base import Method, Need
from woodfisher_core.options import Update

METHOD = Method(
    name="snip",
    label="SNIP",
    help="How much the mean loss changes at first order when a weight is scaled. Near a minimum the mean gradient vanishes, and "
    "with it what this statistic knows.",
    equation=r"\rho_j=|w_j\,\bar g_j|,\quad\bar g=\tfrac1N\sum_n g_n",
    reference="Lee et al. 2019, eq. 5 (unnormalised)",
    unit="nats",
    meaning="It is how fast the mean loss would change if that weight were scaled, whatever the sign.",
    cost=r"O(Nd)",
    needs=frozenset({Need.GRADIENTS}),
    default_update=Update.NONE,
    score=lambda context: scores.first_order(context.weights, context.fisher().mean),
)
