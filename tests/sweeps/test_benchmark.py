"""``python -m woodfisher_core.benchmarks sweeps``: it runs, and counts what it says."""

import json

import pytest

from woodfisher_core.benchmarks.__main__ import main


def test_sweeps(capsys, tmp_path):
    flags = ("--num-samples", "20,40", "--dampings", "1e-3,1e-2", "--sparsities", "0.5", "0.8", "--again", "2")
    assert main(["sweeps", "--device", "cpu", *flags, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["points"], found["failed"], len(found["from_nothing"])) == (8, 0, 2)
    assert found["sweep_points_per_second"] == pytest.approx(8 / found["sweep_seconds"])
    assert "8 points" in capsys.readouterr().out
    assert main(["sweeps", "--again", "0"]) == 2
