"""Step 0: which of these weights can go?"""

from app.charts.accuracy import accuracy_curve
from app.learning.step import Shown, Step, Try, tex
from app.words import percent, share
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson import question, rival_lines


def show(space: Workspace, config: PruneConfig) -> Shown:
    found = question(space, config)
    random, magnitude, ours = (found.results[name] for name in ("random", "magnitude", "woodfisher"))
    part = found.removed / found.total
    idea = (
        f"This network has **{found.total:,} prunable weights** and answers {percent(found.dense, 1)} of the test images "
        f"right. Suppose {found.removed:,} of them ({share(part)}) must go: set to zero for good. Which? Picked at random, "
        f"{percent(random.accuracy, 1)} accuracy is left; taking the smallest, {percent(magnitude.accuracy, 1)}; by the "
        f"statistic this lesson derives, **{percent(ours.accuracy, 1)}**. Two things are to be found: the set $P$ of weights "
        r"that go, and the step $\delta$ that the others take to make up for them."
    )
    numbers = (
        rf"d={tex(found.total)},\quad |P|=k={tex(found.removed)},\qquad\binom{{d}}{{k}}\approx10^{{{found.subsets:.0f}}}"
        r"\ \text{ways to choose}",
    )
    current = ("woodfisher", part, ours.accuracy)
    figure = accuracy_curve(found.points, found.dense, current, "How much is left when weights go?")
    sentence = (
        f"At {share(part)} sparsity: random {percent(random.accuracy, 1)}, magnitude {percent(magnitude.accuracy, 1)}, "
        f"WoodFisher {percent(ours.accuracy, 1)}, dense {percent(found.dense, 1)}. Bands: 95 % noise of the test images."
    )
    pairs = found.total * (found.total - 1) // 2
    answer = (
        f"For one weight at a time it can be done: {found.total:,} networks to measure. But weights stand in for one "
        "another: two "
        "that are harmless to lose alone may be fatal to lose together. Already the pairs are "
        f"{pairs:,}, the sets of {found.removed:,} have {found.subsets:.0f} digits. So the loss is replaced by a model of it "
        "that can be minimised with pencil and paper. That is the next step."
    )
    return Shown(idea, numbers, figure, sentence, found.points, answer)


STEP = Step(
    name="question",
    title="Which of these weights can go?",
    short="Question",
    minutes=2,
    equation=r"\min_{P,\;\delta}\;L(w+\delta)\qquad\text{subject to}\quad w_q+\delta_q=0\ \text{ for all }q\in P,\qquad|P|=k",
    question="Why not remove each weight in turn, measure the loss, and take those that cost least?",
    show=show,
    curves=rival_lines,
    tries=(
        Try("Ask for half of the weights", {"sparsity": 0.5}),
        Try("Ask for nine of ten", {"sparsity": 0.9}),
    ),
)
