"""WoodFisher: the Optimal Brain Surgeon statistic with the inverse empirical Fisher."""

from woodfisher_core import scores
from woodfisher_core.methods.base import Method, Need
from woodfisher_core.options import Update

METHOD = Method(
    name="woodfisher",
    label="WoodFisher (OBS)",
    help="Asks what removing a weight costs once the others have moved to make up for it.",
    equation=r"\rho_j=\dfrac{w_j^2}{2\,[F^{-1}]_{jj}}",
    reference="Singh & Alistarh 2020, eq. 4",
    unit="nats",
    meaning="It is what the damped quadratic model expects from removing that weight once the others have made up for it.",
    cost=r"O(N^2d)",
    needs=frozenset({Need.GRADIENTS, Need.INVERSE}),
    default_update=Update.INDEPENDENT,
    score=lambda context: scores.obs(context.weights, context.inverse_diagonal()),
)
