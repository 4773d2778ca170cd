"""Gradual: what does training in between bring back? Pruning step by step along the cubic schedule, as a job."""

import dataclasses

import pandas as pd
import streamlit as st

from app import asking, charts
from app.asking import ask_before_long_work
from app.explain import write_notes
from app.explain_gradual import (
    EQUATION,
    epochs_in,
    example,
    headline,
    level_table,
    saw_points,
    saw_sentence,
    schedule_sentence,
)
from app.jobs import Seen, Wanted, follow, look, start
from app.keeping import to_runs
from app.opening import opened
from app.schedule import schedule_controls
from app.shared import store
from app.showing import Place, show
from app.state import View
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.gradual_cost import predict_gradual
from woodfisher_core.jobs import JobStatus
from woodfisher_core.jobs.gradual import gradual_request
from woodfisher_core.methods import get_method

# The page's first run in a session begins by itself, in the background, where it is predicted to take less than this
# many times what long work does that waits for a click on the other pages.
AT_ONCE_SHARE = 2.0


def page() -> None:
    view, notes, space, status = opened(
        "What does training in between bring back?",
        "Nobody prunes a large network at once. The paper's best results **prune a little, train a while, and prune again**: "
        "each step removes what matters least to the network as it is by then.",
    )
    top = st.container(key="headline")
    config = schedule_controls(view.config)
    status.caption(ask_before_long_work(space, [view.config.replace(pattern=None)], ()))
    outcome, at_once = space.outcome(view.config), space.evaluation(view.config).accuracy
    write_notes(notes, space, view, outcome)
    dense = space.problem(view.config).dense.accuracy
    settings = runs(space, view, config)
    wanted = [
        Wanted(
            gradual_request(one, "Gradual"),
            label(name),
            "Run it" if name == view.config.method else f"Compare with {label(name)}, same schedule",
        )
        for name, one in settings.items()
    ]
    begin_first(space, settings[view.config.method], wanted[0])
    wanted = [with_cost(space, one, job) for one, job in zip(settings.values(), look(wanted), strict=True)]

    standing = st.container()
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        saw = Place()
    with grid.cell():
        show(charts.schedule_levels(level_table(config), config.epochs), schedule_sentence(config), "schedule")

    def draw(seen: tuple[Seen, ...]) -> None:
        at_ends, points = [], []
        for name, one in zip(settings, seen, strict=True):
            epochs = epochs_in(one.parts)
            if epochs or name == view.config.method:
                points.append(saw_points(name, label(name), dense, epochs))
                at_ends.append((name, label(name), space.evaluation(view.beside(name)).accuracy))
        levels = pd.DataFrame(at_ends, columns=["method", "label", "accuracy"])
        figure = charts.saw_tooth(pd.concat(points), dense, levels, config.epochs)
        saw.show(figure, saw_sentence(config, label(view.config.method), epochs_in(seen[0].parts), at_once), "saw")

    with standing:
        seen = follow(wanted, draw)
    epochs = epochs_in(seen[0].parts)
    with top:
        st.markdown(headline(config, label(view.config.method), epochs, at_once, dense))
    kept = store().keys([one.key for one in settings.values()])
    if kept:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(
                f":material/bookmark_added: Kept as run {', '.join(str(number) for number in sorted(kept.values()))}."
            )
            to_runs()
    for one, own in zip(seen, settings.values(), strict=True):
        if one.job is not None and one.job.status is JobStatus.DONE and own.key not in kept:
            again, key = f"Keep {one.wanted.label} again: its run was deleted", f"again-{own.key[:16]}"
            st.button(again, icon=":material/undo:", key=key, on_click=start, args=(one.wanted.request,))
    equation(config)
    numbers(settings, seen, dense)
    status.caption("Up to date." if not any(one.busy for one in seen) else "Computing in the background …")


def runs(space: Workspace, view: View, config: GradualConfig) -> dict[str, GradualConfig]:
    """The run in focus, then the same with each method beside it, by method."""
    found = {view.config.method: config.resolved(space)}
    for name in view.compared:
        if name not in found:
            try:
                found[name] = config.replace(prune=view.beside(name)).resolved(space)
            except InputError as error:
                st.warning(f"{label(name)} is left out: {error}", icon=":material/warning:")
    return found


def begin_first(space: Workspace, config: GradualConfig, wanted: Wanted) -> None:
    """The first view of a session runs by itself where that is quick and nobody has asked for it yet."""
    if st.session_state.setdefault("gradual seen", False):
        return
    st.session_state["gradual seen"] = True
    if look([wanted])[0].job is None and predict_gradual(space, config).seconds < AT_ONCE_SHARE * asking.ASK_SECONDS:
        start(wanted.request)


def with_cost(space: Workspace, config: GradualConfig, seen: Seen) -> Wanted:
    """With what it will take, where it was never asked for."""
    seconds = predict_gradual(space, config).seconds if seen.job is None else None
    return dataclasses.replace(seen.wanted, seconds=seconds)


def equation(config: GradualConfig) -> None:
    """The schedule's equation, with numbers."""
    schedule = config.schedule
    with st.expander("The cubic schedule", icon=":material/function:"):
        st.markdown(
            "In epoch $t$, from $t_0$ to $t_1$, the sparsity rises from $s_i$ to $s_f$ (Zhu & Gupta 2017): fast at first, when "
            "there is much to spare, and slowly at the end."
        )
        st.latex(EQUATION)
        if written := example(config):
            st.markdown(f"Here, with $t_0={schedule.start_epoch}$ and $t_1={schedule.end_epoch}$:")
            st.latex(written)
        st.markdown(
            "At each step the Fisher and the statistic are made anew, from fresh images and the weights as they are then. What "
            "is gone stays at zero through all training."
        )


def numbers(settings: dict[str, GradualConfig], seen: tuple[Seen, ...], dense: float) -> None:
    """Every epoch of every run as a table."""
    tables = [
        saw_points(name, label(name), dense, epochs)
        for name, one in zip(settings, seen, strict=True)
        if (epochs := epochs_in(one.parts))
    ]
    if not tables:
        return
    table = pd.concat(tables)[["label", "time", "moment", "sparsity", "accuracy"]]
    with st.expander("The numbers", icon=":material/table:"):
        st.dataframe(table, hide_index=True)
        st.download_button("gradual.csv", table.to_csv(index=False), "gradual.csv", "text/csv", on_click="ignore")


def label(method: str) -> str:
    """A method's name for people."""
    return get_method(method).label


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
