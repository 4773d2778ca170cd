"""A stranger's export: whatever is wrong with it is said in a sentence, and nothing of it is imported."""

import io
import json
import os
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import failed, sample

from woodfisher_core.errors import InputError
from woodfisher_core.store import artefacts, bundle, columns
from woodfisher_core.store.exchange import export_runs, import_runs
from woodfisher_core.store.incoming import key_of


@pytest.fixture
def exported(file_store, tmp_path):
    """A folder of three runs, one failed, one with a file; the store is empty again."""
    entry = artefacts.put(file_store.folder, b"weights")
    numbers = [file_store.save(run) for run in (sample(0, artefacts={"a": entry}), sample(1), failed(2))]
    export_runs(file_store, tmp_path / "runs", artefacts=True)
    file_store.delete(numbers)
    file_store.purge(grace=-10)
    return tmp_path / "runs"


def refused(store, path: Path, words: str) -> None:
    """Importing ``path`` raises an InputError of one sentence or two, and leaves the store as it was."""
    with pytest.raises(InputError, match=words) as caught:
        import_runs(store, path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert len(store.runs()) == len(store.runs(deleted=True)) == len(store.metrics()) == 0


def change(table: str, old: str, new: str):
    def apply(folder: Path) -> None:
        path = folder / f"{table}.csv"
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, 1).encode())

    return apply


def changed_config(**changes):
    """Changes the first run's config and its key with it."""

    def apply(folder: Path) -> None:
        config = sample(0).config
        other = {**config, **changes}
        quoted = lambda value: json.dumps(value).replace('"', '""')  # noqa: E731
        change("runs", quoted(config), quoted(other))(folder)
        change("runs", sample(0).key, key_of("prune", other))(folder)

    return apply


KEY = sample(0).key
MANIFEST = {"format": "woodfisher-runs", "version": 1, "tables": "csv"}
WRONG = {
    "unknown column": (change("runs", "label", "lable"), r"runs\.csv: unknown column 'lable'"),
    "missing column": (change("metrics", ",value\r\n", "\r\n"), r"metrics\.csv: lacks the column 'value'"),
    "column twice": (change("metrics", "step,", "step,step,"), r"metrics\.csv: a column twice"),
    "too few cells": (
        change("metrics", "\r\n1,accuracy,0,", "\r\n1,accuracy,"),
        r"metrics\.csv, row 1: expected 5 cells, got 4",
    ),
    "no number": (
        change("metrics", "1,accuracy,1,", "1,accuracy,one,"),
        r"metrics\.csv, row 2: expected a whole number in 'step'",
    ),
    "Python's numbers": (change("metrics", "1,accuracy,1,", "1,accuracy,1_0,"), r"row 2: expected a whole number"),
    "too large": (change("layers", str(2**33), str(2**63)), r"layers\.csv, row 1: expected a whole number"),
    "nan": (change("metrics", "0.08333333333333333", "nan"), r"metrics\.csv, row 2: expected a number in 'sparsity'"),
    "nothing": (change("timings", "0.1", ""), r"timings\.csv, row \d: expected a number in 'seconds', got nothing"),
    "more kept than there are": (
        change("layers", "40×64,0,", f"40×64,{2**34},"),
        r"layers\.csv, row 1: \d+ weights kept",
    ),
    "no such run": (change("layers", "\r\n2,", "\r\n77,"), r"layers\.csv, row 4: there is no run 77"),
    "row twice": (change("metrics", "1,accuracy,1,", "1,accuracy,0,"), r"metrics\.csv, row 2: this row is there twice"),
    "run twice": (change("runs", "\r\n2,", "\r\n1,"), r"runs\.csv, row 2: this run is there twice"),
    "another key": (change("runs", KEY, "0" * 64), r"runs\.csv, row 1: the config has the key \w+…, not '0"),
    "another config": (change("runs", '""seed"": 0', '""seed"": 5'), r"row 1: the config has the key"),
    "another method": (change("runs", ",woodfisher,", ",magnitude,"), r"row 1: method is 'magnitude', in the config"),
    "no such method": (changed_config(method="magic"), r"row 1: method is 'woodfisher', in the config 'magic'"),
    "no such knob": (changed_config(damping=-1.0), r"runs\.csv, row 1: damping: expected a positive number"),
    "another spelling": (changed_config(block_size=5.0), r"runs\.csv, row 1: "),
    "unknown field": (changed_config(shell="rm"), r"runs\.csv, row 1: config: unknown field shell"),
    "unknown kind": (change("runs", ",prune,", ",prone,"), r"row 1: expected a kind among prune"),
    "unknown status": (change("runs", ",done,", ",great,"), r"row 1: expected a status among done, failed"),
    "no JSON": (change("runs", "{", "["), r"row 1: expected a JSON object in 'config'"),
    "not finite": (
        change("runs", '""damping"": 0.001', '""damping"": NaN'),
        r"row 1: the config has a number that is none",
    ),
    "deep JSON": (lambda f: change("runs", "{", '{""a"": ' + "[" * 100_000)(f), "row 1: expected a JSON object"),
    "a time that is none": (change("runs", ",test,,", ",test,,-"), r"row 1: expected seconds since 1970"),
    "no CSV": (change("runs", "run,key", 'run,"key" x'), r"runs\.csv"),
    "no UTF-8": (lambda f: (f / "layers.csv").write_bytes(b"\xff"), r"layers\.csv is no UTF-8"),
    "empty": (lambda f: (f / "layers.csv").write_bytes(b""), r"layers\.csv: lacks the column"),
    "pickle": (lambda f: (f / "layers.csv").write_bytes(pickle.dumps([1])), r"layers\.csv"),
    "missing table": (lambda f: (f / "timings.csv").unlink(), r"lacks timings\.csv"),
    "missing file": (lambda f: shutil.rmtree(f / "artefacts"), "lacks artefacts/"),
    "changed file": (
        lambda f: next((f / "artefacts").glob("??/*")).write_bytes(b"Weights"),
        "not the file its name says",
    ),
    "longer file": (
        lambda f: next((f / "artefacts").glob("??/*")).write_bytes(b"weights" * 9),
        "not the file its name says",
    ),
    "file's name": (change("artefacts", "1,a,", "1,a,../"), r"artefacts\.csv, row 1: expected a sha256"),
    "more files": (lambda f: (f / "run.py").touch(), "holds 'run.py'"),
    "link": (lambda f: os.symlink("/etc/passwd", f / "metrics.parquet"), "is a link"),
    "link to a folder": (lambda f: os.symlink("/etc", f / "artefacts" / "zz"), "is a link"),
    "pipe": (lambda f: os.mkfifo(f / "pipe"), "no file"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "lacks manifest.json"),
    "no such manifest": (lambda f: (f / "manifest.json").write_text("[1]"), "is not that of exported runs"),
    "another format": (
        lambda f: (f / "manifest.json").write_text(json.dumps(MANIFEST | {"version": 2})),
        "Update the program",
    ),
    "pickled tables": (
        lambda f: (f / "manifest.json").write_text(json.dumps(MANIFEST | {"tables": "pickle"})),
        "expected one of",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(what, exported, file_store):
    """File and row, in a sentence; nothing or everything."""
    spoil, words = WRONG[what]
    spoil(exported)
    refused(file_store, exported, words)


def test_unspoilt_it_is_imported(exported, file_store):
    """So that the refusals above are for what was spoilt."""
    assert import_runs(file_store, exported) == (3, 0)


def packed(folder: Path, path: Path, extra: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in folder.rglob("*"):
            if file.is_file() and file.relative_to(folder).as_posix() not in extra:
                archive.write(file, file.relative_to(folder))
        for name, content in extra.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "artefacts/../../evil", "C:\\evil", "metrics.csv/../evil"])
def test_names_lead_nowhere(name, exported, file_store, tmp_path):
    """Names that point out of the .zip are refused; nothing is ever unpacked."""
    refused(file_store, packed(exported, tmp_path / "a.zip", {name: b"evil"}), "holds|is packed")
    assert not list(tmp_path.rglob("evil"))


def test_bombs_do_not_go_off(exported, file_store, tmp_path, monkeypatch):
    """A table that swells when unpacked is read only so far, whatever its entry says of its size."""
    monkeypatch.setattr("woodfisher_core.store.exchange.MOST_BYTES", 1 << 20)
    zeros = bytes(1 << 24)
    bomb = packed(exported, tmp_path / "a.zip", {"metrics.csv": zeros}, zipfile.ZIP_DEFLATED)
    # Artefacts may not be packed at all, so that their size is that of the .zip.
    refused(file_store, bomb, "is packed")
    shutil.rmtree(exported / "artefacts")
    bomb = packed(exported, tmp_path / "b.zip", {"metrics.csv": zeros}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 16
    refused(file_store, bomb, r"metrics\.csv in b\.zip has more than 1,048,576 bytes")
    lying = bomb.read_bytes().replace((1 << 24).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    (tmp_path / "c.zip").write_bytes(lying)
    refused(file_store, tmp_path / "c.zip", "metrics.csv")


def test_damaged_archives(exported, file_store, tmp_path):
    """Text, a cut, changed bytes, a name twice, a password, nothing."""
    whole = packed(exported, tmp_path / "a.zip", {}, zipfile.ZIP_STORED).read_bytes()
    for content, words in (
        (b"text", "no sound .zip"),
        (whole[:-100], "no sound .zip"),
        (whole.replace(b"accuracy", b"accurate", 1), "is damaged|lacks|unknown"),
        (b"", "no sound .zip"),
    ):
        (tmp_path / "b.zip").write_bytes(content)
        refused(file_store, tmp_path / "b.zip", words)
    refused(file_store, tmp_path / "missing.zip", "found nothing there")
    (tmp_path / "c.zip").write_bytes(whole)
    with zipfile.ZipFile(tmp_path / "c.zip", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr("manifest.json", "{}")
    refused(file_store, tmp_path / "c.zip", "one name twice")
    monkey = bytearray(whole)
    at = whole.index(b"PK\x01\x02")
    monkey[at + 8] |= 1  # the flag of a password
    monkey[whole.index(b"PK\x03\x04") + 6] |= 1
    (tmp_path / "d.zip").write_bytes(monkey)
    refused(file_store, tmp_path / "d.zip", "is damaged|password|encrypted")


def parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "none", "use_dictionary": False, **options})
    return sink.getvalue()


METRICS = {"run": [1], "name": ["a"], "step": [0], "sparsity": [0.5], "value": [1.0]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (parquet(pa.table(METRICS), compression="zstd"), "is packed"),
        (parquet(pa.table({**METRICS, "step": ["0"]})), "expected a whole number in 'step', got"),
        (parquet(pa.table({**METRICS, "step": [0.5]})), "expected a whole number in 'step', got double"),
        (parquet(pa.table({**METRICS, "name": [b"a"]})), "expected text in 'name', got"),
        (parquet(pa.table({**METRICS, "name": [["a"]]})), "metrics.parquet"),
        (
            parquet(pa.table({**METRICS, "step": pa.array([None], pa.int64())})),
            "row 1: expected a whole number in 'step', got nothing",
        ),
        (parquet(pa.table({**METRICS, "more": [1]})), "unknown column 'more'"),
        (parquet(pa.table({"run": [1]})), "lacks the column"),
        (b"PAR1" + os.urandom(100) + b"PAR1", "is damaged or no Parquet file"),
        (parquet(pa.table(METRICS))[:-20], "is damaged or no Parquet file"),
        (pickle.dumps({}), "is damaged or no Parquet file"),
        (b"", "is damaged or no Parquet file"),
    ],
)
def test_parquet_of_strangers(content, words, exported, file_store, tmp_path):
    """Types are those of the export, packed pages are not opened."""
    assert import_runs(file_store, exported) == (3, 0)
    export_runs(file_store, tmp_path / "columns", format="parquet")
    file_store.delete([1, 2, 3])
    file_store.purge()
    (tmp_path / "columns" / "metrics.parquet").write_bytes(content)
    refused(file_store, tmp_path / "columns", words)


def test_a_text_repeated_beyond_bounds(monkeypatch):
    """A long text that a Parquet file holds once and names often is counted before it is made."""
    table = pa.table({"run": [1] * 9000, "phase": pa.array(["x" * 1000] * 9000), "seconds": [0.1] * 9000})
    content = parquet(table, use_dictionary=True)
    assert len(content) < 1 << 18
    assert len(columns.decode("timings", "timings.parquet", content, columns.Form.PARQUET)) == 9000
    monkeypatch.setattr(columns, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match="holds more than 1,048,576 bytes"):
        columns.decode("timings", "timings.parquet", content, columns.Form.PARQUET)
    monkeypatch.setattr(columns, "MOST_CHARACTERS", 999)
    with pytest.raises(InputError, match="more than 999 characters"):
        columns.decode("timings", "timings.parquet", content, columns.Form.PARQUET)
    monkeypatch.setattr(columns, "MOST_ROWS", 10)
    with pytest.raises(InputError, match="more than 10 rows"):
        columns.decode("timings", "timings.parquet", content, columns.Form.PARQUET)


def test_a_folder_of_too_many_files(tmp_path, monkeypatch, file_store):
    """Someone's home folder by mistake."""
    monkeypatch.setattr(bundle, "_MOST_FILES", 5)
    (tmp_path / "home").mkdir()
    for i in range(6):
        (tmp_path / "home" / str(i)).touch()
    refused(file_store, tmp_path / "home", "more than 5 files")
