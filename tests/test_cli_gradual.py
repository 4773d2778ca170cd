"""``python -m woodfisher_core gradual``: what it prints, writes and refuses."""

import json

import pytest
from safetensors.torch import load, load_file

from woodfisher_core import cli
from woodfisher_core.store import Store, artefacts

SMALL = (
    "gradual",
    "--model",
    "digits-cnn",
    "--sparsity",
    "0.8",
    "--epochs",
    "3",
    "--num-samples",
    "40",
    "--device",
    "cpu",
)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main([*SMALL, *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_readable(capsys):
    """Dense and final accuracy on standard output, every epoch on standard error."""
    status, out, err = run(capsys)
    assert status == 0
    assert "digits-cnn on digits: woodfisher, 3 epochs" in out
    assert "sparsity    0.80" in out
    assert "98.40 % dense" in out
    assert [line.split(":")[0] for line in err.splitlines() if line.startswith("epoch")] == [
        f"epoch {n}" for n in (1, 2, 3)
    ]


def test_json_and_output(capsys, tmp_path):
    """One object, written beside the weights whose zeros are the masks'."""
    status, out, _ = run(
        capsys, "--end", "2", "--initial", "0.2", "--json", "--output", str(tmp_path), "--update", "joint"
    )
    found = json.loads(out)
    assert status == 0
    assert json.loads((tmp_path / "run.json").read_text()) == found
    assert [record["epoch"] for record in found["epochs"]] == [1, 2, 3]
    assert [record["level"] for record in found["epochs"]] == [0.2, 0.8, 0.8]
    assert found["epochs"][2]["pruned"] is None
    assert found["config"]["prune"]["update"] == "joint"
    tensors = load_file(tmp_path / "pruned.safetensors")
    masks = {name.removesuffix(".mask"): t for name, t in tensors.items() if name.endswith(".mask")}
    assert len(masks) == 4
    assert not any(tensors[name][~mask].any() for name, mask in masks.items())
    kept, total = sum(int(m.sum()) for m in masks.values()), sum(m.numel() for m in masks.values())
    assert found["sparsity"] == pytest.approx(1 - kept / total)


def test_a_snapshot_is_gone_on_from(capsys, tmp_path):
    """A second call with the same settings only reports; with others it is refused by name."""
    file = tmp_path / "run.safetensors"
    first = json.loads(run(capsys, "--snapshot", str(file), "--json")[1])
    written = file.stat().st_mtime_ns
    assert json.loads(run(capsys, "--snapshot", str(file), "--json")[1]) == first
    assert file.stat().st_mtime_ns == written
    status, out, err = run(capsys, "--snapshot", str(file), "--seed", "1")
    assert (status, out) == (2, "")
    assert "seed" in err


def test_kept_in_a_store(capsys, tmp_path, monkeypatch):
    """The run with its network; the same one again is the same run. Without a place it goes where the environment says."""
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "mine.sqlite"))
    found = json.loads(run(capsys, "--json", "--store", str(tmp_path / "runs.sqlite"))[1])
    store = Store(tmp_path / "runs.sqlite")
    record = store.get(found["run"])
    assert (record.kind, record.key, record.config) == ("gradual", found["config_key"], found["config"])
    assert record.headline["accuracy"] == found["last"]["after"]["accuracy"]
    tensors = load(artefacts.get(store.folder, record.artefacts["network.safetensors"]["sha256"]))
    kept = sum(int(tensor.sum()) for name, tensor in tensors.items() if name.endswith(".mask"))
    assert kept == sum(row["kept"] for row in record.layers)
    assert "\nrun         1" in run(capsys, "--store", str(tmp_path / "runs.sqlite"))[1]
    assert len(store.runs()) == 1
    run(capsys, "--json", "--store")
    assert Store(tmp_path / "mine.sqlite").find(record.key) is not None


def test_a_known_run_is_not_trained_again(capsys, tmp_path, monkeypatch):
    """The same words and files as the first time, from the store; a deleted run comes back."""
    place, folders = ("--store", str(tmp_path / "runs.sqlite")), (tmp_path / "a", tmp_path / "b")
    first = json.loads(run(capsys, *place, "--json", "--output", str(folders[0]))[1])
    plain = run(capsys)[1]
    monkeypatch.setattr("woodfisher_core.commands.gradual.run_gradual", None)
    status, out, err = run(capsys, *place, "--json", "--output", str(folders[1]))
    assert (status, json.loads(out)) == (0, first)
    assert "run 1 is in the store already" in err
    for name in ("pruned.safetensors", "run.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    Store(tmp_path / "runs.sqlite").delete([1])
    assert run(capsys, *place)[1] == plain.rstrip("\n") + "\nrun         1\n"
    assert len(Store(tmp_path / "runs.sqlite").runs()) == 1


def test_a_store_that_cannot_be_used_is_found_out_first(capsys, tmp_path):
    """Before any epoch."""
    (tmp_path / "notes.txt").write_text("mine")
    status, out, err = run(capsys, "--store", str(tmp_path / "notes.txt"))
    assert (status, out) == (2, "")
    assert "is no SQLite file" in err
    assert "epoch 1" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--initial", "0.9"), "sparsity: expected a schedule that rises"),
        (("--start", "3", "--end", "2"), "end epoch"),
        (("--end", "9"), "epochs: expected at least 9"),
        (("--learning-rate", "-1"), "learning rate: expected"),
        (("--sample-indices", "x.txt"), "--sample-indices: a gradual run"),
        (("--pattern", "2:4", "--sparsity", "0.5", "--end", "2"), "pattern 2:4: it is reached in one step"),
        (("--images", "10"), "images: only 10 exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused_in_one_line(capsys, arguments, message):
    """Before anything is pruned or trained."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
