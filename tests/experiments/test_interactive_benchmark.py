"""``python -m woodfisher_core.benchmarks interactive``: each change is timed, and really makes what it says."""

import json

from woodfisher_core.benchmarks.__main__ import main
from woodfisher_core.experiments import Workspace


def test_interactive(capsys, tmp_path, monkeypatch):
    made = []
    outcome = Workspace.outcome
    monkeypatch.setattr(Workspace, "outcome", lambda *given, **more: made.append(given[1]) or outcome(*given, **more))
    flags = [
        "--model",
        "digits-mlp",
        "--num-samples",
        "60",
        "--dampings",
        "0.1",
        "1",
        "--sparsities",
        "0.5",
        "0.8",
        "0.9",
    ]
    assert main(["interactive", *flags, "--device", "cpu", "--json", str(tmp_path / "out.json")]) == 0
    table = capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["seconds"]
    assert {name: len(seconds) for name, seconds in found.items()} == {
        "statistic, mask and per-layer views": 2,
        "another sparsity: mask and per-layer views": 4,
        "independent update": 6,
        "joint update": 6,
        "accuracy on 1,000 test images": 6,
    }
    assert all(second > 0 for seconds in found.values() for second in seconds)
    assert all(f"| {name} |" in table for name in found)
    asked = {(one.damping, one.sparsity, one.update.value) for one in made if one.sparsity != 0.5}
    assert asked == {
        (x, s, update) for x in (0.1, 1.0) for s in (0.8, 0.9) for update in ("none", "independent", "joint")
    }


def test_nothing_to_go_through_is_refused(capsys):
    assert main(["interactive", "--model", "digits-mlp", "--num-samples", "0"]) == 2
    assert "samples" in capsys.readouterr().err
