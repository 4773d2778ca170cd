"""A chart in which something can be chosen."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from app.showing import download, plain, standalone


def selectable(
    figure,
    sentence: str,
    key: str,
    chosen: Callable[..., None],
    modes: Sequence[str] = ("points",),
    data: pd.DataFrame | None = None,
    args: tuple = (),
) -> None:
    """As ``show``, but marks can be selected in ``modes``: ``chosen(*args)`` then reads ``st.session_state[key].selection``.

    Streamlit forgets a selection when the figure changes: ``chosen`` must copy what it needs.
    """
    alt = plain(sentence)
    st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        config={"displaylogo": False},
        on_select=lambda: chosen(*args),
        selection_mode=modes,
    )
    st.caption(sentence)
    if data is not None:
        with st.popover("Take this chart", icon=":material/download:", type="tertiary"):
            download("Chart (.html)", partial(standalone, figure, alt), f"{key}.html", "text/html", f"{key}-html")
            download("Its data (.csv)", partial(data.to_csv, index=False), f"{key}.csv", "text/csv", f"{key}-csv")
