"""How every page shows a chart: with its sentence, and to take home."""

import re
from functools import partial
from html import escape

import pandas as pd
import streamlit as st


def show(figure, sentence: str, key: str, data: pd.DataFrame | None = None, **selection) -> None:
    """A chart with its sentence below, which is also its name for screen readers; ``data`` is what it was drawn from.

    ``selection`` lets marks be chosen: Streamlit's ``on_select`` and ``selection_mode``. A selection is forgotten when the figure
    changes: what is called must copy what it needs from ``st.session_state[key].selection``.
    """
    Place().show(figure, sentence, key, data, **selection)


class Place:
    """Where a chart with its sentence stands; drawn again there, under another key, it takes the place of the old one."""

    def __init__(self):
        # One slot for each: a container around all would stand empty for a moment at every drawing.
        self._chart, self._sentence, self._tools = st.empty(), st.empty(), st.empty()

    def show(self, figure, sentence: str, key: str, data: pd.DataFrame | None = None, **selection) -> None:
        """Draws; ``key`` must be new in this run of the page, ``selection`` as in the function :func:`show`."""
        alt = plain(sentence)
        self._chart.plotly_chart(figure, key=key, alt=alt, config={"displaylogo": False}, **selection)
        self._sentence.caption(sentence)
        if data is not None:
            with self._tools.popover("Take this chart", icon=":material/download:", type="tertiary"):
                download("Chart (.html)", partial(standalone, figure, alt), f"{key}.html", "text/html", f"{key}-html")
                download("Its data (.csv)", partial(data.to_csv, index=False), f"{key}.csv", "text/csv", f"{key}-csv")


def download(label: str, make, file_name: str, mime: str, key: str) -> None:
    """A download whose content ``make()`` gives when it is clicked, and the page stays as it is."""
    st.download_button(label, make, file_name, mime, on_click="ignore", key=key)


def plain(sentence: str) -> str:
    """``sentence`` as it is read aloud: without Markdown's marks and icons."""
    return re.sub(r":material/\w+:\s*|[*$`]", "", sentence)


def standalone(figure, sentence: str) -> str:
    """A page of its own that needs no network, its finding below the chart."""
    body = figure.to_html(full_html=False, include_plotlyjs=True)
    # Names that people gave to runs, files and classes stand in both.
    title, words = escape(figure.layout.title.text or "Chart"), escape(sentence)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<body style="font-family: sans-serif">{body}<p>{words}</p></body></html>'
    )
