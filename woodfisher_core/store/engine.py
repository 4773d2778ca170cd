"""A database opened with care: SQLite in write-ahead mode or PostgreSQL, errors in words, nothing foreign touched."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.store.schema import APPLICATION_ID

ENVIRONMENT_VARIABLE = "WOODFISHER_STORE"
FILE_NAME = "runs.sqlite"
# How long a writer waits for another process's transaction.
BUSY_SECONDS = 60
SQLITE_HEADER = b"SQLite format 3\x00"
WRITING = {"woodfisher_writes": True}


def data_folder() -> Path:
    """Where runs are kept: ``$XDG_DATA_HOME/woodfisher``, else ``~/.local/share/woodfisher`` (``%LOCALAPPDATA%`` on Windows)."""
    base = os.environ.get("XDG_DATA_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return Path(base) / "woodfisher" if base else Path.home() / ".local" / "share" / "woodfisher"


def parse_url(place: str | Path | None) -> URL:
    """The database of ``place``: a URL, a file, or None for $WOODFISHER_STORE, else ``runs.sqlite`` in :func:`data_folder`."""
    place = place or os.environ.get(ENVIRONMENT_VARIABLE) or data_folder() / FILE_NAME
    text = str(place)
    if "://" not in text:
        path = Path(text).expanduser().resolve()
        if path.is_dir():
            path = path / FILE_NAME
        return URL.create("sqlite", database=str(path))
    try:
        url = make_url(text)
    except ArgumentError:
        raise InputError(f"store: cannot read the URL {_hidden(text)!r}. Write a file's path, or {_EXAMPLE}.") from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not url.database or url.database == ":memory:":
        raise InputError(f"store: expected a file's path or {_EXAMPLE}, got {_hidden(text)!r}.")
    return url.set(database=str(Path(url.database).expanduser().resolve()))


_EXAMPLE = "postgresql://user:password@host/database"


def _hidden(text: str) -> str:
    """``text`` without a password."""
    head, at, tail = text.rpartition("@")
    return f"{head.rpartition(':')[0]}:***@{tail}" if at and ":" in head.partition("://")[2] else text


def connect(url: URL) -> Engine:
    """An engine for ``url``; a SQLite file is checked first, and one that is damaged or not ours is refused untouched."""
    try:
        if url.get_backend_name() == "sqlite":
            path = Path(url.database)
            _check_file(path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"store: cannot make the folder {path.parent} ({error.strerror}). Choose another --store."
                ) from None
            engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
            sa.event.listen(engine, "connect", _prepare)
            sa.event.listen(engine, "begin", _begin)
            return engine
        return sa.create_engine(url, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError):
        raise InputError(
            'store: PostgreSQL needs the psycopg package. Install it with: pip install "psycopg[binary]"'
        ) from None


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Each new SQLite connection: we begin transactions ourselves (the driver would begin them late, and lock late)."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    # With write-ahead logging a killed process loses nothing so; a power cut may lose the last moments, never the file.
    connection.execute("PRAGMA synchronous=NORMAL")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # Changing the mode does not wait for another process that is doing the same.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once: a reader that became one later could not wait for it."""
    writes = connection.get_execution_options().get("woodfisher_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_file(path: Path) -> None:
    """Raises a StoreError unless ``path`` is absent, empty, or a sound SQLite file of ours; only reads it."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            header = file.read(len(SQLITE_HEADER))
    except OSError as error:
        raise StoreError(f"store: cannot read {path} ({error.strerror}). Choose another --store.") from None
    if header != SQLITE_HEADER:
        raise StoreError(f"store: {path} is no SQLite file. It is left as it is; choose another --store.")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            mark = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found, mark, tables = str(error), APPLICATION_ID, 1
    if found != "ok":
        raise StoreError(_damaged(path, found))
    if mark != APPLICATION_ID and tables:
        raise StoreError(
            f"store: {path} is a SQLite file of another program. It is left as it is; choose another --store."
        )


def _damaged(path: object, found: str) -> str:
    return (
        f"store: {path} is damaged ({found.splitlines()[0]}). It is left as it is. Save what can be saved with: "
        f'sqlite3 "{path}" ".recover" | sqlite3 recovered.sqlite, or choose another --store to start afresh.'
    )


@contextmanager
def in_words(url: URL) -> Iterator[None]:
    """Turns a database's errors into StoreErrors that say what to do."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(_words(url, str(error.orig).strip())) from error


def _words(url: URL, found: str) -> str:
    place = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    low = found.lower()
    if "disk is full" in low or "no space" in low or "disk i/o" in low:
        return (
            f"store: {place} could not be written, the disk may be full ({found}). Nothing that was there is lost. Make room "
            "and try again, or choose another --store."
        )
    if "readonly" in low or "read-only" in low or "unable to open" in low:
        return f"store: {place} cannot be written ({found}). Check its permissions or choose another --store."
    if "malformed" in low or "not a database" in low:
        return _damaged(place, found)
    if "locked" in low:
        return f"store: another process has kept {place} locked for {BUSY_SECONDS} s. Stop it, or try again later."
    if url.get_backend_name() == "postgresql" and ("connect" in low or "authentication" in low):
        return f"store: cannot reach {place} ({found.splitlines()[0]}). Check that it runs, the name and the password."
    return f"store: {place}: {found}"
