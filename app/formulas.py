"""Displayed equations that fit every width: what a wide gap parts stands side by side where there is room."""

import re

import streamlit as st

BREAK = r"\qquad"


def write_formula(latex: str) -> None:
    """Shows ``latex``; on a narrow screen each of its parts has a line of its own."""
    with st.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
        for part in parts(latex):
            st.latex(part, width="content")


def parts(latex: str) -> list[str]:
    """``latex`` cut at every ``\\qquad`` outside of braces."""
    found, depth, start = [], 0, 0
    for mark in re.finditer(r"\\[{}]|[{}]|\\qquad(?![a-zA-Z])", latex):
        if mark[0] == BREAK and depth == 0:
            found.append(latex[start : mark.start()])
            start = mark.end()
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
    return [part.strip() for part in (*found, latex[start:]) if part.strip()]
