"""Which version of the schema a database has: made new, brought up to date after a copy, or refused."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from woodfisher_core.errors import StoreError
from woodfisher_core.store.engine import WRITING
from woodfisher_core.store.files import BUSY_SECONDS, damaged, too_new
from woodfisher_core.store.places import shown
from woodfisher_core.store.schema import APPLICATION_ID, NEW_IN_2, VERSION, about, metadata


def _from_1(connection: Connection) -> None:
    """Runs get a label; jobs, their parts and claims come in."""
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN label TEXT DEFAULT '' NOT NULL")
    metadata.create_all(connection, tables=list(NEW_IN_2))


# From each older version, what brings its tables to the next one.
MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _from_1}


def prepare(engine: Engine) -> None:
    """Creates the tables where there are none, migrates older ones; whole or not at all, whoever else does the same.

    Raises:
        StoreError: The tables are of a newer version, or of an older one that nothing leads from; or not ours.
    """
    with engine.connect() as connection, connection.begin():
        if _version(connection) == VERSION:
            return
    copy = None
    try:
        with engine.connect().execution_options(**WRITING) as connection, connection.begin():
            found = _version(connection)
            if found is None:
                _create(connection)
                return
            _check(connection, found)
            if found < VERSION and connection.dialect.name == "sqlite":
                # Nobody else writes now, so that the copy is of the version it says.
                copy = _copy(Path(engine.url.database), found)
            for version in range(found, VERSION):
                MIGRATIONS[version](connection)
            if found < VERSION:
                connection.execute(about.update().values(version=VERSION))
    except Exception:
        if copy is not None:
            copy.unlink(missing_ok=True)  # the original is as it was
        raise


def _create(connection: Connection) -> None:
    foreign = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if foreign:
        raise StoreError(
            f"store: {shown(connection.engine.url)} has tables of another program ({', '.join(foreign)}). They are left as they "
            "are; choose another database as --store."
        )
    metadata.create_all(connection)
    connection.execute(about.insert().values(version=VERSION))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def _check(connection: Connection, found: int) -> None:
    place = shown(connection.engine.url)
    if found > VERSION:
        raise StoreError(too_new(place, found))
    if any(version not in MIGRATIONS for version in range(found, VERSION)):
        raise StoreError(
            f"store: {place} has schema {found}, which this program cannot bring to {VERSION}. It is left as it is; export it "
            "with the version that wrote it and import it here."
        )


def _version(connection: Connection) -> int | None:
    if not sa.inspect(connection).has_table(about.name):
        return None
    found = connection.execute(sa.select(about.c.version)).scalars().all()
    if len(found) != 1 or not isinstance(found[0], int):
        raise StoreError(damaged(shown(connection.engine.url), f"its version is {found}"))
    return found[0]


def _copy(path: Path, version: int) -> Path:
    """Puts a copy of an older SQLite file beside it before it is changed; never over one that is there."""
    names = (f"{path.name}.version{version}{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    copy = next(c for c in (path.with_name(name) for name in names) if not c.exists())
    part = copy.with_name(f"{copy.name}.part")
    try:
        part.unlink(missing_ok=True)  # of a process that was killed here: whoever writes now is alone
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, copy)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreError(
            f"store: {path} must be copied before it is brought from schema {version} to {VERSION}, and the copy failed "
            f"({error}). Nothing was changed. Make room beside it and try again."
        ) from None
    return copy
