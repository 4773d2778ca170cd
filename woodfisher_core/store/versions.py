"""Which version of the schema a database has: made new, brought up to date after a copy, or refused."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from woodfisher_core.errors import StoreError
from woodfisher_core.store.engine import BUSY_SECONDS, WRITING
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
        StoreError: The tables are of a newer version, or of an older one that nothing leads from.
    """
    found = _version(engine)
    if found is not None and found < VERSION and engine.dialect.name == "sqlite":
        _copy(engine, found)
    with engine.connect().execution_options(**WRITING) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(APPLICATION_ID)))
        found = _version_on(connection)
        if found is None:
            metadata.create_all(connection)
            connection.execute(about.insert().values(version=VERSION))
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
            return
        if found > VERSION:
            raise StoreError(
                f"store: {_place(engine)} was written by a newer version of this program (schema {found}, this one reads "
                f"{VERSION}). Update the program, or choose another --store."
            )
        for version in range(found, VERSION):
            if version not in MIGRATIONS:
                raise StoreError(
                    f"store: {_place(engine)} has schema {version}, which this program cannot bring to {VERSION}. It is left as "
                    "it is; export it with the version that wrote it and import it here."
                )
            MIGRATIONS[version](connection)
        if found < VERSION:
            connection.execute(about.update().values(version=VERSION))


def _version(engine: Engine) -> int | None:
    with engine.connect() as connection, connection.begin():
        return _version_on(connection)


def _version_on(connection: Connection) -> int | None:
    if not sa.inspect(connection).has_table(about.name):
        return None
    return connection.execute(sa.select(about.c.version)).scalar_one()


def _copy(engine: Engine, version: int) -> None:
    """Puts a copy of an older SQLite file beside it before it is changed."""
    path = Path(engine.url.database)
    copy = path.with_name(f"{path.name}.version{version}")
    part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
    if copy.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        os.replace(part, copy)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"store: {path} must be copied before it is brought from schema {version} to {VERSION}, and the copy failed "
            f"({error}). Nothing was changed. Make room beside it and try again."
        ) from None


def _place(engine: Engine) -> str:
    return engine.url.database if engine.dialect.name == "sqlite" else engine.url.render_as_string(hide_password=True)
