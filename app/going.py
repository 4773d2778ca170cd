"""Links to other views of this app that say a whole setting."""

from html import escape
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from app.baseline import linked
from app.binding import hidden

DEFAULT_PAGE = "explore"


def address(page: str, query: dict[str, str | list[str]]) -> str:
    """The relative address of ``page`` (its file) under the setting ``query``."""
    name = Path(page).stem
    own = {**query, **linked(), **hidden()}
    return ("./" if name == DEFAULT_PAGE else f"./{name}") + (f"?{urlencode(own, doseq=True)}" if own else "")


def view_link(label: str, page: str, query: dict[str, str | list[str]]) -> str:
    """An HTML link to that view: the page begins anew with it.

    A link of Streamlit's own keeps what controls of the same name said before, and drops what the link says.
    """
    return f'<a href="{escape(address(page, query))}" target="_self">{escape(label)}</a>'


def go_to(label: str, page: str, query: dict[str, str | list[str]]) -> None:
    """Draws :func:`view_link`."""
    st.markdown(view_link(label, page, query), unsafe_allow_html=True)
