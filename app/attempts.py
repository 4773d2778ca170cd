"""Clicks that write: an error is kept until the page has a place to say it."""

from collections.abc import Callable

import streamlit as st

from woodfisher_core.errors import WoodFisherError

_WORDS = "what went wrong"


def attempt(action: Callable[..., None], *arguments: object) -> None:
    """``action(*arguments)`` as a button's callback, which runs before there is a page to show an error on."""
    try:
        action(*arguments)
    except WoodFisherError as error:
        st.session_state[_WORDS] = str(error)


def say_what_went_wrong() -> None:
    """Shows the error of the click that led to this run of the page, if there was one."""
    if (words := st.session_state.pop(_WORDS, None)) is not None:
        st.error(words, icon=":material/error:")
