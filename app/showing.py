"""How every page shows a chart."""

import pandas as pd
import streamlit as st


def show(figure, sentence: str, key: str, data: pd.DataFrame | None = None) -> None:
    """A chart with its sentence below, which is also its name for screen readers; ``data`` is what it was drawn from."""
    Place().show(figure, sentence, key, data)


class Place:
    """Where a chart with its sentence stands; drawn again there, under another key, it takes the place of the old one."""

    def __init__(self):
        # One slot for each: a container around both would stand empty for a moment at every drawing.
        self._chart, self._sentence = st.empty(), st.empty()

    def show(self, figure, sentence: str, key: str, data: pd.DataFrame | None = None) -> None:
        """Draws; ``key`` must be new in this run of the page."""
        alt = sentence.replace("*", "").replace("$", "")
        self._chart.plotly_chart(figure, key=key, alt=alt, config={"displaylogo": False})
        self._sentence.caption(sentence)
