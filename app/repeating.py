"""Everything needed to repeat a view: its link and its versions; and the link for a class."""

from urllib.parse import urlencode

import streamlit as st

from app.binding import HIDE, class_mode, drawn
from app.shared import workspace
from woodfisher_core.environment import machine
from woodfisher_core.experiments import PruneConfig


def repeat(config: PruneConfig) -> None:
    """The expander at the end of a page."""
    with st.expander("Repeat this view: link, seed, versions; a link for a class", icon=":material/replay:"):
        here, resolved = machine(config.device), workspace().resolve(config)
        st.markdown("The address of this page holds every setting: whoever opens it sees the same figures.")
        st.caption(
            f"run {resolved.key[:12]} · seed {config.seed} · weights {resolved.weights_hash[:12]} · data "
            f"{resolved.data_hash[:12]} · engine version {config.engine_version} · WoodFisher Explorer {here['woodfisher']} · "
            f"torch {here['torch']} · {here['cpu']}, {here['threads']} threads"
        )
        if not class_mode():
            class_link()


def class_link() -> None:
    """A link that shows this view with fewer controls, for a class."""
    chosen = st.multiselect(
        "For a class: controls to hide",
        drawn(),
        key="class-hides",
        help="By their names in the link. With any of them hidden the seed stays as the link has it.",
    )
    if chosen:
        query = {name: st.query_params.get_all(name) for name in st.query_params}
        query[HIDE] = [",".join(chosen)]
        st.code(
            f"{(st.context.url or '').split('?')[0]}?{urlencode(query, doseq=True)}", language=None, wrap_lines=True
        )
