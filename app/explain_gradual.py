"""Gradual pruning in words: every number comes from the run's own epochs. Without Streamlit, so that notebooks say the same."""

from collections.abc import Mapping, Sequence

import pandas as pd

from app.words import listed, number, percent, share
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.gradual_tables import other_rise, step_table
from woodfisher_core.experiments.verdicts import verdict
from woodfisher_core.jobs import Part
from woodfisher_core.options import Budget

EQUATION = r"s_t = s_f - (s_f - s_i)\left(1 - \frac{t - t_0}{t_1 - t_0}\right)^p"
# Less than this, in points, is no change.
UNSEEN = 0.05
Epochs = Sequence[Mapping]


def epochs_in(parts: Sequence[Part]) -> list[dict]:
    """The epochs that are there without a gap from the first on, as the job keeps them."""
    by_epoch = {part.position: dict(part.value) for part in parts if part.error is None}
    found = []
    while len(found) + 1 in by_epoch:
        found.append(by_epoch[len(found) + 1])
    return found


def unit(config: GradualConfig) -> str:
    """What the sparsity counts."""
    return "multiply-adds" if config.prune.budget is Budget.FLOPS else "weights"


def rise_name(degree: float) -> str:
    """How a schedule of this degree rises."""
    return "a straight line" if degree == 1.0 else "the cubic"


def other_name(config: GradualConfig) -> str:
    """What the other schedule is called in the figure."""
    return f"{rise_name(other_rise(config.schedule).degree)}, for comparison"


def budget_sentence(config: GradualConfig, images: int) -> str:
    """What each run may use; the same for every line."""
    steps = len(config.schedule.levels)
    batches = -(-images // config.tuning.batch_size)
    drawn = f", with {config.prune.num_samples:,} images drawn anew at each" if config.prune.uses_data else ""
    return (
        f"Every line trains alike: {config.epochs} epoch{_s(config.epochs)} over {images:,} images, "
        f"{config.epochs * batches:,} steps of SGD. This schedule has {steps} pruning step{_s(steps)}{drawn}."
    )


def schedule_sentence(config: GradualConfig) -> str:
    """What the schedule does."""
    table, schedule = step_table(config.schedule), config.schedule
    after = config.epochs - schedule.end_epoch + 1
    trained = f"{after} epoch{_s(after)} of training"
    if len(table) == 1:
        return f"One step to {share(table['level'][0], 1)} before epoch {schedule.end_epoch}, then {trained}."
    second, last = table.iloc[1], table.iloc[-1]
    text = (
        f"{len(table)} steps: {_part(second['of_all'])} of all {unit(config)} go in the second, {_part(last['of_all'])} in "
        f"the last, which {trained} follow{'s' if after == 1 else ''}."
    )
    if len(table) > 2:
        theirs = last["other"] / (1.0 - last["level"] + last["other"])
        text += (
            f" The last takes {_part(last['of_left'])} of those that are left then; along "
            f"{rise_name(other_rise(schedule).degree)} it would take {_part(theirs)}."
        )
    return text


def saw_sentence(config: GradualConfig, label: str, epochs: Epochs, at_once: float) -> str:
    """What the saw tooth says of the method in focus."""
    if not epochs:
        return f"Dotted: {share(config.schedule.final)} pruned at once, without training. The steps are not run yet."
    text = _hardest(label, epochs)
    last = epochs[-1]["after"]["accuracy"]
    if len(epochs) < config.epochs:
        return f"{text}So far {len(epochs)} of {config.epochs} epochs: {percent(last)}."
    gained = number(last - at_once, "+.1f")
    return f"{text}At the end {percent(last)}: {gained} points against pruning at once. {_ends(config, epochs)}"


def _hardest(label: str, epochs: Epochs) -> str:
    steps = [
        (one["before"]["accuracy"] - one["pruned"]["accuracy"], one) for one in epochs if one["pruned"] is not None
    ]
    if not steps:
        return ""
    loss, worst = max(steps, key=lambda step: step[0])
    if loss < UNSEEN:
        return "No step costs any accuracy. "
    back = worst["after"]["accuracy"] - worst["pruned"]["accuracy"]
    brings = f"brings back {back:.1f}" if back >= UNSEEN else "brings nothing back"
    hardest = f"The hardest step of {label}, to {share(worst['sparsity'], 1)}, costs {loss:.1f} points"
    return f"{hardest}; the epoch after it {brings}. "


def _ends(config: GradualConfig, epochs: Epochs) -> str:
    """Straight after the last step, the best epoch, and the last one, which are three numbers."""
    at_the_end = [one for one in epochs if one["epoch"] >= config.schedule.end_epoch]
    pruned = at_the_end[0]["pruned"]["accuracy"]
    best = max(at_the_end, key=lambda one: one["after"]["accuracy"])
    words = f"Straight after the last step it had {percent(pruned)}"
    if best["after"]["accuracy"] - epochs[-1]["after"]["accuracy"] < UNSEEN:
        return f"{words}; no epoch at the final sparsity is better than the last."
    return (
        f"{words}; best at the final sparsity is epoch {best['epoch']} with {percent(best['after']['accuracy'])}. What is kept "
        "is the last: a best one would be picked by the test images."
    )


def loss_sentence(label: str, epochs: Epochs, dense_loss: float) -> str:
    """What the losses of the method in focus say."""
    if not epochs:
        return f"The dense network starts from a test loss of {dense_loss:.3f} nats."
    steps = [one for one in epochs if one["pruned"] is not None and one["pruned"]["loss"] is not None]
    text = ""
    if steps:
        worst = max(steps, key=lambda one: one["pruned"]["loss"] - one["before"]["loss"])
        raised = worst["pruned"]["loss"] - worst["before"]["loss"]
        text = (
            f"The step to {share(worst['sparsity'], 1)} raises the test loss of {label} most, by {number(raised, '+.3f')} nats. "
            if raised > 0
            else "No step raises the test loss. "
        )
    test, training = epochs[-1]["after"]["loss"], epochs[-1]["training_loss"]
    if test is None or training is None:
        return f"{text}After epoch {len(epochs)} the loss is not finite."
    apart = (
        "on the images it learns from it is lower: it fits them better than new ones"
        if training < test
        else "on the images it learns from it is no lower"
    )
    return (
        f"{text}After epoch {len(epochs)} it is {test:.3f} nats (dense {dense_loss:.3f}) and {training:.3f} on the training "
        f"images: {apart}."
    )


def headline(config: GradualConfig, label: str, epochs: Epochs, at_once: float, dense: float) -> str:
    """The page's answer in a sentence."""
    final, how = share(config.schedule.final), _how(config)
    begin = f"Pruned to **{final}** at once, {label} leaves **{percent(at_once)}** (dense {percent(dense)})"
    if len(epochs) < config.epochs:
        return f"{begin}. {how[0].upper()}{how[1:]}: see below."
    reached = epochs[-1]["after"]["accuracy"]
    return f"{begin}; {how}, **{percent(reached)}**."


def _how(config: GradualConfig) -> str:
    """How often it prunes, and when it trains: between the steps, where there are several."""
    steps, schedule = len(config.schedule.levels), config.schedule
    if steps > 1:
        return f"in {steps} steps with training in between"
    before, after = schedule.end_epoch - 1, config.epochs - schedule.end_epoch + 1
    begin = f"in 1 step after {before} epoch{_s(before)} of training and" if before else "in 1 step"
    return f"{begin} with {after} epoch{_s(after)} of training after it"


def verdict_sentence(rivals: pd.DataFrame, tests: int) -> str:
    """How the run in focus stands against others on the same budget.

    Args:
        rivals: ``label``, ``accuracy`` (percent), ``gap`` of the run in focus over it and its 95 % ``noise`` (points).
        tests: How many test images there are.
    """
    if rivals.empty:
        return ""
    parts = []
    for one in rivals.itertuples():
        difference = f"{number(one.gap, '+.2f')} ± {one.noise:.2f} points"
        said = verdict(one.gap, one.noise)
        said = f"it is {said}" if abs(one.gap) <= one.noise else f"it is **{said}** than that"
        parts.append(f"against {one.label} ({percent(one.accuracy)}) {said} ({difference})")
    return (
        f"On the same budget, {listed(parts)}. The noise is that of {tests:,} test images, compared image by image; one seed a "
        "run, so other training would move all of them."
    )


def example(config: GradualConfig) -> str:
    """The equation with the numbers of one step in the middle, as LaTeX; empty where there is one step."""
    schedule = config.schedule
    inner = [
        (epoch, level) for epoch, level in schedule.levels.items() if schedule.start_epoch < epoch < schedule.end_epoch
    ]
    if not inner:
        return ""
    epoch, level = inner[len(inner) // 2]
    span = schedule.end_epoch - schedule.start_epoch
    return (
        rf"s_{{{epoch}}} = {schedule.final:g} - ({schedule.final:g} - {schedule.initial:g})"
        rf"\left(1 - \frac{{{epoch - schedule.start_epoch}}}{{{span}}}\right)^{{{schedule.degree:g}}}\qquad = {level:.3f}"
    )


def _part(fraction: float) -> str:
    """A share that may be tiny."""
    return share(fraction, 1 if fraction >= 0.0005 else 4)


def _s(count: int) -> str:
    return "" if count == 1 else "s"
