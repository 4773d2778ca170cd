"""Step 6: many weights at once."""

from app.charts.learn import update_curves
from app.learning.step import Shown, Step, Try, tex
from app.words import gap_words, percent, share
from woodfisher_core.evaluation import paired_standard_error
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson import many_weights, update_lines


def show(space: Workspace, config: PruneConfig) -> Shown:
    found = many_weights(space, config)
    none, alone, joint = (found.results[name] for name in ("none", "independent", "joint"))
    part = found.removed / (found.removed + found.kept)
    gap, noise = joint.accuracy - alone.accuracy, paired_standard_error(joint, alone)
    verdict = gap_words(gap, noise, 1, "more", "less")
    idea = (
        f"Now {found.removed:,} weights go together. The **mask** is simple: rank all by $\\rho$, remove the lowest. The "
        "**update** "
        "is not. The paper adds up the corrections of the single weights, each of which believes that all others are still "
        "there. "
        f"Together they miss: the removed weights should end at zero, and would end at {share(found.left)} of their size "
        "(they are "
        "then cut to zero). Solving for all of them **jointly** has no such error. With the same mask: "
        f"{percent(none.accuracy, 1)} if nobody moves, {percent(alone.accuracy, 1)} with the sum, "
        f"**{percent(joint.accuracy, 1)}** "
        f"jointly, {verdict}."
    )
    costs = found.costs
    numbers = (
        rf"\tfrac12\delta^\top F\delta:\quad{tex(costs['none'])}\ \text{{(zeroed)}}\qquad{tex(costs['independent'])}\ "
        rf"\text{{(independent)}}\qquad{tex(costs['joint'])}\ \text{{(joint, the least there is)}}\quad\text{{nats}}",
        rf"|P|={tex(found.removed)},\qquad F_{{SS}}\in\mathbb R^{{{tex(found.kept)}\times{tex(found.kept)}}}",
    )
    best = found.points.loc[found.points.groupby("sparsity")["accuracy"].idxmax()]
    ahead = int((best["update"] == "joint").sum())
    sentence = (
        f"The joint update is ahead at {ahead} of the {len(best)} sparsities drawn; at {share(part)} it has "
        f"{percent(joint.accuracy, 1)}, "
        f"magnitude {percent(found.results['magnitude'].accuracy, 1)}. Bands: 95 % noise of the test images."
    )
    answer = (
        "Wherever the corrections do not meet: for a single removed weight, and for blocks of one, where there is nothing "
        "to correct. "
        f"Here they meet: {found.removed:,} corrections on {found.kept:,} survivors. By the model the sum costs "
        f"{costs['independent'] / costs['joint']:.2f} times the joint step. The model is not the network, though: at the highest "
        "sparsities drawn, no step is small any more, and the cheapest by the model need not be the best."
        if costs["joint"] > 0
        else "Nothing is removed at this sparsity: all three are the same."
    )
    problem = space.problem(config)
    figure = update_curves(found.points, problem.dense.accuracy, part)
    return Shown(idea, numbers, figure, sentence, found.points, answer)


STEP = Step(
    name="many",
    title="And if thousands go at once?",
    short="Many weights",
    minutes=2,
    equation=r"\underbrace{\delta=-\sum_{q\in P}\frac{w_q}{[F^{-1}]_{qq}}F^{-1}e_q}_{\text{independent (paper)}}\qquad"
    r"\underbrace{\delta_P=-w_P,\quad\delta_S=F_{SS}^{-1}F_{SP}\,w_P}_{\text{joint}}",
    question="When are the two updates the same?",
    show=show,
    curves=update_lines,
    tries=(
        Try("At 90 % sparsity", {"sparsity": 0.9}),
        Try("Nothing between the weights: blocks of one", {"block": "1"}),
    ),
)
