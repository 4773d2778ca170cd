"""Diagonal Fisher: Optimal Brain Damage with the empirical Fisher in place of the Hessian's diagonal."""

from woodfisher_core import scores
from woodfisher_core.methods.base import Method, Need
from woodfisher_core.options import Update

METHOD = Method(
    name="diagonal-fisher",
    label="Diagonal Fisher (OBD)",
    help="Weighs each squared weight by how much the loss reacts to it, as if weights did not interact. No damping.",
    equation=r"\rho_j=\tfrac12\,w_j^2\,F_{jj}",
    reference="LeCun et al. 1990; Theis et al. 2018",
    unit="nats",
    meaning="It is what the quadratic model expects from removing that weight while the others stay.",
    cost=r"O(Nd)",
    needs=frozenset({Need.GRADIENTS}),
    default_update=Update.NONE,
    score=lambda context: scores.diagonal(context.weights, context.fisher().diagonal),
)
