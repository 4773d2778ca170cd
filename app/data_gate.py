"""What a page shows where a data set is missing: what to do, and a button that downloads it with progress."""

import subprocess
import sys
import threading
from pathlib import Path

import streamlit as st

from woodfisher_core.data import DataSetSpec, cache_folder, find_root
from woodfisher_core.data.base import ENVIRONMENT_VARIABLE
from woodfisher_core.data.brought import DATA, is_here, is_own
from woodfisher_core.errors import InputError


class Download:
    """A download in a process of its own: it survives reruns, and its progress is what lies on disk."""

    def __init__(self, spec: DataSetSpec):
        self.spec, self.folder = spec, cache_folder()
        self._before = self._archived()  # other data sets' archives
        command = [
            sys.executable,
            "-m",
            "woodfisher_core",
            "data",
            "download",
            spec.name,
            "--data-dir",
            str(self.folder),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._errors = ""
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        self._errors = self._process.communicate()[1]

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def error(self) -> str | None:
        """The last line the process said, if it failed."""
        if self.running or self._process.returncode == 0:
            return None
        lines = [line for line in self._errors.splitlines() if line.strip()]
        return (lines or ["the download stopped without a word"])[-1].removeprefix("error: ")

    @property
    def fraction(self) -> float:
        """Share of the archives that has arrived."""
        return min(1.0, max(0, self._archived() - self._before) / self.spec.download_bytes)

    def _archived(self) -> int:
        return sum(path.stat().st_size for path in Path(self.folder).rglob("*.gz"))


@st.cache_resource(max_entries=1, show_spinner=False)
def _downloads() -> dict[str, Download]:
    return {}


def require(spec: DataSetSpec) -> None:
    """Returns where ``spec``'s files are here; else explains, offers the download, and stops the page."""
    if is_own(spec.name) and not is_here(DATA, spec.name):
        st.info(
            f"**The data set `{spec.name}` is not on this machine.** It stays where it was brought, and can be removed there. "
            "Bring the same file on the page **Your model** and this link works, or choose other data in the sidebar.",
            icon=":material/database:",
        )
        st.stop()
    try:
        find_root(spec)
        return
    except InputError as error:
        missing = str(error)
    digits = "The digits networks need no download: choose **digits-mlp** or **digits-cnn** in the sidebar."
    if spec.download is None:
        st.info(
            f"**This network reads {spec.label}**, which is not on this machine and has no download. Start the app with the "
            f"environment variable `{ENVIRONMENT_VARIABLE}` naming a folder that holds {_listed(spec.files)}. {digits}",
            icon=":material/database:",
        )
        st.stop()
    st.info(
        f"**This network needs {spec.label}**, which is not on this machine. The button below downloads it to "
        f"`{cache_folder()}`. {digits}",
        icon=":material/database:",
    )
    with st.expander("Without a browser, or with a copy of your own"):
        st.markdown(missing)
    running = spec.name in _downloads() and _downloads()[spec.name].running
    size = spec.download_bytes / 1e6
    if st.button(
        f"Download {spec.label} ({size:.0f} MB)", disabled=running, type="primary", icon=":material/download:"
    ):
        _downloads()[spec.name] = Download(spec)
        running = True
    if spec.name in _downloads():
        _watch(spec, running)
    st.stop()


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _watch(spec: DataSetSpec, running: bool) -> None:
    @st.fragment(run_every=0.5 if running else None)
    def progress() -> None:
        download = _downloads()[spec.name]
        if download.running:
            st.progress(download.fraction, text=f"Downloading {spec.label} to {download.folder}")
        elif download.error:
            st.error(f"The download failed: {download.error}", icon=":material/error:")
        elif running:
            st.rerun()

    progress()
