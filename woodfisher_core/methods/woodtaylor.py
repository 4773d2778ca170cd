"""WoodTaylor: WoodFisher that keeps the first-order term, for networks that have not converged.

The model is gᵀδ + ½δᵀFδ. Its unconstrained minimum is the Newton point w − h with h = F⁻¹ḡ, from which every removal is
counted: with δ = −h + ε the model reads ½εᵀFε less a constant, and δ_q = −w_q is ε_q = −(w_q − h_q). So all of OBS holds
with w − h in the place of w: its statistic is the published one (Singh & Alistarh 2020, the section on WoodTaylor) but for
the constant ½ḡᵀF⁻¹ḡ, which every choice shares (the official code subtracts a constant and a minimum of each block instead,
which makes layers incomparable), and its joint form is exact.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from woodfisher_core import scores
from woodfisher_core.methods.base import Context, Method, Need, Outcome, score_mask_update
from woodfisher_core.options import Update


def newton_point(context: Context) -> Tensor:
    """w − F⁻¹ḡ (d,) float64, zero where weights are gone already.

    The Fisher of means over m samples is about m times too small, so the step is divided by m.
    """
    step = context.inverse().apply(context.fisher().mean) / context.mini_batch
    point = context.weights.to(torch.float64) - step
    return point if context.keep is None else torch.where(context.keep, point, 0.0)


def run(context: Context, sparsities: Sequence[float]) -> Iterator[Outcome]:
    """OBS from the Newton point."""
    return score_mask_update(context, sparsities, newton_point)


METHOD = Method(
    name="woodtaylor",
    label="WoodTaylor",
    help="WoodFisher for networks that still learn: takes the second-order step towards lower loss first, then removes what "
    "costs least from there. λ is also the size of that step: too small a damping leaps.",
    equation=r"\rho_j=\dfrac{(w_j-h_j)^2}{2\,[F^{-1}]_{jj}},\quad h=F^{-1}\bar g",
    reference="Singh & Alistarh 2020, sec. 5",
    unit="nats",
    meaning="It is what removing that weight costs against the best the damped quadratic model can reach.",
    cost=r"O(N^2d)",
    needs=frozenset({Need.GRADIENTS, Need.INVERSE}),
    default_update=Update.JOINT,
    score=lambda context: scores.obs(newton_point(context), context.inverse_diagonal()),
    run=run,
)
