"""The benchmarks that compare methods: their tables say what was run, and refuse what cannot be."""

import json

import pytest

from woodfisher_core.benchmarks.__main__ import main
from woodfisher_core.methods import METHODS


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_methods_table(capsys, tmp_path):
    """A line a method with a cell a sparsity; everything measured is in the JSON, and the plot is a page of its own."""
    path = tmp_path / "m.json"
    only = ("magnitude", "kfac", "woodfisher")  # in the registry's order
    status, out, _ = run(
        capsys, "methods", "--model", "digits-mlp", *(f for m in only for f in ("--method", m)), "--seeds", "2",
        "--sparsities", "0.5", "0.9", "--num-samples", "60", "--device", "cpu", "--json", str(path), "--plot", str(tmp_path),
    )  # fmt: skip
    assert status == 0
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == [METHODS[name].label for name in only]
    [network] = json.loads(path.read_text())["networks"]
    points = {(p["label"], p["seed"], p["sparsity"]): p["accuracy"] for p in network["points"]}
    assert set(points) == {(m, k, s) for m in only for k in (0, 1) for s in (0.5, 0.9)}
    mean = (points["woodfisher", 0, 0.9] + points["woodfisher", 1, 0.9]) / 2
    assert f"| {mean:.2f} ± " in lines[-1]
    assert network["settings"]["woodfisher"]["config"]["damping_scale"] == "relative"
    assert "plotly" in (tmp_path / "methods-digits-mlp.html").read_text()[:20_000].lower()


def test_limited_data_table(capsys, tmp_path):
    """A line a number of images, a column a method."""
    path = tmp_path / "l.json"
    status, out, _ = run(
        capsys, "limited-data", "--model", "digits-mlp", "--images", "1", "20", "--seeds", "2", "--device", "cpu",
        "--json", str(path),
    )  # fmt: skip
    assert status == 0
    assert [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")] == ["images", "1", "20"]
    found = json.loads(path.read_text())
    assert {(p["label"], p["images"], p["seed"]) for p in found["points"]} == {
        (m, k, seed) for m in ("magnitude", "woodfisher", "l-obs") for k in (1, 20) for seed in (0, 1)
    }


def test_gradual_table(capsys, tmp_path):
    """Both methods at each sparsity, their steps, and snapshots that a second run starts from."""
    arguments = (
        "gradual", "--model", "digits-mlp", "--sparsities", "0.8", "--seeds", "1", "--epochs", "3", "--end", "2",
        "--num-samples", "50", "--device", "cpu", "--snapshots", str(tmp_path / "s"), "--json",
    )  # fmt: skip
    status, out, _ = run(capsys, *arguments, str(tmp_path / "a.json"))
    assert status == 0
    rows = [line.split("|")[2].strip() for line in out.splitlines() if line.startswith("| 0.8")]
    assert rows == ["woodfisher", "magnitude"]
    first = json.loads((tmp_path / "a.json").read_text())["runs"]
    assert [step["epoch"] for step in first[0]["steps"]] == [1, 2]
    assert len(list((tmp_path / "s").iterdir())) == 2
    again = run(capsys, *arguments, str(tmp_path / "b.json"))[1]
    assert again == out
    assert json.loads((tmp_path / "b.json").read_text())["runs"] == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("methods", "--seeds", "0"), "seeds: expected at least 1"),
        (("methods", "--method", "nonsense"), "method: expected one of"),
        (("methods", "--dataset", "mnist"), "expected one --model"),
        (("methods", "--model", "digits-mlp", "--sparsities", "1.5"), "sparsity: expected a fraction"),
        (("limited-data", "--images", "0"), "images: expected numbers of at least 1"),
        (("gradual", "--model", "digits-mlp", "--epochs", "2", "--end", "5"), "epochs: expected at least 5"),
        (("gradual", "--seeds", "0"), "seeds: expected at least 1"),
    ],
    ids=" ".join,
)
def test_refused_in_one_line(capsys, arguments, message):
    """Before anything runs."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
