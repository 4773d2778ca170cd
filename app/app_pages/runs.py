"""Runs: what have I tried? Every result that was kept, against a baseline, opened again, exported."""

import re
import tempfile
from pathlib import Path

import streamlit as st

from app.attempts import attempt, say_what_went_wrong
from app.baseline import banner, linked, pinned
from app.chosen import EXPLORE_PAGE, JUST_DELETED, chosen
from app.explain_runs import found_sentence
from app.job_list import job_list
from app.runs_table import filters, ticked
from app.shared import store
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.store import Store, compare
from woodfisher_core.store.exchange import export_runs, import_runs

FORMATS = {"csv": "CSV", "parquet": "Parquet"}
_IMPORTED = "imported"
# Of an uploaded file's name: file systems bear 255 bytes.
LONGEST_NAME = 60


def page() -> None:
    st.title("What have I tried?")
    st.markdown(
        "Every result that was kept is a **run**: its settings, its numbers, its curve and its layers. Pin one as the baseline "
        "and the others show what they gain over it."
    )
    opened = store()
    say_what_went_wrong()
    undo(opened)
    table = opened.runs()
    baseline = pinned(opened)
    if baseline is not None:
        banner(baseline)
    if table.empty:
        empty()
    else:
        finding = st.container()
        left = filters(table)
        if words := found_sentence(left):
            finding.markdown(words)
        of = f"{len(left):,} of " if len(left) < len(table) else ""
        st.caption(f"{of}{_runs(len(table))}.")
        if left.empty:
            st.info("No run matches. Take a filter away.", icon=":material/filter_alt_off:")
        else:
            runs = ticked(left, None if baseline is None else baseline.row)
            chosen(opened, runs)
            download(opened, [int(number) for number in (left if runs.empty else runs)["id"]])
    job_list()
    upload(opened)
    deleted(opened)
    st.caption("Up to date.")


def empty() -> None:
    """What a run is, and how one comes here."""
    st.info(
        "No runs yet. A run is one result with the settings that gave it: on Explore, choose a setting and press **Keep this "
        "run**; on Compare, keep every line; on Sensitivity, a whole plane. Runs of Gradual and sweeps come by themselves.",
        icon=":material/history:",
    )
    st.page_link(EXPLORE_PAGE, label="Go to Explore", icon=":material/explore:", query_params=linked())


def undo(opened: Store) -> None:
    """The way back, right after a deletion."""
    numbers = st.session_state.get(JUST_DELETED)
    if not numbers:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="undo-row"):
        st.markdown(f":material/delete: {_runs(len(numbers))} deleted.")
        st.button("Undo", icon=":material/undo:", key="undo", on_click=attempt, args=(_restore, opened, numbers))


def _restore(opened: Store, numbers: list[int]) -> None:
    opened.restore(numbers)
    st.session_state.pop(JUST_DELETED, None)


def deleted(opened: Store) -> None:
    """Deleted runs, and the way back for each."""
    gone = opened.runs(deleted=True, configurations=False)
    if gone.empty:
        return
    names = {int(run["id"]): compare.name_of(run) for _, run in gone.iterrows()}
    with st.expander(f"{_runs(len(gone))} deleted", icon=":material/delete:"):
        wanted = st.multiselect("Which ones to bring back", list(names), format_func=names.get, key="deleted-runs")
        st.button(
            "Restore",
            icon=":material/undo:",
            key="restore",
            disabled=not wanted,
            on_click=attempt,
            args=(_restore, opened, wanted),
        )


def download(opened: Store, numbers: list[int]) -> None:
    """The runs shown, or those ticked, as a file for elsewhere."""
    with st.container(horizontal=True, vertical_alignment="center", key="download-row"):
        form = st.segmented_control(
            "Tables as",
            list(FORMATS),
            default="csv",
            required=True,
            format_func=FORMATS.get,
            key="export-format",
            label_visibility="collapsed",
        )

        def exported() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "runs.zip"
                export_runs(opened, path, numbers, format=form)
                return path.read_bytes()

        st.download_button(
            f"Download {_runs(len(numbers))}",
            exported,
            "runs.zip",
            "application/zip",
            icon=":material/download:",
            on_click="ignore",
            key="download",
        )


def upload(opened: Store) -> None:
    """Another user's export, read into this store."""
    if words := st.session_state.pop(_IMPORTED, None):
        st.success(words, icon=":material/upload:")
    with (
        st.expander("Import an export", icon=":material/upload:"),
        st.form("import", clear_on_submit=True, border=False),
    ):
        file = st.file_uploader(
            "A .zip that was downloaded here or written by `runs export`", type="zip", key="import-file"
        )
        if st.form_submit_button("Import") and file is not None:
            with tempfile.TemporaryDirectory() as folder:
                # Errors name the file as it was called, and it lies where we say.
                path = Path(folder) / (re.sub(r"[^\w. -]", "_", file.name)[-LONGEST_NAME:] or "import.zip")
                path.write_bytes(file.getbuffer())
                try:
                    counts = import_runs(opened, path)
                except WoodFisherError as error:
                    st.error(str(error), icon=":material/error:")
                    return
            known = f", {counts.known:,} were here already" if counts.known else ""
            st.session_state[_IMPORTED] = f"{_runs(counts.new)} imported{known}."
            st.rerun()


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
