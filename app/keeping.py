"""Results kept as runs, on one click; what is kept already says so."""

from collections.abc import Sequence

import streamlit as st

from app.baseline import linked
from app.jobs import Wanted, follow, look, start
from app.shared import store, workspace
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig
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
                args=(config, sparsities, origin),
                help="Puts its numbers, its curve and its settings among your runs, where they can be compared.",
            )
        else:
            st.caption(f":material/bookmark_added: Kept as run {number}.")
            to_runs()
    _say_error()


def keep_plane_button(plane: Plane) -> None:
    """The button that keeps every run of a plane: a sweep over its settings and seeds, in the background.

    Where other fields must follow what varies, so that no one grid holds them all, there are several sweeps.
    """
    count, unit = plane.total, "runs" if plane.seeds else "settings"
    label = f"Keep these {count} runs" if plane.seeds else f"Keep these {count} settings as runs"
    try:
        sweeps = _sweeps_of(plane)
        asked = [
            Wanted(sweep_request(sweep, "Sensitivity"), f"Keeping them{_part(place, sweeps)}", label)
            for place, sweep in enumerate(sweeps, start=1)
        ]
        seen = look(asked)
        if len(asked) > 1 and all(one.job is None for one in seen):
            st.button(label, icon=":material/play_arrow:", key="keep-plane", on_click=_start_all, args=(asked,))
            return
        seen = follow(asked, lambda _: None)
    except WoodFisherError as error:
        _cannot(error)
        return
    if any(one.job is None or one.job.status is not JobStatus.DONE for one in seen):
        return
    keys = {part.key for one in seen for part in one.parts if part.key}
    there = len(store().keys(list(keys)))
    with st.container(horizontal=True, vertical_alignment="center", key="kept-plane"):
        st.caption(f":material/bookmark_added: {there} of {count} {unit} are kept.")
        if there < count:  # deleted since, or failed
            st.button(
                "Keep the others",
                icon=":material/bookmark_add:",
                key="keep-others",
                on_click=_start_all,
                args=(asked,),
            )
        to_runs()


def _sweeps_of(plane: Plane) -> list[Sweep]:
    """The runs of ``plane`` as sweeps over grids."""
    found = []
    for config, vary in plane.grids(plane.config):
        left_out = {*vary, *NOT_ASKED_FOR}
        base = {name: value for name, value in config.to_dict().items() if name not in left_out}
        over = {name: Values(tuple(values)) for name, values in vary.items()}
        found.append(resolved(Sweep(base=tuple(base.items()), vary=tuple(over.items())), workspace()))
    return found


def _part(place: int, sweeps: Sequence[Sweep]) -> str:
    """Which of several sweeps this is."""
    return f", part {place} of {len(sweeps)}" if len(sweeps) > 1 else ""


def _start_all(asked: Sequence[Wanted]) -> None:
    for one in asked:
        start(one.request)


def to_runs() -> None:
    """The link to the Runs page."""
    st.page_link(RUNS_PAGE, label="See your runs", icon=":material/history:", query_params=linked(), width="content")


def _keep(config: PruneConfig, sparsities: Sequence[float], origin: str) -> None:
    """Computes what is missing, and saves it; what fails is said and keeps nothing."""
    space = workspace()
    try:
        points = () if config.pattern is not None else space.curve(config, sparsities)
        store().save(record_of(space.report(config), origin=origin, curve=points))
    except WoodFisherError as error:
        st.session_state[_ERROR] = f"Not kept. {error}"


def _say_error() -> None:
    if words := st.session_state.pop(_ERROR, None):
        st.warning(words, icon=":material/warning:")


def _cannot(error: WoodFisherError) -> None:
    st.caption(f":material/bookmark_remove: Runs cannot be kept here. {error}")
