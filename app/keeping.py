"""Results kept as runs, on one click; what is kept already says so."""

from collections.abc import Sequence

import streamlit as st

from app.baseline import linked
from app.jobs import Wanted, follow, start
from app.shared import store, workspace
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.comparison import Series
from woodfisher_core.experiments.plane import Plane
from woodfisher_core.experiments.remember import record_of
from woodfisher_core.jobs import JobStatus
from woodfisher_core.sweeps import Sweep, Values, resolved, sweep_request

RUNS_PAGE = "app_pages/runs.py"
# Fields of a config that its sweep finds out by itself.
NOT_ASKED_FOR = ("weights_hash", "data_hash", "engine_version")
_ERROR = "keeping error"


def keep_button(config: PruneConfig, sparsities: Sequence[float], origin: str) -> None:
    """The button that keeps ``config``'s result with its curve, or the word that it is kept."""
    try:
        number = store().find(workspace().resolve(config).key)
    except WoodFisherError as error:
        _cannot(error)
        return
    with st.container(horizontal=True, vertical_alignment="center", key="keep-row"):
        if number is None:
            st.button(
                "Keep this run",
                icon=":material/bookmark_add:",
                key="keep",
                on_click=_keep,
                args=([Series("", config)], sparsities, origin),
                help="Puts its numbers, its curve and its settings among your runs, where they can be compared.",
            )
        else:
            st.caption(f":material/bookmark_added: Kept as run {number}.")
            to_runs()
    _say_error()


def keep_lines_button(lines: Sequence[Series], sparsities: Sequence[float], origin: str) -> None:
    """The button that keeps a run of each of ``lines``, with its curve."""
    try:
        keys = [workspace().resolve(line.config).key for line in lines]
        kept = store().keys(keys)
    except WoodFisherError as error:
        _cannot(error)
        return
    missing = [line for line, key in zip(lines, keys, strict=True) if key not in kept]
    with st.container(horizontal=True, vertical_alignment="center", key="keep-row"):
        if kept:
            st.caption(f":material/bookmark_added: {len(kept)} of {len(lines)} lines are kept.")
        if missing:
            st.button(
                f"Keep {'the other ' if kept else ''}{len(missing)} line{'s' if len(missing) > 1 else ''} as runs",
                icon=":material/bookmark_add:",
                key="keep",
                on_click=_keep,
                args=(missing, sparsities, origin),
                help="A run a line, at the sparsity and the seed on the left, with its curve. It computes what the lines "
                "did not: the loss, on test images and on held-out ones.",
            )
        if kept:
            to_runs()
    _say_error()


def keep_plane_button(plane: Plane) -> None:
    """The button that keeps every setting of a plane as a run: a sweep over them, in the background."""
    config, both = plane.config.to_dict(), {plane.axis.field: plane.values, "damping": plane.dampings}
    base = {name: value for name, value in config.items() if name not in {*both, *NOT_ASKED_FOR}}
    vary = {name: Values(tuple(values)) for name, values in both.items()}
    count = len(plane.values) * len(plane.dampings)
    try:
        sweep = resolved(Sweep(base=tuple(base.items()), vary=tuple(vary.items())), workspace())
        asked = Wanted(sweep_request(sweep, "Sensitivity"), "Keeping them", f"Keep these {count} settings as runs")
        seen = follow((asked,), lambda _: None)[0]
    except WoodFisherError as error:
        _cannot(error)
        return
    if seen.job is None or seen.job.status is not JobStatus.DONE:
        return
    keys = {part.key for part in seen.parts if part.key}
    there = len(store().keys(list(keys)))
    with st.container(horizontal=True, vertical_alignment="center", key="kept-plane"):
        st.caption(f":material/bookmark_added: {there} of {count} settings are kept.")
        if there < count:  # deleted since, or failed
            st.button(
                "Keep the others",
                icon=":material/bookmark_add:",
                key="keep-others",
                on_click=start,
                args=(asked.request,),
            )
        to_runs()


def to_runs() -> None:
    """The link to the Runs page."""
    st.page_link(RUNS_PAGE, label="See your runs", icon=":material/history:", query_params=linked(), width="content")


def _keep(lines: Sequence[Series], sparsities: Sequence[float], origin: str) -> None:
    """Computes what is missing of these lines, and saves each; what fails is said and keeps nothing."""
    space, failed = workspace(), []
    for line in lines:
        config = line.config
        try:
            points = () if config.pattern is not None else space.curve(config, sparsities)
            store().save(record_of(space.report(config), origin=origin, curve=points))
        except WoodFisherError as error:
            failed.append(f"{line.label}: {error}" if line.label else str(error))
    if failed:
        st.session_state[_ERROR] = "Not kept. " + " ".join(failed)


def _say_error() -> None:
    if words := st.session_state.pop(_ERROR, None):
        st.warning(words, icon=":material/warning:")


def _cannot(error: WoodFisherError) -> None:
    st.caption(f":material/bookmark_remove: Runs cannot be kept here. {error}")
