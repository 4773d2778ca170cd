"""The layer that all views of a page follow: a control, and a click on its bar."""

import streamlit as st

from app.binding import bound
from woodfisher_core.parameters import PrunableParameters

ALL = "all layers"
KEY = "layer"


def layer_choice(parameters: PrunableParameters) -> str | None:
    """The name of the chosen layer; None for all of them."""
    options = [ALL, *parameters.modules]
    # A layer of another network, or one that is left alone now.
    if st.session_state.get(KEY, ALL) not in options:
        st.session_state[KEY] = ALL
    chosen = st.selectbox(
        "Layer",
        options,
        help="All views follow: its bar stands out, its histogram stands alone, and single weights are its own. Clicking a bar "
        "chooses its layer.",
        width=320,
        **bound(KEY),
    )
    return None if chosen == ALL else chosen


def choose_clicked(chart: str) -> None:
    """Chooses the layer whose bar was clicked in the chart of this key."""
    points = st.session_state[chart].selection.points
    if points:
        st.session_state[KEY] = points[0]["y"]
