"""K-FAC: OBS with a Kronecker-factored Fisher."""

from woodfisher_core import scores
from woodfisher_core.activations import layer_factors
from woodfisher_core.fisher.kronecker import KroneckerFisher
from woodfisher_core.methods.base import Context, Method, Need
from woodfisher_core.options import Labels, Update
from woodfisher_core.sampling import label_uniforms


def curvature(context: Context) -> KroneckerFisher:
    """A_l ⊗ Γ_l of every layer."""
    count = context.num_samples * context.mini_batch
    drawn = {"uniforms": label_uniforms(count, context.seed)} if context.labels is Labels.SAMPLED else {}
    factors = layer_factors(
        context.network(),
        context.parameters,
        context.samples(),
        loss=context.loss,
        labels=context.labels,
        gradients=True,
        **drawn,
    )
    return KroneckerFisher(factors, context.parameters)


METHOD = Method(
    name="kfac",
    label="K-FAC (OBS)",
    help="OBS where each layer's Fisher is taken for a Kronecker product: how inputs vary together, times how output gradients "
    "do. Holds few numbers, and assumes the two are independent. Mini-batches only add samples here.",
    equation=r"\rho_{ij}=\dfrac{w_{ij}^2}{2\,[(A\otimes\Gamma+\lambda I)^{-1}]_{ij,ij}}",
    reference="Martens & Grosse 2015; Grosse & Martens 2016",
    unit="nats",
    meaning="It is what the damped quadratic model expects from removing that weight once others of its layer made up for it.",
    cost=r"O(N\sum_l(n_{in}^2+n_{out}^2)+\sum_l(n_{in}^3+n_{out}^3))",
    needs=frozenset({Need.SAMPLES, Need.INVERSE}),
    default_update=Update.INDEPENDENT,
    score=lambda context: scores.obs(context.weights, context.inverse_diagonal()),
    curvature=curvature,
    passes=lambda dim, probes: 1.0,
)
