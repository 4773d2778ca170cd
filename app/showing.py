"""How every page shows a chart."""

import streamlit as st


def show(figure, sentence: str, key: str) -> None:
    """A chart with its sentence below, which is also its name for screen readers."""
    st.plotly_chart(figure, key=key, alt=sentence.replace("*", "").replace("$", ""), config={"displaylogo": False})
    st.caption(sentence)
