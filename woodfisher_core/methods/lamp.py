"""LAMP: magnitude, made comparable between layers."""

from woodfisher_core import scores
from woodfisher_core.methods.base import Method
from woodfisher_core.options import Update

METHOD = Method(
    name="lamp",
    label="LAMP",
    help="Squared magnitude over the sum of all larger ones in its layer: one threshold then gives every layer a fair share.",
    equation=r"\rho_j=\dfrac{w_j^2}{\sum_{i:\,|w_i|\ge|w_j|}w_i^2}",
    reference="Lee et al. 2021, eq. 3",
    unit="share",
    meaning="It is the weight's share in the energy of those of its layer that are not smaller.",
    cost=r"O(d\log d)",
    needs=frozenset(),
    default_update=Update.NONE,
    score=lambda context: scores.lamp(context.weights, context.parameters),
)
