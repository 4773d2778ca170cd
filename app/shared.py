"""What all sessions share: one workspace, hence one byte-bounded cache and one computation at a time."""

import streamlit as st

from woodfisher_core.experiments import Workspace

CACHE_BYTES = 2 << 30


@st.cache_resource(max_entries=1, show_spinner=False)
def workspace() -> Workspace:
    """The process's workspace; safe under threads, its values are never changed in place."""
    return Workspace(cache_bytes=CACHE_BYTES)
