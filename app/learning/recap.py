"""Step 7: what each idea bought, and where to go on."""

import pandas as pd

from app.charts.learn import ladder_bars
from app.learning.step import Shown, Step, tex
from app.words import number, percent, share
from woodfisher_core.evaluation import CONFIDENT
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.lesson import Rung, ladder, plain, rung_runs


def show(space: Workspace, config: PruneConfig) -> Shown:
    rungs = ladder(space, config)
    dense = space.problem(config).dense.accuracy
    table = pd.DataFrame(
        [(rung.label, rung.result.accuracy, rung.result.standard_error, rung.gain, rung.error) for rung in rungs],
        columns=["idea", "accuracy", "standard_error", "gain", "gain_error"],
    )
    first, last = rungs[0], rungs[-1]
    own = plain(config)
    idea = (
        "A parabola in the loss's place (Taylor), its cheapest point with one weight at zero (OBS), gradients for second "
        "derivatives "
        "(Fisher), the inverse from the gradients' products (Woodbury), only near neighbours (blocks), all at once (joint). From "
        f"{percent(first.result.accuracy, 1)} at random to **{percent(last.result.accuracy, 1)}** of {percent(dense, 1)}, with "
        f"{share(own.sparsity)} of the weights gone and not one step of training."
    )
    numbers = (
        rf"N={tex(own.num_samples)},\quad\lambda={tex(space.damping(own))},\quad B=\text{{{own.block_size}}},\qquad "
        rf"s={own.sparsity:g}\;:\quad{last.result.accuracy:.1f}\,\%",
    )
    gains = [rung for rung in rungs[1:] if rung.gain > CONFIDENT * rung.error]
    most = max(rungs[1:], key=lambda rung: rung.gain)
    sentence = (
        f"The largest step up is “{most.label}” ({number(most.gain, '+.1f')} points). {len(gains)} of the {len(rungs) - 1} steps "
        "are gains beyond the noise of the test images."
    )
    losses = [rung for rung in rungs[1:] if rung.gain < -CONFIDENT * rung.error]
    answer = f"{_losses(losses)} At each rung, against the one before: " + "; ".join(
        f"{rung.label} {number(rung.gain, '+.1f')} ± {CONFIDENT * rung.error:.1f}" for rung in rungs[1:]
    )
    return Shown(idea, numbers, ladder_bars(table, dense), sentence, table, answer + " points.")


def _losses(losses: list[Rung]) -> str:
    if not losses:
        return "Not here: no rung lies below the one before by more than the noise."
    names = " and ".join(f"“{rung.label}”" for rung in losses)
    return (
        f"No: {names} {'is' if len(losses) == 1 else 'are'} worse than what came before. Half an idea can be worse than "
        "none: a curvature "
        "without its interactions takes weights for cheap whose partners go too."
    )


STEP = Step(
    name="recap",
    title="What did each idea buy?",
    short="Recap",
    minutes=1,
    equation=r"\rho_j=\frac{w_j^2}{2\,[F^{-1}]_{jj}}\qquad\longrightarrow\;P=\{j:\rho_j\text{ lowest}\}\qquad\longrightarrow\;"
    r"w_P\leftarrow0,\qquad w_S\leftarrow w_S+F_{SS}^{-1}F_{SP}\,w_P",
    question="Is every idea an improvement on the one before?",
    show=show,
    runs=lambda config: tuple(rung_runs(config).values()),
)
