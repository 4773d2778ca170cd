"""Older stores are brought up to date: once, after a copy, whole or not at all."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from samples import sample, together

from woodfisher_core.errors import StoreError
from woodfisher_core.store import Status, Store
from woodfisher_core.store import versions as versions_module
from woodfisher_core.store.schema import APPLICATION_ID, NEW_IN_2, VERSION, metadata

DUMP = Path(__file__).with_name("version1.sql")


@pytest.fixture
def old(tmp_path):
    """A store as the first version wrote it."""
    place = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(place)) as connection:
        connection.executescript(DUMP.read_text())
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    return place


def dumped(place: Path) -> list[str]:
    """All that is in a SQLite file, as statements."""
    with closing(sqlite3.connect(place)) as connection:
        return list(connection.iterdump())


def test_version_1_becomes_this_one(old):
    """Its runs are there, deleted ones deleted; the copy beside it is what it was."""
    before = dumped(old)
    store = Store(old)
    assert list(store.runs()["id"]) == [1]
    assert list(store.runs(deleted=True)["id"]) == [2]
    run = store.get(1)
    assert (run.headline["accuracy"], run.label, run.status) == (96.5, "", Status.DONE)
    assert run.metrics[0].value == 96.5
    assert store.save(sample(0)) == 3
    store.close()
    copy = old.with_name("runs.sqlite.version1")
    assert dumped(copy) == before
    assert sorted(path.name for path in old.parent.iterdir()) == ["runs.sqlite", "runs.sqlite.version1"]
    Store(old).close()
    assert dumped(copy) == before


def test_it_has_the_tables_of_a_new_store(old, tmp_path):
    """Migrated or new: the same columns, and the same indices."""
    Store(old).close()
    Store(tmp_path / "new.sqlite").close()
    described = []
    for place in (old, tmp_path / "new.sqlite"):
        engine = sa.create_engine(f"sqlite:///{place}")
        found = sa.inspect(engine)
        names = sorted(found.get_table_names())
        columns = {
            name: {(c["name"], c["nullable"], c["primary_key"]) for c in found.get_columns(name)} for name in names
        }
        described.append((columns, {name: [i["name"] for i in found.get_indexes(name)] for name in names}))
        engine.dispose()
    assert described[0] == described[1]


def test_a_copy_that_is_there_is_kept(old):
    """It may be of another store: the new copy takes another name."""
    before, there = dumped(old), old.with_name("runs.sqlite.version1")
    there.write_text("precious")
    Store(old).close()
    assert there.read_text() == "precious"
    assert dumped(old.with_name("runs.sqlite.version1-2")) == before


def test_processes_migrate_it_at_once(old):
    """Six open it at the same moment; one migrates, one copy is made, and it is of the old version."""
    before = dumped(old)
    assert together(open_and_save, *((str(old), seed) for seed in range(6))) == [0] * 6
    assert sorted(path.name for path in old.parent.iterdir()) == ["runs.sqlite", "runs.sqlite.version1"]
    assert dumped(old.with_name("runs.sqlite.version1")) == before
    store = Store(old)
    assert sorted(store.runs()["seed"]) == [0, 0, 1, 2, 3, 4, 5]  # the old one has seed 0 too, and other settings
    store.close()


def open_and_save(place: str, seed: int, barrier) -> None:
    """Opens and saves one run."""
    barrier.wait()
    store = Store(place)
    store.save(sample(seed))
    store.close()


def test_a_full_disk_midway_leaves_it_as_it_was(old):
    """The file may not grow: the migration fails after its first statements, and version 1 is whole; later it succeeds."""

    def no_room(connection, _record) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    before = dumped(old)
    sa.event.listen(sa.engine.Engine, "connect", no_room)
    try:
        with pytest.raises(
            StoreError, match=r"could not be written, the disk may be full.*Nothing that was there is lost"
        ):
            Store(old)
    finally:
        sa.event.remove(sa.engine.Engine, "connect", no_room)
    assert dumped(old) == before
    assert [path.name for path in old.parent.iterdir()] == ["runs.sqlite"]
    store = Store(old)
    assert list(store.runs()["id"]) == [1]
    store.close()


def test_without_a_copy_nothing_is_changed(old):
    """Where the copy cannot be made, the store stays as it is."""
    before = dumped(old)
    blocked = old.with_name("runs.sqlite.version1.part")
    blocked.mkdir()
    with pytest.raises(StoreError, match=r"the copy failed.*Nothing was changed"):
        Store(old)
    assert dumped(old) == before
    blocked.rmdir()
    Store(old).close()


def test_a_version_that_nothing_leads_from(old, monkeypatch):
    """Said, and left as it is."""
    monkeypatch.setattr(versions_module, "MIGRATIONS", {})
    before = dumped(old)
    with pytest.raises(StoreError, match=f"has schema 1, which this program cannot bring to {VERSION}"):
        Store(old)
    assert dumped(old) == before
    assert [path.name for path in old.parent.iterdir()] == ["runs.sqlite"]


def test_migration_on_both_backends(place, monkeypatch):
    """A store put back to the tables of version 1; first the migration breaks off, then it does not."""
    store = Store(place)
    store.save(sample(0))
    with store.writing() as connection:
        metadata.drop_all(connection, tables=list(NEW_IN_2))
        connection.exec_driver_sql("ALTER TABLE runs DROP COLUMN label")
        connection.exec_driver_sql("UPDATE woodfisher_store SET version=1")
    store.close()

    def broken(connection) -> None:
        migrate(connection)
        connection.exec_driver_sql("SELECT * FROM nowhere")

    migrate = versions_module.MIGRATIONS[1]
    monkeypatch.setattr(versions_module, "MIGRATIONS", {1: broken})
    with pytest.raises(StoreError, match="nowhere"):
        Store(place)
    monkeypatch.setattr(versions_module, "MIGRATIONS", {1: migrate})
    store = Store(place)
    assert store.get(1) == sample(0)
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT version FROM woodfisher_store").scalar() == VERSION
        assert set(sa.inspect(connection).get_table_names()) == set(metadata.tables)
    store.close()


def test_a_newer_store_on_both_backends(place):
    """Refused, whatever it is kept in."""
    store = Store(place)
    with store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE woodfisher_store SET version={VERSION + 1}")
    store.close()
    with pytest.raises(StoreError, match="newer version of this program"):
        Store(place)
