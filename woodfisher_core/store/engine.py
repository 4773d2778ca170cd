"""A database opened with care: SQLite in write-ahead mode or PostgreSQL, one writer at a time, errors in words."""

import json
import math
import os
import random
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.store.files import BUSY_SECONDS, check_file, damaged
from woodfisher_core.store.places import ENVIRONMENT_VARIABLE, FILE_NAME, data_folder, parse_url, shown
from woodfisher_core.store.schema import APPLICATION_ID

__all__ = ["ENVIRONMENT_VARIABLE", "FILE_NAME", "WRITING", "connect", "data_folder", "in_words", "parse_url", "reading"]

WRITING = {"woodfisher_writes": True}
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_inherited: list[object] = []


def connect(url: URL) -> Engine:
    """An engine for ``url``; a SQLite file is checked first, and one that is damaged or not ours is refused untouched."""
    try:
        if url.get_backend_name() == "sqlite":
            path = Path(url.database)
            check_file(path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"store: cannot make the folder {path.parent} ({error.strerror}). Choose another --store."
                ) from None
            # As many connections as there are threads: waiting for a file's lock is SQLite's own business.
            engine = sa.create_engine(
                url, connect_args={"timeout": BUSY_SECONDS}, max_overflow=-1, json_serializer=_json
            )
            sa.event.listen(engine, "connect", _prepare)
        else:
            engine = sa.create_engine(url, pool_pre_ping=True, pool_timeout=BUSY_SECONDS, json_serializer=_json)
    except (ImportError, NoSuchModuleError):
        raise InputError(
            'store: PostgreSQL needs the psycopg package. Install it with: pip install "psycopg[binary]"'
        ) from None
    sa.event.listen(engine, "begin", _begin)
    _engines.add(engine)
    return engine


def reading(engine: Engine) -> dict[str, object]:
    """Options of a connection that reads: all its queries see the same moment, as they do on SQLite anyway."""
    if engine.dialect.name == "postgresql":
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return {}


def _json(value: object) -> str:
    """JSON that every database takes: what is no finite number becomes null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Each new SQLite connection: we begin transactions ourselves (the driver would begin them late, and lock late)."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    # With write-ahead logging a killed process loses nothing so; a power cut may lose the last moments, never the file.
    connection.execute("PRAGMA synchronous=NORMAL")
    # Two that change the mode at once would each wait for the other, all of the time allowed: here nobody waits within SQLite.
    connection.execute("PRAGMA busy_timeout=0")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.005, 0.03))
    connection.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS}")


def _begin(connection: Connection) -> None:
    """A writer takes the one lock at once: a SQLite reader that became a writer later could not wait for it, and PostgreSQL's
    writers could meet in orders that stop each other."""
    writes = connection.get_execution_options().get("woodfisher_writes", False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        wait = f"set_config('lock_timeout', '{BUSY_SECONDS}s', true)"
        connection.exec_driver_sql(f"SELECT {wait}, pg_advisory_xact_lock({APPLICATION_ID})")


def _after_fork() -> None:
    """A forked process must not use its parent's connections, nor close them: they are set aside, and it opens its own."""
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def in_words(url: URL) -> Iterator[None]:
    """Turns a database's errors into StoreErrors that say what to do."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(_words(url, str(error.orig).strip() or type(error.orig).__name__)) from error
    except json.JSONDecodeError as error:
        raise StoreError(damaged(shown(url), f"no JSON: {error}")) from error
    except PoolTimeoutError as error:
        raise StoreError(
            f"store: every connection to {shown(url)} has been busy for {BUSY_SECONDS} s. Try again."
        ) from error


def _words(url: URL, found: str) -> str:
    place, low = shown(url), found.lower()
    if "disk is full" in low or "no space" in low or "disk i/o" in low:
        return (
            f"store: {place} could not be written, the disk may be full ({found}). Nothing that was there is lost. Make room "
            "and try again, or choose another --store."
        )
    if "readonly" in low or "read-only" in low or "unable to open" in low or "permission denied" in low:
        return f"store: {place} cannot be written ({found}). Check its permissions or choose another --store."
    if "malformed" in low or "not a database" in low or "could not decode" in low:
        return damaged(place, found)
    if "locked" in low or "lock timeout" in low:
        return f"store: another process has kept {place} locked for {BUSY_SECONDS} s. Stop it, or try again later."
    if url.get_backend_name() == "postgresql" and ("connect" in low or "authentication" in low):
        return f"store: cannot reach {place} ({found.splitlines()[0]}). Check that it runs, the name and the password."
    return f"store: {place}: {found}"
