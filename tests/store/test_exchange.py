"""Runs leave for elsewhere and come back to the last bit, as CSV or Parquet, in a folder or a .zip."""

import csv
import io
import math
import zipfile
from pathlib import Path

import pytest
from samples import BASE, failed, gradual, sample

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.store import Metric, Store, artefacts
from woodfisher_core.store.exchange import export_runs, import_runs
from woodfisher_core.store.incoming import key_of

FORMS = [(form, end) for form in ("csv", "parquet") for end in ("", ".zip")]
ODD_TEXTS = [
    "=1+1",
    "+a",
    "-a",
    "@a",
    "'quoted",
    "\ttab",
    "\rreturn",
    "\nline",
    'a"b,c;d',
    "a\r\nb",
    " é×😀 ",
    "''",
    "＝1",
]


def imported(run):
    """``run`` as an import leaves it."""
    return sample(0, **{**vars(run), "origin": "import"})


@pytest.fixture
def other(tmp_path):
    opened = Store(tmp_path / "other.sqlite")
    yield opened
    opened.close()


def fill(store: Store) -> None:
    """Runs with every kind of number and text."""
    store.save(sample(0))
    numbers = [
        math.pi,
        5e-324,
        -1.7976931348623157e308,
        math.inf,
        -math.inf,
        0.1 + 0.2,
        -0.0,
        1e16,
        123456789.123456789,
    ]
    store.save(
        sample(
            1,
            metrics=tuple(Metric("loss", v, 0.5, i) for i, v in enumerate(numbers)),
            headline={**sample(1).headline, "loss": 1 / 3},
        )
    )
    for i, text in enumerate(ODD_TEXTS):
        layer = {"layer": text, "shape": text, "kept": 1, "total": 2}
        store.save(sample(10 + i, label=text, layers=(layer,), metrics=(Metric(text, 1.0, 0.5),), seconds={text: 1.0}))
        store.save(failed(50 + i, text))
    store.save(failed(99, ""))
    long = BASE.replace(seed=7, sample_indices=tuple(range(60_000)))
    store.save(sample(7, key=long.key, config=long.to_dict(), metrics=(), layers=(), seconds={}, environment={}))


@pytest.mark.parametrize(("form", "end"), FORMS)
def test_there_and_back(form, end, store, other, tmp_path):
    """Every run is what it was; the second time all are known."""
    fill(store)
    count = len(store.runs())
    assert export_runs(store, tmp_path / f"runs{end}", format=form) == count
    assert import_runs(other, tmp_path / f"runs{end}") == (count, 0)
    assert import_runs(other, tmp_path / f"runs{end}") == (0, count)
    assert import_runs(store, tmp_path / f"runs{end}") == (0, count)
    columns = ["id", "key", "created", "seconds", "accuracy", "label"]
    assert store.runs()[columns].equals(other.runs()[columns])
    for number in store.runs()["id"]:
        assert other.get(number) == imported(store.get(number))


def test_missing_numbers_stay_missing(store, other, tmp_path):
    """NaN is no text and no zero."""
    store.save(sample(0, metrics=(Metric("loss", math.nan, math.nan),), headline={**sample(0).headline, "loss": None}))
    for form, end in FORMS:
        export_runs(store, tmp_path / f"{form}{end}", format=form)
        import_runs(other, tmp_path / f"{form}{end}")
        found = other.get(other.find(sample(0).key))
        assert math.isnan(found.metrics[0].value)
        assert found.headline["loss"] is None
        other.delete([1])
        other.purge()


def test_no_cell_is_a_formula(file_store, tmp_path):
    """Whatever a text begins with, a spreadsheet sees no formula; numbers stay numbers."""
    fill(file_store)
    export_runs(file_store, tmp_path / "runs")
    for path in (tmp_path / "runs").glob("*.csv"):
        for row in list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))[1:]:
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r", "\n", "＝")) for cell in row)
            dashed = [cell for cell in row if cell.startswith("-")]
            assert all(float(cell) <= 0 for cell in dashed)


def test_some_runs_with_their_files(file_store, other, tmp_path):
    """Only the ones asked for; files travel where wanted, and are checked."""
    entry = artefacts.put(file_store.folder, b"weights" * 1000)
    first = file_store.save(sample(0, artefacts={"pruned": entry, "again": entry}))
    file_store.save(sample(1))
    export_runs(file_store, tmp_path / "with.zip", [first], artefacts=True)
    export_runs(file_store, tmp_path / "without.zip", [first])
    assert import_runs(other, tmp_path / "with.zip") == (1, 0)
    assert other.get(1) == imported(file_store.get(first))
    assert artefacts.get(other.folder, entry["sha256"]) == b"weights" * 1000
    third = Store(tmp_path / "third.sqlite")
    assert import_runs(third, tmp_path / "without.zip") == (1, 0)
    assert third.get(1).artefacts == {}
    third.close()
    artefacts.path_of(file_store.folder, entry["sha256"]).write_bytes(b"x")
    with pytest.raises(StoreError, match="is damaged"):
        export_runs(file_store, tmp_path / "damaged.zip", artefacts=True)
    assert not list(tmp_path.glob("*damaged*"))


def test_files_of_known_runs_stay_behind(file_store, other, tmp_path):
    """Nothing lies in the store that no run names; a deleted run that comes back, and a failed one that is mended, too."""
    entries = [artefacts.put(file_store.folder, content) for content in (b"known", b"deleted", b"failed", b"new")]
    for seed, entry in enumerate(entries):
        file_store.save(sample(seed, artefacts={"a": entry}))
    export_runs(file_store, tmp_path / "runs.zip", artefacts=True)
    other.save(sample(0))
    other.delete([other.save(sample(1))])
    other.save(failed(2))
    assert import_runs(other, tmp_path / "runs.zip") == (3, 1)
    for seed, expected in enumerate([{}, {}, {"a": entries[2]}, {"a": entries[3]}]):
        assert other.get(other.find(sample(seed).key)).artefacts == expected
    kept = sorted(path.name for path in other.folder.rglob("*") if path.is_file())
    assert kept == sorted(entry["sha256"] for entry in entries[2:])


def test_gradual_runs(file_store, other, tmp_path):
    """With every epoch."""
    file_store.save(gradual(0))
    export_runs(file_store, tmp_path / "runs.zip")
    assert import_runs(other, tmp_path / "runs.zip") == (1, 0)
    assert other.get(1).metrics == file_store.get(1).metrics


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (("loss", 2), "lacks its 'loss' of epoch 2"),
        (("accuracy", 0), "lacks its 'accuracy' of epoch 0"),
        (("training loss", 3), "lacks its 'training loss' of epoch 3"),
        (("loss pruned", 2), "lacks its 'loss pruned' of epoch 2"),
    ],
    ids=str,
)
def test_a_gradual_run_without_an_epoch_is_refused(file_store, other, tmp_path, gone, words):
    """It could not be shown again."""
    whole = gradual(0).metrics
    file_store.save(gradual(0, metrics=tuple(m for m in whole if (m.name, m.step) != gone)))
    export_runs(file_store, tmp_path / "runs")
    with pytest.raises(InputError, match=words):
        import_runs(other, tmp_path / "runs")
    assert len(other.runs()) == 0


@pytest.mark.parametrize("name", ["accuracy", "sparsity", "dense_accuracy"])
@pytest.mark.parametrize("value", [None, math.inf])
def test_a_finished_run_without_numbers_is_refused(file_store, other, tmp_path, name, value):
    """Pages and sweeps count on them; a failed run has none."""
    file_store.save(failed(1))
    file_store.save(sample(0, headline={**sample(0).headline, name: value}))
    export_runs(file_store, tmp_path / "runs")
    with pytest.raises(InputError, match=rf"runs.csv, row 2: expected a number in '{name}' of a finished run"):
        import_runs(other, tmp_path / "runs")
    assert len(other.runs()) == 0


@pytest.mark.parametrize("name", ["x.ZIP", "y.Zip"])
def test_the_ending_in_capitals(file_store, other, tmp_path, name):
    """Is a .zip too, and does not replace an empty folder."""
    file_store.save(sample(0))
    export_runs(file_store, tmp_path / name)
    assert zipfile.is_zipfile(tmp_path / name)
    assert import_runs(other, tmp_path / name) == (1, 0)
    (tmp_path / f"folder.{name}").mkdir()
    with pytest.raises(InputError, match="is there already"):
        export_runs(file_store, tmp_path / f"folder.{name}")


def test_what_is_there_already(file_store, other, tmp_path):
    """A finished run stays; a failed or deleted one makes room for a finished one."""
    for seed in range(4):
        file_store.save(sample(seed))
    file_store.save(failed(4))
    other.save(sample(0, label="mine"))
    other.save(failed(1))
    deleted = other.save(sample(2))
    other.delete([deleted])
    other.save(failed(4, "mine"))
    export_runs(file_store, tmp_path / "runs.zip")
    assert import_runs(other, tmp_path / "runs.zip") == (3, 2)
    assert other.get(other.find(sample(0).key)) == sample(0, label="mine")
    assert other.get(other.find(sample(1).key)) == imported(sample(1))
    assert other.find(sample(2).key) == deleted
    assert other.get(4).error == "mine"


def test_runs_of_another_engine_version_are_history(file_store, other, tmp_path):
    """Their numbers come along under their own key; they can be looked at."""
    old = {**BASE.to_dict(), "engine_version": 1, "unknown": "field"}
    del old["probes"]
    file_store.save(sample(0, key=key_of("prune", old), config=old))
    export_runs(file_store, tmp_path / "runs.zip")
    assert import_runs(other, tmp_path / "runs.zip") == (1, 0)
    assert other.get(1).config == old
    assert other.runs()["engine_version"].tolist() == [1]


def test_the_key_of_plain_json_is_that_of_the_class():
    """What an import checks by is what runs are found by; places do not count."""
    config = BASE.replace(weights="/home/me/a.pt", data_dir="/data", exclude=("fc*",), damping=1e-5)
    assert key_of("prune", config.to_dict()) == config.key == config.replace(weights="shipped").key


def test_nothing_is_written_over(file_store, tmp_path):
    """An export never replaces anything, and a failed one leaves nothing."""
    file_store.save(sample(0))
    (tmp_path / "there.zip").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    (tmp_path / "empty").mkdir()
    for name in ("there.zip", "full"):
        with pytest.raises(InputError, match="is there already"):
            export_runs(file_store, tmp_path / name)
    assert (tmp_path / "there.zip").read_text() == "precious"
    assert export_runs(file_store, tmp_path / "empty") == 1
    with pytest.raises(InputError, match="got 7, 8"):
        export_runs(file_store, tmp_path / "new.zip", [1, 7, 8])
    with pytest.raises(StoreError, match="cannot write"):
        export_runs(file_store, tmp_path / "there.zip" / "runs.zip")
    with pytest.raises(InputError, match="expected one of csv, parquet"):
        export_runs(file_store, tmp_path / "new.zip", format="xlsx")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"there.zip", "full", "empty", "runs.sqlite", "runs.sqlite-wal", "runs.sqlite-shm"}


def test_an_empty_store(file_store, other, tmp_path):
    """No runs are an export too."""
    for form, end in FORMS:
        assert export_runs(file_store, tmp_path / f"{form}{end}", format=form) == 0
        assert import_runs(other, tmp_path / f"{form}{end}") == (0, 0)


def test_repacked_by_other_programs(file_store, other, tmp_path):
    """A .zip with entries for its folders, or unpacked by hand."""
    entry = artefacts.put(file_store.folder, b"weights")
    file_store.save(sample(0, artefacts={"pruned": entry}))
    export_runs(file_store, tmp_path / "runs", artefacts=True)
    with zipfile.ZipFile(tmp_path / "again.zip", "w") as archive:
        for path in sorted((tmp_path / "runs").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "runs"))
    assert any(name.endswith("/") for name in zipfile.ZipFile(tmp_path / "again.zip").namelist())
    assert import_runs(other, tmp_path / "again.zip") == (1, 0)
    assert import_runs(other, Path(tmp_path / "runs")) == (0, 1)
