"""Notebooks executed as a reader's kernel would."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

PLOTLY = "application/vnd.plotly.v1+json"
SECONDS = 300


class _Client(NotebookClient):
    """What controls draw stays in the cell's outputs.

    nbclient's own stand-in for the widget that holds it answers the kernel on the socket whose messages it waits for; a message
    that comes meanwhile may be overlooked until the timeout (its issue 312; seen in two of three runs on a busy machine).
    """

    def on_comm_open_jupyter_widget(self, msg: dict) -> None:
        return None


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """``notebook`` after all its cells, run in ``folder``; a cell that fails raises."""
    place = {"metadata": {"path": str(folder)}}
    return _Client(notebook, timeout=SECONDS, kernel_name="python3", resources=place).execute()
