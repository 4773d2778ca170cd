"""L-OBS: layer-wise OBS, where each layer only has to give the outputs it gave before."""

from woodfisher_core import scores
from woodfisher_core.activations import layer_factors
from woodfisher_core.fisher.layer_inputs import LayerInputs
from woodfisher_core.methods.base import Context, Method, Need
from woodfisher_core.options import Update


def curvature(context: Context) -> LayerInputs:
    """The second moments of every layer's inputs."""
    factors = layer_factors(context.network(), context.parameters, context.samples(), gradients=False)
    return LayerInputs(factors, context.parameters)


METHOD = Method(
    name="l-obs",
    label="L-OBS (layer-wise)",
    help="OBS on each layer's own output error; needs no labels and no gradients, and knows nothing of what the loss needs: "
    "one threshold over all layers compares errors that are not in one unit.",
    equation=r"\rho_{ij}=\dfrac{w_{ij}^2}{2\,[(A+\lambda I)^{-1}]_{jj}},\quad A=\tfrac1N\sum_n a_na_n^\top",
    reference="Dong et al. 2017, eq. 7",
    unit="½ squared output error",
    meaning="It is by how much the layer's outputs must change for an average sample, in squares, when that weight goes.",
    cost=r"O(N\sum_l n_{in}^2+\sum_l n_{in}^3)",
    needs=frozenset({Need.SAMPLES, Need.INVERSE}),
    default_update=Update.JOINT,
    score=lambda context: scores.obs(context.weights, context.inverse_diagonal()),
    curvature=curvature,
    passes=lambda dim, probes: 0.5,
)
