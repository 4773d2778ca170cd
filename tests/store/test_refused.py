"""What is no store of ours, or is damaged, is refused in words and left byte for byte, with nothing put beside it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from samples import sample

from woodfisher_core.errors import StoreError
from woodfisher_core.store import Store
from woodfisher_core.store.schema import APPLICATION_ID, VERSION


def filled(path: Path, runs: int = 60) -> bytes:
    """A store of ours at ``path``, and its bytes."""
    store = Store(path)
    for seed in range(runs):
        store.save(sample(seed))
    store.close()
    return path.read_bytes()


def everything(folder: Path) -> dict[str, bytes | None]:
    """Each name in the folder with its bytes."""
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def other_program(path: Path, mode: str = "delete") -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE runs (id INTEGER)")
        connection.execute("INSERT INTO runs VALUES (1)")


def header(path: Path) -> None:
    path.write_bytes(b"\0" * 100 + filled(path)[100:])


def first_page(path: Path) -> None:
    content = filled(path)
    path.write_bytes(content[:100] + b"\xff" * 3900 + content[4000:])


def middle(path: Path) -> None:
    content = filled(path)
    half = len(content) // 2 // 4096 * 4096
    path.write_bytes(content[:half] + b"\x5a" * 8192 + content[half + 8192 :])


def truncated(path: Path) -> None:
    path.write_bytes(filled(path)[:-30_000])


def nearly_nothing(path: Path) -> None:
    path.write_bytes(filled(path)[:50])


def newer(path: Path, mode: str = "wal") -> None:
    filled(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute(f"UPDATE woodfisher_store SET version={VERSION + 1}")


def versionless(path: Path) -> None:
    filled(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE woodfisher_store SET version='soon'")


REFUSED = {
    "text": (lambda path: path.write_text("my thesis\n" * 100), "no SQLite file"),
    "bytes": (lambda path: path.write_bytes(os.urandom(9000)), "no SQLite file"),
    "header": (header, "no SQLite file"),
    "first page": (first_page, "is damaged.*recover"),
    "middle": (middle, "is damaged.*recover"),
    "truncated": (truncated, "is damaged.*recover"),
    "nearly nothing": (nearly_nothing, "cannot be read|is damaged"),
    "another program's": (other_program, "another program"),
    "another program's, in write-ahead mode": (lambda path: other_program(path, "wal"), "another program"),
    "newer": (newer, "newer version.*Update the program"),
    "newer, in another mode": (lambda path: newer(path, "delete"), "newer version.*Update the program"),
    "no version": (versionless, "is damaged"),
    "pipe": (lambda path: os.mkfifo(path), "is no file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_and_untouched(kind, tmp_path):
    """Twice, so that the first refusal left nothing that the second one minds."""
    make, words = REFUSED[kind]
    place = tmp_path / "runs.sqlite"
    make(place)
    before = everything(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreError, match=words) as caught:
            Store(place)
        assert str(place) in str(caught.value)
        assert everything(tmp_path) == before


def test_another_programs_file_in_use(tmp_path):
    """While another program writes its own file, looking at it changes neither that file nor its log."""
    place = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(place, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=wal")
        other.execute("CREATE TABLE notes (text)")
        before = {name: content for name, content in everything(tmp_path).items() if not name.endswith("-shm")}
        with pytest.raises(StoreError, match="another program"):
            Store(place)
        after = everything(tmp_path)
        assert set(after) == {"runs.sqlite", "runs.sqlite-wal", "runs.sqlite-shm"}
        assert {name: after[name] for name in before} == before
        other.execute("INSERT INTO notes VALUES ('still mine')")


def test_damage_that_shows_later_is_said(tmp_path):
    """A page that breaks while the store is open."""
    place = tmp_path / "runs.sqlite"
    filled(place, 200)
    store = Store(place)
    content = place.read_bytes()
    place.write_bytes(content[:4096] + b"\x5a" * (len(content) - 4096))
    with pytest.raises(StoreError, match=r"is damaged.*recover"):
        store.metrics()
    store.close()


def test_places_that_cannot_be_written(tmp_path):
    """A folder's URL, a missing folder in a place where none can be made, a file where a folder should be."""
    with pytest.raises(StoreError, match="cannot make the folder /proc/nowhere"):
        Store("/proc/nowhere/runs.sqlite")
    with pytest.raises(StoreError, match="cannot be written"):
        Store("/proc/runs.sqlite")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot make the folder"):
        Store(tmp_path / "file" / "runs.sqlite")
    assert (tmp_path / "file").read_bytes() == b""


def test_missing_folders_are_made(tmp_path):
    """On first use."""
    store = Store(tmp_path / "a" / "b" / "runs.sqlite")
    assert store.save(sample(0)) == 1
    store.close()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["runs.sqlite"]


def test_an_empty_file_becomes_a_store(tmp_path):
    """As an export's temporary file may be; the mark in it says whose it is."""
    place = tmp_path / "runs.sqlite"
    place.touch()
    Store(place).close()
    assert int.from_bytes(place.read_bytes()[68:72], "big") == APPLICATION_ID


def test_another_programs_tables_on_a_server(place):
    """A database that has a table of the same name, but not our mark, is refused, and nothing is made in it."""
    if "://" not in place:
        with closing(sqlite3.connect(place, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE jobs (id INTEGER)")
        words = "another program"
    else:
        import psycopg

        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute("CREATE TABLE jobs (id INTEGER)")
        words = "tables of another program"
    with pytest.raises(StoreError, match=words):
        Store(place)
    with pytest.raises(StoreError, match=words):
        Store(place)
