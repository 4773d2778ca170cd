"""A gradual run as tables, its rival that prunes in one step, and what a final network answers rightly."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from safetensors.torch import load

from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.verdicts import difference
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.gradual_run import Score
from woodfisher_core.schedules import CUBIC, GradualSchedule

POINTS = ("time", "moment", "accuracy", "loss", "training_loss", "sparsity")
MASK = ".mask"


def in_one_step(config: GradualConfig) -> GradualConfig | None:
    """``config`` with all its pruning in its first step and the same training; None where there is one step only."""
    schedule = config.schedule
    if len(schedule.levels) < 2:
        return None
    first = min(schedule.levels)
    return config.replace(schedule=dataclasses.replace(schedule, start_epoch=first, end_epoch=first))


def other_rise(schedule: GradualSchedule) -> GradualSchedule:
    """The same from first to last along a straight line; along the cubic where it is straight already."""
    return dataclasses.replace(schedule, degree=CUBIC if schedule.degree == 1.0 else 1.0)


def level_table(schedule: GradualSchedule) -> pd.DataFrame:
    """The schedule's steps: ``epoch`` and ``level`` (fraction)."""
    return pd.DataFrame(schedule.levels.items(), columns=["epoch", "level"])


def step_table(schedule: GradualSchedule) -> pd.DataFrame:
    """A row a step: ``step``, ``epoch``, ``level``, and what goes: ``of_all``, ``of_left`` (fractions of all and of those left).

    ``other`` is what the schedule of :func:`other_rise` takes in that step, as a fraction of all.
    """
    table = level_table(schedule)
    before = table["level"].shift(fill_value=0.0)
    others = level_table(other_rise(schedule))
    taken = others["level"].diff().fillna(others["level"])
    found = table.assign(
        step=range(1, len(table) + 1),
        of_all=table["level"] - before,
        of_left=(table["level"] - before) / (1.0 - before),
        other=table["epoch"].map(dict(zip(others["epoch"], taken, strict=True))),
    )
    return found[["step", "epoch", "level", "of_all", "of_left", "other"]]


def epoch_points(
    label: str, config: GradualConfig, dense: Score | Evaluation, epochs: Sequence[Mapping]
) -> pd.DataFrame:
    """One run's line through its ``epochs`` (see ``gradual_record.epoch_values``), from the ``dense`` network on.

    Returns:
        ``label``, ``method``, ``one_step`` (whether it prunes once); ``time`` (epochs trained), ``moment`` (``dense``, ``pruned``
        or ``trained``), ``accuracy`` (percent), ``loss`` (nats) and ``sparsity`` (fraction); ``training_loss`` (nats, the mean
        over the epoch that ends there) where it was trained.
    """
    rows = [(0.0, "dense", dense.accuracy, dense.loss, None, 0.0)]
    for epoch in epochs:
        if (pruned := epoch["pruned"]) is not None:
            rows.append((epoch["epoch"] - 1.0, "pruned", pruned["accuracy"], pruned["loss"], None, epoch["sparsity"]))
        after = epoch["after"]
        trained = (after["accuracy"], after["loss"], epoch["training_loss"], epoch["sparsity"])
        rows.append((float(epoch["epoch"]), "trained", *trained))
    table = pd.DataFrame(rows, columns=list(POINTS))
    table["training_loss"] = pd.to_numeric(table["training_loss"])
    table["loss"] = pd.to_numeric(table["loss"])  # None where it was not finite
    return table.assign(label=label, method=config.prune.method, one_step=len(config.schedule.levels) == 1)


def final_evaluation(space: Workspace, config: GradualConfig, read: Callable[[], bytes]) -> Evaluation:
    """The final network of the resolved ``config`` on the test images; ``read`` gives its ``gradual_record.network_file``."""

    def make() -> Evaluation:
        problem = space.problem(config.prune)
        tensors = {name: tensor.to(problem.device) for name, tensor in load(read()).items() if not name.endswith(MASK)}
        return problem.evaluate(None, problem.test, tensors)

    return space.results.get(("gradual network", config.key), make, lambda found: 16 * found.num_samples)


def gap(own: Evaluation, other: Evaluation) -> tuple[float, float]:
    """(accuracy of ``own`` less that of ``other``, its 95 % noise to either side), in points, image by image."""
    right = lambda one: (one.predictions == one.targets).numpy()  # noqa: E731
    return difference([right(own)], [right(other)])
