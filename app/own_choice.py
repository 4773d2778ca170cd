"""Which weights and which data the network in the sidebar has: those that ship, and what this session or its link brought."""

import streamlit as st

from app.binding import bound
from app.facts import present
from woodfisher_core.data import get_dataset
from woodfisher_core.data.brought import DATA, WEIGHTS, is_here, is_own
from woodfisher_core.errors import InputError
from woodfisher_core.models import ModelSpec
from woodfisher_core.models.base import SHIPPED
from woodfisher_core.own.incoming import found_again

# Names of what this session brought, by kind; nobody else's lists show them.
_MINE = "own: brought"


def mine(kind: str) -> tuple[str, ...]:
    """Names of what this session brought and has not removed."""
    return st.session_state.get(_MINE, {}).get(kind, ())


def note_brought(kind: str, name: str) -> None:
    """Shows ``name`` in this session's lists from now on."""
    _put(kind, (*(other for other in mine(kind) if other != name), name))


def note_removed(kind: str, name: str) -> None:
    """Shows it no more."""
    _put(kind, tuple(other for other in mine(kind) if other != name))


def _put(kind: str, names: tuple[str, ...]) -> None:
    st.session_state[_MINE] = {**st.session_state.get(_MINE, {}), kind: names}


def weights_and_data(spec: ModelSpec) -> tuple[str, str]:
    """Draws the choices of ``spec``'s weights and data, and what they are.

    Both are always there, also where there is one thing to choose: Streamlit writes into the link what is set by the page
    Your model only where the control stood before.
    """
    weights = _choice(WEIGHTS, "Weights", [SHIPPED], SHIPPED, spec)
    dataset = _choice(DATA, "Data", list(spec.datasets), present(spec), spec)
    data = get_dataset(dataset)
    words = "" if weights == SHIPPED else f" With your weights **{_label(WEIGHTS, weights)}**."
    if is_own(dataset):
        words += f" {data.description}" if is_here(DATA, dataset) else ""
    st.caption(f"**{spec.label}.** {spec.description}{words} Data: {data.label}.")
    return weights, dataset


def _choice(kind: str, label: str, listed: list[str], usual: str, spec: ModelSpec) -> str:
    """What the control says."""
    named = st.session_state.get(kind, st.query_params.get(kind))
    own = dict.fromkeys((*mine(kind), *([named] if is_own(named) else [])))
    options = listed + [name for name in own if _fits(kind, name, spec)]
    if kind in st.session_state and named not in options:
        st.session_state[kind] = usual
    if is_own(named) and named not in options:
        st.caption(f":material/info: {_label(kind, named)} ({named}) is for {_meant_for(kind, named)}: not used here.")
    shipped = "the weights that ship with the app" if kind == WEIGHTS else None
    told = [f"**{name}**: {shipped or get_dataset(name).description}" for name in listed]
    told += [f"**{name}**: {_label(kind, name)}, yours." for name in options[len(listed) :]]
    return st.selectbox(label, options, index=options.index(usual), help=" ".join(told), **bound(kind))


def _fits(kind: str, name: str, spec: ModelSpec) -> bool:
    """Whether it is for this network; one that is not here may be, and is then said to be missing."""
    return not is_here(kind, name) or spec.name in found_again(kind, name).models


def _label(kind: str, name: str) -> str:
    try:
        return found_again(kind, name).label
    except InputError:
        return f"{name}, not on this machine"


def _meant_for(kind: str, name: str) -> str:
    return " or ".join(found_again(kind, name).models)
