"""Step 3: the Fisher in the Hessian's place."""

from app.charts.learn import HESSIAN_DECADES, fisher_against_hessian
from app.learning.step import Shown, Step, Try, tex
from app.words import number, percent, share
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson import plain
from woodfisher_core.experiments.lesson_fisher import FisherHessian, fisher_hessian


def show(space: Workspace, config: PruneConfig) -> Shown:
    found = fisher_hessian(space, config)
    true, drawn = found.agreement["true"], found.agreement["sampled"]
    first, last = found.growth.iloc[0], found.growth.iloc[-1]
    idea = (
        "The Hessian needs second derivatives and may bend downwards. Gradients are cheap, and their mean square is the "
        "same thing "
        "under two conditions: the labels are drawn from the network's own predictions (then it is the Hessian's main "
        "part, exactly, "
        "on average), and the fit is good (then what is left out is small). The **empirical** Fisher takes the true labels. "
        f"Measured on {found.images:,} images and {len(found.weights)} weights: its diagonal points the Hessian's way (cosine "
        f"**{number(true.cosine, '.3f')}**, rank correlation {number(true.rank, '.2f')}), but is "
        f"**{_times(true.ratio)}**. With drawn labels: cosine {number(drawn.cosine, '.3f')}, {_times(drawn.ratio)}. "
        f"From {_images(int(first['samples']))} alone the cosine is "
        f"{number(first['cosine'], '.2f')}, from {int(last['samples']):,} it is {number(last['cosine'], '.2f')}."
    )
    numbers = (
        rf"\cos(\operatorname{{diag}}F,\operatorname{{diag}}H)={true.cosine:.3f},\qquad"
        rf"\frac{{\sum_jF_{{jj}}}}{{\sum_jH_{{jj}}}}={tex(true.ratio, 2)}",
        rf"\frac{{\|\bar g\|^2}}{{\frac1N\sum_n\|g_n\|^2}}=\frac{{{tex(found.signal, 2)}}}{{{tex(found.noise, 2)}}}"
        rf"={tex(found.signal / found.noise, 2) if found.noise else '0'}\qquad\text{{(0 at a minimum)}}",
    )
    sentence = (
        "Each mark is a weight; on the dashed line Fisher and Hessian are equal. With true labels the Fisher is "
        f"{_times(true.ratio)}, "
        f"with drawn ones {_times(drawn.ratio)}."
    )
    hidden = int((found.weights["hessian"] <= found.weights["hessian"].max() * 10.0**-HESSIAN_DECADES).sum())
    if hidden:
        sentence += f" {hidden} of the {len(found.weights)} weights are not drawn: next to no curvature"
        sentence += f", or ({found.downward}) negative one." if found.downward else "."
    figure = fisher_against_hessian(found.weights)
    return Shown(idea, numbers, figure, sentence, found.weights, _answer(space, config, found))


def _answer(space: Workspace, config: PruneConfig, found: FisherHessian) -> str:
    own = plain(config)
    curvature, damping = space.mean_curvature(own), space.damping(own)
    ratio = f"here λ is {damping / curvature:.2g} times the mean of $F_{{jj}}$" if curvature > 0 else "here F is zero"
    return (
        f"The network gives the true label {percent(100 * found.confidence, 1)} on average. A gradient is proportional to "
        "what is "
        "missing to 100 %, its square to the square of that, the curvature only to the first power: the surer the network, "
        "the smaller "
        f"the empirical Fisher against the Hessian ({share(found.agreement['true'].ratio, 1)} of it here). A common factor "
        "changes no "
        "ranking: $\\rho$ of all weights shrinks alike. It does change what the damping $\\lambda$ means, which must be "
        "chosen in the "
        f"Fisher's own units: {ratio}."
    )


def _times(ratio: float) -> str:
    if 0.9 <= ratio <= 1.1:
        return "about as large as it"
    return f"{1 / ratio:.2g} times smaller" if 0 < ratio < 1 else f"{ratio:.2g} times larger"


def _images(count: int) -> str:
    return "one image" if count == 1 else f"{count:,} images"


STEP = Step(
    name="fisher",
    title="What may stand for the Hessian?",
    short="Fisher",
    minutes=3,
    equation=r"H\;\approx\;\mathbb E_{x,\;y\sim p_w(\cdot|x)}\big[g\,g^\top\big]"
    r"\qquad\approx\;\frac1N\sum_{n=1}^N g_ng_n^\top,\qquad "
    r"F=\lambda I+\frac1N\sum_{n=1}^N g_ng_n^\top",
    question="Why is the empirical Fisher of another size than the Hessian, and does that change which weights go?",
    show=show,
    tries=(
        Try("Estimate it from 10 images", {"samples": 10}),
        Try("Draw the labels from the network", {"labels": "sampled"}),
    ),
)
