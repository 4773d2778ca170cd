"""What all sessions share: one workspace, hence one byte-bounded cache and one computation at a time; one open run store."""

import atexit
import gc
from contextlib import suppress
from pathlib import Path

import streamlit as st

from woodfisher_core import memory
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import Workspace
from woodfisher_core.jobs.starting import ensure_worker
from woodfisher_core.store import Store
from woodfisher_core.store.engine import parse_url

# How often an open page looks for jobs that nobody works on, when it runs.
LOOK_SECONDS = 20.0


@st.cache_resource(max_entries=1, show_spinner=False)
def workspace() -> Workspace:
    """The process's workspace; safe under threads, its values are never changed in place."""
    return Workspace(cache_bytes=memory.cache_bytes())


def store() -> Store:
    """The run store of $WOODFISHER_STORE, else the user's own; opened once.

    Raises:
        InputError: The place cannot be understood.
        StoreError: It cannot be opened; asked again, it is tried again.
    """
    url = parse_url(None)
    return _opened(url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=False))


def _is_there(opened: Store) -> bool:
    """A file deleted under an open store takes every later run with it: better made anew."""
    return opened.url.get_backend_name() != "sqlite" or Path(opened.url.database).exists()


@st.cache_resource(max_entries=4, show_spinner=False, validate=_is_there, on_release=Store.close)
def _opened(place: str) -> Store:
    return Store(place)


@st.cache_resource(max_entries=1, ttl=LOOK_SECONDS, show_spinner=False)
def resume_jobs() -> None:
    """Now and then, on whatever page: what waits gets a worker, be it left by an earlier server or asked for elsewhere."""
    with suppress(WoodFisherError):  # pages that need the store say what is wrong with it
        ensure_worker(store())


@st.cache_resource(max_entries=50, show_spinner=False)
def loaded(page: str) -> None:
    """To be called when ``page`` has run: what is in memory then is here to stay, and is left out of garbage collection.

    Streamlit collects after every run. To look through all that torch and the others bring takes it a third of a second, in
    which nothing else runs.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # at the end all is let go of as usual
