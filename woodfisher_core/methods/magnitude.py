"""Magnitude pruning."""

from woodfisher_core import scores
from woodfisher_core.methods.base import Method
from woodfisher_core.options import Update

METHOD = Method(
    name="magnitude",
    label="Magnitude",
    help="Removes the smallest weights. Looks at no data at all.",
    equation=r"\rho_j=|w_j|",
    reference="Han et al. 2015",
    unit="|w|",
    meaning="It is the weight's own size.",
    cost=r"O(d)",
    needs=frozenset(),
    default_update=Update.NONE,
    score=lambda context: scores.magnitude(context.weights),
)
