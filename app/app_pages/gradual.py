"""Gradual: how should sparsity grow? Pruning step by step with training in between, as a job, against its rivals."""

import dataclasses
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app import asking, charts
from app.asking import ask_before_long_work
from app.explain import write_notes
from app.explain_gradual import (
    EQUATION,
    budget_sentence,
    epochs_in,
    example,
    headline,
    loss_sentence,
    other_name,
    saw_sentence,
    schedule_sentence,
    unit,
    verdict_sentence,
)
from app.formulas import write_formula
from app.jobs import Seen, Wanted, follow, look, start
from app.keeping import to_runs
from app.opening import opened
from app.repeating import repeat
from app.schedule import schedule_controls
from app.shared import store
from app.showing import Place
from app.state import View
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.gradual_cost import predict_gradual
from woodfisher_core.experiments.gradual_record import NETWORK
from woodfisher_core.experiments.gradual_tables import (
    epoch_points,
    final_evaluation,
    gap,
    in_one_step,
    level_table,
    other_rise,
    step_table,
)
from woodfisher_core.jobs import JobStatus
from woodfisher_core.jobs.gradual import gradual_request
from woodfisher_core.methods import get_method
from woodfisher_core.store import artefacts

# The first view's runs in a session begin by themselves, in the background, where they are predicted to take less than this
# many times what long work does that waits for a click on the other pages.
AT_ONCE_SHARE = 2.0
# Whose run begins by itself beside the one in focus.
BASELINE = "magnitude"
# Columns of the table of every epoch, in words and with their units.
HEADINGS = {
    "label": "Run",
    "time": "Epochs trained",
    "moment": "Measured when",
    "accuracy": "Test accuracy (%)",
    "loss": "Test loss (nats)",
    "sparsity": "Sparsity (fraction)",
    "training_loss": "Training loss (nats)",
}
# Every epoch of every run that there is, and what each of their methods leaves at once.
Points = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Line:
    """One run of the page: what it is called, and what it runs."""

    label: str
    config: GradualConfig
    button: str

    @property
    def method(self) -> str:
        return self.config.prune.method


def page() -> None:
    view, notes, space, status = opened(
        "How should sparsity grow?",
        "Nobody prunes a large network at once. The paper's best results **prune a little, train a while, and prune again**: "
        "each step removes what matters least to the network as it is by then.",
    )
    top = st.container(key="headline")
    config = schedule_controls(view.config)
    status.caption(ask_before_long_work(space, [view.config.replace(pattern=None)], ()))
    outcome, at_once = space.outcome(view.config), space.evaluation(view.config).accuracy
    write_notes(notes, space, view, outcome)
    problem = space.problem(view.config)
    images = len(problem.dataset.train) if view.config.images is None else view.config.images
    st.caption(budget_sentence(config, images))
    lines = lines_of(space, view, config)
    wanted = [Wanted(gradual_request(line.config, "Gradual"), line.label, line.button) for line in lines]
    begin_first(space, lines, wanted)
    wanted = [with_cost(space, line, job) for line, job in zip(lines, look(wanted), strict=True)]

    standing = st.container()
    grid = st.grid(2, min_column_width=440)
    places = []
    for _ in range(3):
        with grid.cell():
            places.append(Place())

    def drawn(now: tuple[Seen, ...]) -> Points:
        return drawn_points(space, view, problem.dense, lines, now)

    def draw(seen: tuple[Seen, ...], found: Points, over: bool) -> None:
        """The charts; to take home where all is over: what is drawn again and again holds no buttons."""
        epochs = epochs_in(seen[0].parts)
        points, once = found
        reached = points[(points["label"] == lines[0].label) & (points["moment"] == "trained")]
        levels = level_table(config.schedule)
        other = level_table(other_rise(config.schedule)).assign(name=other_name(config)) if len(levels) > 2 else None
        for place, figure, sentence, key, data in (
            (
                places[0],
                charts.saw_tooth(points, problem.dense.accuracy, once, config.epochs),
                saw_sentence(config, lines[0].label, epochs, at_once),
                "saw",
                points,
            ),
            (
                places[1],
                charts.loss_curves(points, config.epochs),
                loss_sentence(lines[0].label, epochs, problem.dense.loss),
                "losses",
                points,
            ),
            (
                places[2],
                charts.schedule_levels(levels, config.epochs, other, reached),
                schedule_sentence(config),
                "schedule",
                step_table(config.schedule),
            ),
        ):
            place.show(figure, sentence, key, data if over else None)

    with grid.cell():
        steps(config, problem.parameters.num_prunable)
    with standing:
        seen = follow(wanted, lambda now: draw(now, drawn(now), False) if _busy(now) else None)
    found = drawn(seen)
    if not _busy(seen):
        draw(seen, found, True)
    kept = store().keys([line.config.key for line in lines])
    with top:
        epochs = epochs_in(seen[0].parts)
        words = headline(config, lines[0].label, epochs, at_once, problem.dense.accuracy)
        st.markdown(f"{words} {verdict_sentence(rivals(space, lines, kept), len(problem.test))}")
    keeping(lines, seen, kept)
    if any(one.parts for one in seen):
        numbers(found[0])
    repeat(view.config)
    status.caption("Up to date." if not _busy(seen) else "Computing in the background …")


def lines_of(space: Workspace, view: View, config: GradualConfig) -> list[Line]:
    """The run in focus, the same in one step, then the same schedule with each method beside it."""
    label = method_label(view.config.method)
    found = [Line(label, config.resolved(space), "Run it")]
    if (at_start := in_one_step(config)) is not None:
        name = f"{label}, one step"
        found.append(Line(name, at_start.resolved(space), "Add one step, same training"))
    for name in view.compared:
        if name != view.config.method:
            try:
                beside = config.replace(prune=view.beside(name)).resolved(space)
            except InputError as error:
                st.warning(f"{method_label(name)} is left out: {error}", icon=":material/warning:")
                continue
            found.append(Line(method_label(name), beside, f"Add {method_label(name)}"))
    return found


def begin_first(space: Workspace, lines: list[Line], wanted: list[Wanted]) -> None:
    """The first view of a session, with its two baselines, runs by itself where that is quick and nobody has asked yet."""
    if st.session_state.setdefault("gradual seen", False):
        return
    st.session_state["gradual seen"] = True
    left = AT_ONCE_SHARE * asking.ASK_SECONDS
    for place, (line, seen) in enumerate(zip(lines, look(wanted), strict=True)):
        if place and line.method not in (lines[0].method, BASELINE):
            continue
        if seen.job is None:
            left -= predict_gradual(space, line.config).seconds
            if left < 0:
                return
            start(seen.wanted.request)


def with_cost(space: Workspace, line: Line, seen: Seen) -> Wanted:
    """With what it will take, where it was never asked for."""
    seconds = predict_gradual(space, line.config).seconds if seen.job is None else None
    return dataclasses.replace(seen.wanted, seconds=seconds)


def drawn_points(space: Workspace, view: View, dense: Evaluation, lines: list[Line], seen: tuple[Seen, ...]) -> Points:
    """The tables of the charts, as far as the runs are."""
    points, once = [], {}
    for line, one in zip(lines, seen, strict=True):
        epochs = epochs_in(one.parts)
        if epochs or line is lines[0]:
            points.append(epoch_points(line.label, line.config, dense, epochs))
            accuracy = space.evaluation(view.beside(line.method)).accuracy
            once[line.method] = (line.method, method_label(line.method), accuracy)
    return pd.concat(points, ignore_index=True), pd.DataFrame(once.values(), columns=["method", "label", "accuracy"])


def rivals(space: Workspace, lines: list[Line], kept: dict[str, int]) -> pd.DataFrame:
    """What the run in focus gains over each other one, where both networks are kept: see ``verdict_sentence``."""
    rows = []
    own = final(space, lines[0], kept)
    for line in lines[1:] if own is not None else ():
        if (other := final(space, line, kept)) is not None:
            rows.append((line.label, other.accuracy, *gap(own, other)))
    return pd.DataFrame(rows, columns=["label", "accuracy", "gap", "noise"])


def final(space: Workspace, line: Line, kept: dict[str, int]) -> Evaluation | None:
    """What the kept network of ``line`` answers; None where none is kept."""
    if line.config.key not in kept:
        return None
    kept_run = store().get(kept[line.config.key])
    if (file := kept_run.artefacts.get(NETWORK)) is None:
        return None
    return final_evaluation(space, line.config, lambda: artefacts.get(store().folder, file["sha256"]))


def keeping(lines: list[Line], seen: tuple[Seen, ...], kept: dict[str, int]) -> None:
    """Which runs are kept, and the way back for one that was deleted."""
    if kept:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(
                f":material/bookmark_added: Kept as run {', '.join(str(number) for number in sorted(kept.values()))}."
            )
            to_runs()
    for one, line in zip(seen, lines, strict=True):
        if one.job is not None and one.job.status is JobStatus.DONE and line.config.key not in kept:
            again, key = f"Keep {line.label} again: its run was deleted", f"again-{line.config.key[:16]}"
            st.button(again, icon=":material/undo:", key=key, on_click=start, args=(one.wanted.request,))


def steps(config: GradualConfig, total: int) -> None:
    """The schedule as an equation with numbers, and step by step."""
    schedule, table = config.schedule, step_table(config.schedule)
    st.markdown("**What does each step take?**")
    write_formula(EQUATION)
    st.markdown(
        f"In epoch $t$, from $t_0={schedule.start_epoch}$ to $t_1={schedule.end_epoch}$, the sparsity rises from $s_i$ to $s_f$ "
        "(Zhu & Gupta 2017). With $p=3$ it rises fast at first, when there is much to spare, and slowly at the end; with $p=1$ "
        "by as much in every step."
    )
    if written := example(config):
        write_formula(written)
    shown = pd.DataFrame({"epoch": table["epoch"], "sparsity": 100 * table["level"]})
    if unit(config) == "weights":
        gone = (table["level"] * total).round().astype(int)
        shown["weights"] = gone.diff().fillna(gone).astype(int)
    shown["of all"], shown["of those left"] = 100 * table["of_all"], 100 * table["of_left"]
    names = ["sparsity", "of all", "of those left"]
    if len(table) > 2:
        other = "cubic" if schedule.degree == 1.0 else "straight"
        shown[other] = 100 * table["other"]
        names.append(other)
    number = st.column_config.NumberColumn
    st.dataframe(shown, hide_index=True, column_config={name: number(format="%.1f %%") for name in names})
    st.caption(
        f"What goes before each epoch: {unit(config)}, as a share of all and of those that are left then"
        + (f", and the share of all along {other_name(config).partition(',')[0]}" if len(table) > 2 else "")
        + ". At each step the Fisher and the statistic are made anew, from fresh images and the weights as they are then. What "
        "is gone stays at zero through all training."
    )


def numbers(points: pd.DataFrame) -> None:
    """Every epoch of every run as a table."""
    with st.expander("The numbers", icon=":material/table:"):
        shown = points.drop(columns=["method", "one_step"]).set_index("label").reset_index()
        st.dataframe(shown, hide_index=True, column_config=HEADINGS)


def method_label(method: str) -> str:
    """A method's name for people."""
    return get_method(method).label


def _busy(seen: tuple[Seen, ...]) -> bool:
    return any(one.busy for one in seen)


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
