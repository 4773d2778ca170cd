"""How every page begins: its question, the sidebar, the data it needs, and the network loaded."""

import streamlit as st

from app.binding import class_mode, undo_buttons
from app.data_gate import require
from app.going import view_link
from app.presets import PRESETS
from app.shared import workspace
from app.state import Notes, View, controls
from woodfisher_core.data import get_dataset
from woodfisher_core.experiments import Workspace

# A network of real size takes a while to be measured on its test set.
LOADING = "Loading the network and its data, and measuring its dense accuracy …"
COMPUTATIONS = ("computation of someone else comes", "computations of others come")


def opened(
    title: str, words: str, only: str | None = None
) -> tuple[View, Notes, Workspace, st.delta_generator.DeltaGenerator]:
    """(what the controls say, places for their live notes, the workspace, the place for the page's status).

    Stops the page where the data set is missing; ``only`` fixes the method in focus.
    """
    st.title(title)
    st.markdown(words)
    with st.sidebar:
        undo_buttons()
        if not class_mode():
            presets()
    view, notes = controls(only)
    space = workspace()
    require(get_dataset(view.config.dataset))
    status = st.empty()
    space.cache.computing.tell(lambda before: status.caption(f"Waiting: {before} {COMPUTATIONS[before > 1]} first …"))
    status.caption(LOADING)
    space.problem(view.config)
    status.empty()
    return view, notes, space, status


def presets() -> None:
    """The menu of views that make a point."""
    with st.popover("Views that make a point", icon=":material/lightbulb:", key="presets"):
        lines = [f"- {view_link(preset.name, preset.page, preset.link)}. {preset.point}" for preset in PRESETS]
        st.markdown("\n".join(lines), unsafe_allow_html=True)
