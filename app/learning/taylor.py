"""Step 1: a parabola in the loss's place."""

import pandas as pd

from app.charts.learn import taylor_path
from app.learning.step import Choice, Shown, Step, Try, nats, signed, tex
from app.words import share as as_share
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson import DIRECTIONS, PRUNE, SHARES, taylor

# Within so much of the measured change the parabola counts as right.
CLOSE = 0.25


def show(space: Workspace, config: PruneConfig, direction: str, share: str) -> Shown:
    found, t = taylor(space, config, direction), float(share)
    rows = [(0.0, 0.0, 0.0, 0.0), *((s, found.at(s), s * found.first, found.predicted(s)) for s in SHARES)]
    table = pd.DataFrame(rows, columns=["share", "measured", "first", "both"])
    good = [s for s in SHARES if abs(found.predicted(s) - found.at(s)) <= CLOSE * abs(found.at(s))]
    far = max(good, default=0.0)
    idea = (
        "Nobody can minimise the loss itself over all steps $\\delta$. But at the trained weights its value, its slope $g$ "
        "and its "
        "curvature $H$ can be measured, and a parabola drawn through them. Here $\\delta$ is a real step of this network "
        f"(**{direction}**, length {found.length:.2f}), of which we walk the share $t={t:g}$. The parabola expects "
        f"{nats(found.predicted(t))}, measured on {found.images:,} training images are **{nats(found.at(t))}**. The whole step: "
        f"{nats(found.predicted(1.0))} expected, {nats(found.at(1.0))} measured. **The model is true nearby**, and "
        "everything that "
        "follows rests on it."
    )
    numbers = (
        rf"L(w+{t:g}\,\delta)\qquad\approx {tex(found.loss)}{signed(t * found.first)}{signed(t * t * found.second)}"
        rf"={tex(found.loss + found.predicted(t))}\qquad\text{{measured: }}{tex(found.loss + found.at(t))}",
    )
    sentence = (
        f"Up to t = {far:g} the parabola is within {as_share(CLOSE)} of the measured change"
        if far
        else f"At none of the marked shares is the parabola within {as_share(CLOSE)} of the measured change"
    )
    ratio = found.at(1.0) / found.predicted(1.0) if found.predicted(1.0) else float("nan")
    sentence += f"; at the end of the step the loss has risen {ratio:.1f} times what it expects." if ratio > 0 else "."
    part = abs(found.first) / (abs(found.first) + abs(found.second))
    answer = (
        f"Of this step's two terms the slope's is {nats(found.first)}, the curvature's {nats(found.second)}: "
        f"the slope makes up {as_share(part)} of them. At a minimum it would be exactly zero. Training ends near one "
        "(weight decay and stopping early keep it from getting there), so OBS drops $g^\\top\\delta$; the method "
        "**woodtaylor** keeps it."
    )
    return Shown(idea, numbers, taylor_path(table, t), sentence, table, answer)


STEP = Step(
    name="taylor",
    title="What does a change of the weights cost?",
    short="Taylor",
    minutes=3,
    equation=r"L(w+\delta)\approx L(w)+g^\top\delta+\tfrac12\,\delta^\top H\,\delta,\qquad g=\nabla L(w),\quad H=\nabla^2L(w)",
    question="Which of the two terms matters more, and why will the first be dropped?",
    show=show,
    choices=(
        Choice(
            "along",
            "The step δ",
            DIRECTIONS,
            PRUNE,
            "**zeroed only**: the weights WoodFisher removes go to zero, the others stay. **zeroed and compensated**: the "
            "others move as the joint update says. **a random direction**: as long as the first, drawn with the seed.",
        ),
        Choice(
            "walked",
            "Share t of it",
            tuple(f"{s:g}" for s in SHARES),
            "0.2",
            r"How far along $\delta$ the formula is evaluated: $L(w+t\,\delta)$.",
        ),
    ),
    tries=(Try("A step half as bold: 50 % sparsity", {"sparsity": 0.5}),),
)
