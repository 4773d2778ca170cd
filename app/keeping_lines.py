"""Several results kept as runs on one click: one after the other while the page runs, with progress, each kept at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app.keeping import to_runs
from app.shared import store, workspace
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.remember import record_of
from woodfisher_core.experiments.trials import curve_of

_WANTED = "lines to keep"


@dataclass(frozen=True)
class Kept:
    """A result to keep: its ``label`` for people, its config, and the sparsities of its curve (none: no curve)."""

    label: str
    config: PruneConfig
    sparsities: tuple[float, ...] = ()


def keep_all(results: Sequence[Kept], what: str, origin: str) -> None:
    """The button that keeps a run of each of ``results``, called ``what`` (lines, points); what is kept already says so.

    Changing a control while they are kept stops it; those done stay.
    """
    try:
        keys = [workspace().resolve(one.config).key for one in results]
        there = store().keys(keys)
    except WoodFisherError as error:
        st.caption(f":material/bookmark_remove: Runs cannot be kept here. {error}")
        return
    missing = [one for one, key in zip(results, keys, strict=True) if key not in there]
    row = st.container(horizontal=True, vertical_alignment="center", key="keep-row")
    if missing and st.session_state.get(_WANTED) == tuple(keys):
        with row:
            failed = _keep(missing, what, origin)
        st.session_state.pop(_WANTED)
        if failed:
            st.warning("Not kept. " + " ".join(failed), icon=":material/warning:")
        else:
            st.rerun()  # now they are there
        return
    st.session_state.pop(_WANTED, None)
    with row:
        if there:
            st.caption(f":material/bookmark_added: {len(there)} of {len(results)} {what} are kept.")
        if missing:
            number = len(missing)
            st.button(
                f"Keep {'the other ' if there else ''}{number} {what if number > 1 else what.removesuffix('s')} as runs",
                icon=":material/bookmark_add:",
                key="keep",
                on_click=_want,
                args=(tuple(keys),),
                help=f"A run each, at the seed in the sidebar. It also computes what these {what} did not: the loss, predicted "
                "and measured on held-out images.",
            )
        if there:
            to_runs()


def _want(keys: tuple[str, ...]) -> None:
    st.session_state[_WANTED] = keys


def _keep(results: Sequence[Kept], what: str, origin: str) -> list[str]:
    """Saves each; what fails is said and keeps nothing."""
    space, failed = workspace(), []
    bar = st.progress(0.0, text=f"Keeping {len(results)} {what} …")
    for number, one in enumerate(results):
        bar.progress(number / len(results), text=f"Keeping {one.label}: {number} of {len(results)} {what} are kept.")
        try:
            curve = curve_of(space, one.config, one.sparsities) if one.sparsities else ()
            store().save(record_of(space.report(one.config), origin=origin, curve=curve))
        except WoodFisherError as error:
            failed.append(f"{one.label}: {error}")
    return failed
