"""Controls and their link: a parameter each, undone and done again, and hidden from a class.

Streamlit keeps what bound controls say from page to page, and in the browser's history.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

# Undo goes back at most so far.
MOST_STEPS = 50
# The parameter that names the controls a class does not see; with it the seed stays as the link has it.
HIDE = "hide"
_DRAWN, _NOW, _PAST, _FUTURE, _MOVED, _HIDDEN = (
    f"binding: {name}" for name in ("drawn", "now", "past", "future", "moved", "hidden")
)

Setting = dict[str, object]


def bound(key: str) -> dict[str, str]:
    """The arguments that bind a control to the link; ``key`` is the parameter's name, one for the whole app."""
    st.session_state.setdefault(_DRAWN, set()).add(key)
    return {"key": key, "bind": "query-params"}


@contextmanager
def settings_of(page: str) -> Iterator[None]:
    """Notes what the controls of ``page`` say, so that a change can be undone; hides from a class what the link hides."""
    state = st.session_state
    state[_DRAWN] = set()
    _hide()
    if state.get(_NOW, (page,))[0] != page:
        for pile in (_NOW, _PAST, _FUTURE):
            state.pop(pile, None)
    if _NOW in state:
        _note_change()
    try:
        yield
    finally:  # a changed control ends the run of the page with an exception
        before = state[_NOW][1] if _NOW in state else {}
        state[_NOW] = (page, before | {key: state[key] for key in state[_DRAWN] if key in state})


def _note_change() -> None:
    """Before anything is drawn controls have their new values: a changed one is a step that can be undone."""
    state = st.session_state
    page, before = state[_NOW]
    now = before | {key: state[key] for key in before if key in state}
    if now != before and not state.get(_MOVED):
        state[_PAST] = [*state.get(_PAST, []), before][-MOST_STEPS:]
        state[_FUTURE] = []
    state[_MOVED], state[_NOW] = False, (page, now)


def undo_buttons() -> None:
    """Undo and redo of what the controls of this page said."""
    state = st.session_state
    with st.container(horizontal=True, key="undo-row"):
        for label, icon, source, target in (
            ("Undo", ":material/undo:", _PAST, _FUTURE),
            ("Redo", ":material/redo:", _FUTURE, _PAST),
        ):
            st.button(
                label,
                icon=icon,
                key=label.lower(),
                disabled=not state.get(source),
                on_click=_move,
                args=(source, target),
                help=f"{label}es the last change of a control on this page.",
                width="content",
            )


def _move(source: str, target: str) -> None:
    """Takes the last setting from one pile and puts the present one on the other."""
    state = st.session_state
    setting: Setting = state[source].pop()
    state.setdefault(target, []).append(state[_NOW][1])
    state.update(setting)
    state[_MOVED] = True


def class_mode() -> bool:
    """Whether the link is one for a class."""
    return bool(_hidden())


def _hidden() -> tuple[str, ...]:
    """The controls that the link hides; remembered, since the bar's links say nothing of it."""
    asked = st.query_params.get(HIDE)
    if asked is not None:
        st.session_state[_HIDDEN] = tuple(key for key in re.split(r"[,\s]+", asked) if re.fullmatch(r"[a-z-]+", key))
    return st.session_state.get(_HIDDEN, ())


def hidden() -> dict[str, str]:
    """What a link to another page must say, so that a class goes on seeing no more than it should."""
    return {HIDE: ",".join(_hidden())} if class_mode() else {}


def _hide() -> None:
    keys = _hidden()
    if keys:
        st.query_params[HIDE] = ",".join(keys)
        # They keep what the link says, and are neither seen nor reached by the keyboard.
        st.html(f"<style>{', '.join(f'.st-key-{key}' for key in keys)} {{display: none}}</style>")


def drawn() -> tuple[str, ...]:
    """The controls of this page, as far as it has been drawn."""
    return tuple(sorted(st.session_state.get(_DRAWN, ())))
