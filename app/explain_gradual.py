"""Gradual pruning in words and tables: every number comes from the run's own epochs."""

from collections.abc import Sequence

import pandas as pd

from app.explain import percent, share
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.jobs import Part

EQUATION = r"s_t = s_f - (s_f - s_i)\left(1 - \frac{t - t_0}{t_1 - t_0}\right)^3"


def epochs_in(parts: Sequence[Part]) -> list[dict]:
    """The epochs that are there without a gap from the first on, as the job keeps them."""
    by_epoch = {part.position: dict(part.value) for part in parts if part.error is None}
    found = []
    while len(found) + 1 in by_epoch:
        found.append(by_epoch[len(found) + 1])
    return found


def saw_points(method: str, label: str, dense_accuracy: float, epochs: Sequence[dict]) -> pd.DataFrame:
    """One method's line for :func:`app.charts.saw_tooth`."""
    rows = [(0.0, dense_accuracy, 0.0, "dense")]
    for epoch in epochs:
        if epoch["pruned"] is not None:
            rows.append((epoch["epoch"] - 1.0, epoch["pruned"]["accuracy"], epoch["sparsity"], "pruned"))
        rows.append((float(epoch["epoch"]), epoch["after"]["accuracy"], epoch["sparsity"], "trained"))
    table = pd.DataFrame(rows, columns=["time", "accuracy", "sparsity", "moment"])
    return table.assign(method=method, label=label)


def level_table(config: GradualConfig) -> pd.DataFrame:
    """The schedule's steps: ``epoch`` and ``level``."""
    return pd.DataFrame(config.schedule.levels.items(), columns=["epoch", "level"])


def schedule_sentence(config: GradualConfig) -> str:
    """What the schedule does."""
    levels = list(config.schedule.levels.values())
    if len(levels) == 1:
        left = config.epochs - config.schedule.end_epoch
        return f"One step to {share(levels[0], 1)} before epoch {config.schedule.end_epoch}, then {left + 1} epochs of training."
    rises = [after - before for before, after in zip([0.0, *levels], levels, strict=False)]
    after = config.epochs - config.schedule.end_epoch + 1
    return (
        f"{len(levels)} steps: {share(rises[1], 1)} of all weights go in the second, {share(rises[-1], 1)} in the last, which "
        f"{after} epoch{'s' if after > 1 else ''} of training follow{'' if after > 1 else 's'}."
    )


def saw_sentence(config: GradualConfig, label: str, epochs: Sequence[dict], at_once: float) -> str:
    """What the saw tooth says of the method in focus."""
    if not epochs:
        return f"Dotted: {share(config.schedule.final)} pruned at once, without training. The steps are not run yet."
    steps = [
        (one["before"]["accuracy"] - one["pruned"]["accuracy"], one) for one in epochs if one["pruned"] is not None
    ]
    loss, worst = max(steps, key=lambda step: step[0], default=(0.0, {}))
    if loss < 0.05:
        text = "No step costs any accuracy. " if steps else ""
    else:
        back = worst["after"]["accuracy"] - worst["pruned"]["accuracy"]
        brings = f"brings back {back:.1f}" if back >= 0.05 else "brings nothing back"
        hardest = f"The hardest step of {label}, to {share(worst['sparsity'], 1)}, costs {loss:.1f} points"
        text = f"{hardest}; the epoch after it {brings}. "
    last = epochs[-1]
    if len(epochs) < config.epochs:
        return f"{text}So far {len(epochs)} of {config.epochs} epochs: {percent(last['after']['accuracy'])}."
    return (
        f"{text}At the end {percent(last['after']['accuracy'])}: {last['after']['accuracy'] - at_once:+.1f} points against "
        "pruning at once."
    )


def headline(config: GradualConfig, label: str, epochs: Sequence[dict], at_once: float, dense: float) -> str:
    """The page's answer in a sentence."""
    final, steps = share(config.schedule.final), len(config.schedule.levels)
    begin = (
        f"Pruned to **{final}** at once, {label} leaves **{percent(at_once)}** of the dense network's {percent(dense)}"
    )
    if len(epochs) < config.epochs:
        return f"{begin}. In {steps} step{'s' if steps > 1 else ''} with training in between: see below."
    reached = epochs[-1]["after"]["accuracy"]
    return f"{begin}; in {steps} step{'s' if steps > 1 else ''} with training in between, **{percent(reached)}**."


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
        rf"\left(1 - \frac{{{epoch - schedule.start_epoch}}}{{{span}}}\right)^3 = {level:.3f}"
    )
