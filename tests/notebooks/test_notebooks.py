"""Every notebook runs from start to end offline, is committed without outputs, and shows what it promises."""

from pathlib import Path

import nbformat
import pytest
from executing import PLOTLY, executed

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], f"outputs left in: {cell.source[:60]}"
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_draws(path, monkeypatch, tmp_path):
    monkeypatch.delenv("WOODFISHER_DATA", raising=False)  # a reader has no data folder …
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # … and has downloaded nothing
    monkeypatch.setenv("WOODFISHER_FAST", "1")  # fewer points; the same calls
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in executed(notebook, FOLDER).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs if output.output_type == "error"]
    figures = [output.data[PLOTLY] for output in outputs if PLOTLY in output.get("data", {})]
    assert figures
    assert all(figure["data"] for figure in figures)
    complaints = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not complaints
