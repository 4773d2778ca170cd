"""Controls and their link: a parameter each, undone and done again, and hidden from a class.

Streamlit keeps what bound controls say from page to page, and in the browser's history.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import StreamlitPage
from streamlit.runtime.scriptrunner import get_script_run_ctx

# Undo goes back at most so far.
MOST_STEPS = 50
# Of an address that is quoted.
LONGEST_WORD = 40
# The parameter that names the controls a class does not see; with it the seed stays as the link has it.
HIDE = "hide"
# Before the key of a control: the key of the place for what is said of it.
NOTE = "note-"
_DRAWN, _NOW, _PAST, _FUTURE, _MOVED, _HIDDEN, _ASKED = (
    f"binding: {name}" for name in ("drawn", "now", "past", "future", "moved", "hidden", "asked")
)

Setting = dict[str, object]


def bound(key: str) -> dict[str, str]:
    """The arguments that bind a control to the link; ``key`` is the parameter's name, one for the whole app."""
    st.session_state.setdefault(_DRAWN, set()).add(key)
    return {"key": key, "bind": "query-params"}


def in_link(key: str, value: str) -> None:
    """Makes the address say ``value`` under ``key``, which no control is bound to.

    Only where it does not yet: Streamlit sends the whole address as the run found it, and a control that was moved since
    then, by somebody quicker than the server, would stay behind in it.
    """
    if st.query_params.get(key) != value:
        st.query_params[key] = value


@contextmanager
def settings_of(opened: StreamlitPage) -> Iterator[None]:
    """Notes what the controls of the page say, so that a change can be undone; hides from a class what the link hides."""
    state, page = st.session_state, opened.url_path
    state[_DRAWN] = set()
    _hide()
    again = state.get(_NOW, (None,))[0] == page
    if not again:
        for pile in (_NOW, _PAST, _FUTURE):
            state.pop(pile, None)
        _bring_along(opened)
    asked = {} if again else {key: st.query_params.get_all(key) for key in st.query_params}
    place = st.empty()  # in every run: what stands below must not change its place
    if _NOW in state:
        _note_change()
    try:
        yield
        _say_refused(asked, place)
    finally:  # a changed control ends the run of the page with an exception
        before = state[_NOW][1] if _NOW in state else {}
        state[_NOW] = (page, before | {key: state[key] for key in state[_DRAWN] if key in state})
        taken = () if again else (key for key in state[_DRAWN] if key in st.query_params)
        state[_ASKED] = {key: st.query_params.get_all(key) for key in taken}


def _bring_along(opened: StreamlitPage) -> None:
    """Takes to this page what the address of the one before it said of controls.

    Streamlit (1.67) keeps what bound controls say from page to page, but for what they took from the address in a page's only
    run. So this page is opened with it. Whoever goes back in the browser's history wants what that address says.
    """
    lost = {key: said for key, said in st.session_state.pop(_ASKED, {}).items() if key not in st.query_params}
    if lost and not getattr(get_script_run_ctx(), "is_history_navigation", False):
        here = {key: st.query_params.get_all(key) for key in st.query_params}
        st.switch_page(opened, query_params={**here, **lost})


def _say_refused(asked: Mapping[str, Sequence[str]], place: DeltaGenerator) -> None:
    """What the address asked of the controls of this page and none could take; Streamlit passes over it in silence."""
    state = st.session_state
    refused = [key for key in asked if key in state[_DRAWN] and key in state and not _says(asked[key], state[key])]
    if refused:
        words = ", ".join(
            f"{key.replace('-', ' ')} `{re.sub('[^ -~]|`', '?', ' '.join(asked[key]))[:LONGEST_WORD]}` (shown: "
            f"{' '.join(_texts(state[key])) or 'none'})"
            for key in refused
        )
        place.warning(f"The address asks for what is not on offer here: {words}.", icon=":material/link_off:")


def _says(texts: Sequence[str], value: object) -> bool:
    """Whether an address's ``texts`` mean this value of a control."""
    known = _texts(value)
    if list(texts) in (known, known or [""]):
        return True
    try:
        return [float(text) for text in texts] == [float(text) for text in known]
    except ValueError:
        return False


def _texts(value: object) -> list[str]:
    """A control's value as addresses have it."""
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


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
        in_link(HIDE, ",".join(keys))
        # They keep what the link says, and are neither seen nor reached by the keyboard.
        st.html(f"<style>{', '.join(f'.st-key-{key}, .st-key-{NOTE}{key}' for key in keys)} {{display: none}}</style>")


def drawn() -> tuple[str, ...]:
    """The controls of this page, as far as it has been drawn."""
    return tuple(sorted(st.session_state.get(_DRAWN, ())))
