"""Step 4: the inverse, one rank at a time and all at once."""

from app.charts.learn import recursion_lines
from app.learning.step import Shown, Step, Try, tex
from app.words import number, share
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson_fisher import woodbury
from woodfisher_core.memory import gib


def show(space: Workspace, config: PruneConfig) -> Shown:
    found = woodbury(space, config)
    total = space.problem(config).parameters.num_prunable
    dual = found.num_rows < found.largest
    idea = (
        "The statistic needs $F^{-1}$. It starts at $\\tfrac1\\lambda I$: without any image every weight seems free to go. Each "
        "image then adds one rank, and the formula of Sherman, Morrison and Woodbury says what that does to the inverse: "
        "the paper "
        f"walks so through all N = {found.num_rows:,}. Below, this is done for {found.size} weights of {found.layer}: what "
        "images "
        "have seen of a weight lowers its $[F^{-1}]_{jj}$, and so raises its price. Taken **all at once** the same "
        "identity needs "
        f"only the {found.num_rows:,} × {found.num_rows:,} matrix $K=GG^\\top$ of the gradients' products. Both agree to "
        f"**{number(found.difference, '.0e')}** of the largest entry."
    )
    scale = found.num_rows * found.damping
    numbers = (
        rf"F^{{-1}}=\frac1{{{tex(found.damping)}}}\left[I-G^\top({tex(scale)}\,I+K)^{{-1}}G\right],\qquad "
        rf"G\in\mathbb R^{{{tex(found.num_rows)}\times{tex(total)}}}",
        rf"\underbrace{{NB^2={tex(found.recursion, 2)}}}_{{\text{{recursion}}}}\qquad"
        rf"\underbrace{{N^2B={tex(found.dual, 2)}}}_{{\text{{at once}}}}\qquad\text{{multiplications at }}B={tex(found.largest)}",
    )
    last = found.left.iloc[-1]["share"]
    sentence = (
        f"Of the {found.size} weights {len(found.closed)} are drawn, {_which(found.apart)} images see most of on. After all "
        f"{found.num_rows:,} samples the {found.size} entries have fallen to {share(last, 1)} of 1/λ on average; the circles are "
        "the closed form."
    )
    memory = f"{gib(4 * found.largest**2)} for the recursion's matrix, {gib(8 * found.num_rows**2)} for K"
    answer = f"The largest block has B = {found.largest:,} weights, and there are N = {found.num_rows:,} samples. " + (
        f"N is smaller, so K is the smaller matrix: {found.recursion / found.dual:.1f} times fewer multiplications ({memory}), "
        "all of them in matrix products, which a processor does many times faster than the recursion's passes over memory."
        if dual
        else "There are at least as many samples as weights, so the B × B matrix is the smaller one: then F itself is formed and "
        "factored. The result is the same; the engine takes whichever is smaller."
    )
    figure = recursion_lines(found.steps, found.closed, found.damping)
    return Shown(idea, numbers, figure, sentence, found.steps, answer)


def _which(apart: int) -> str:
    """``every 6th, from the one``: which weights of the block are drawn, in the order of their gradients."""
    if apart == 1:
        return "from the one the"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(apart % 10 if apart % 100 not in (11, 12, 13) else 0, "th")
    return f"every {apart}{ending}, from the one the"


STEP = Step(
    name="woodbury",
    title="How is a matrix of that size inverted?",
    short="Woodbury",
    minutes=3,
    equation=r"F_n^{-1}=F_{n-1}^{-1}-\frac{F_{n-1}^{-1}g_ng_n^\top F_{n-1}^{-1}}{N+g_n^\top F_{n-1}^{-1}g_n},"
    r"\qquad F_0^{-1}=\tfrac1\lambda I"
    r"\qquad\Longleftrightarrow\qquad F^{-1}=\frac1\lambda\Big[I-G^\top(N\lambda I+GG^\top)^{-1}G\Big]",
    question="When is the closed form cheaper, and when is it not?",
    show=show,
    tries=(
        Try("A hundred samples", {"samples": 100}),
        Try("Ten times the damping", {"damping": "1e-2"}),
    ),
)
