"""How every page begins: its question, the sidebar, the data it needs, and the network loaded."""

import streamlit as st

from app.data_gate import require
from app.shared import workspace
from app.state import Notes, View, controls
from woodfisher_core.data import get_dataset
from woodfisher_core.experiments import Workspace

# A network of real size takes a while to be measured on its test set.
LOADING = "Loading the network and its data, and measuring its dense accuracy …"


def opened(
    title: str, words: str, only: str | None = None
) -> tuple[View, Notes, Workspace, st.delta_generator.DeltaGenerator]:
    """(what the controls say, places for their live notes, the workspace, the place for the page's status).

    Stops the page where the data set is missing; ``only`` fixes the method in focus.
    """
    st.title(title)
    st.markdown(words)
    view, notes = controls(only)
    space = workspace()
    require(get_dataset(view.config.dataset))
    status = st.empty()
    status.caption(LOADING)
    space.problem(view.config)
    status.empty()
    return view, notes, space, status
