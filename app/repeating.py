"""Everything needed to repeat a view: its link, its command line, its versions; and the link for a class."""

from collections.abc import Mapping
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from app.binding import HIDE, drawn
from app.shared import workspace
from app.showing import download
from woodfisher_core.environment import machine
from woodfisher_core.experiments import PruneConfig


def repeat(config: PruneConfig, command: str, data: Mapping[str, pd.DataFrame] | None = None) -> None:
    """The expander at the end of a page; ``command`` gives the same numbers without the app, ``data`` are the page's tables."""
    with st.expander("Repeat this view: settings, link, data", icon=":material/replay:"):
        st.markdown("The address of this page holds every setting. The same on the command line:")
        st.code(command, language="bash", wrap_lines=True)
        here, resolved = machine(config.device), workspace().resolve(config)
        st.caption(
            f"run {resolved.key[:12]} · seed {config.seed} · weights {resolved.weights_hash[:12]} · data "
            f"{resolved.data_hash[:12]} · engine version {config.engine_version} · WoodFisher Explorer {here['woodfisher']} · "
            f"torch {here['torch']} · {here['cpu']}, {here['threads']} threads"
        )
        if data:
            with st.container(horizontal=True):
                for name, table in data.items():
                    download(f"{name}.csv", table.to_csv(index=False), f"{name}.csv", "text/csv", f"csv-{name}")
        class_link()


def class_link() -> None:
    """A link that shows this view with fewer controls, for a class."""
    st.markdown("**For a class**: a link that hides the controls you choose and keeps the seed as it is.")
    chosen = st.multiselect("Controls to hide", drawn(), key="class-hides", help="By their names in the link.")
    if chosen:
        query = {name: st.query_params.get_all(name) for name in st.query_params}
        query[HIDE] = [",".join(chosen)]
        st.code(
            f"{(st.context.url or '').split('?')[0]}?{urlencode(query, doseq=True)}", language=None, wrap_lines=True
        )
