"""A SQLite file looked at before it is opened: what is damaged, foreign or newer is refused, and left byte for byte.

Opening a file that is in write-ahead mode, even to read, puts two more files beside it; here that happens only where they
are there already.
"""

import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from woodfisher_core.errors import StoreError
from woodfisher_core.store.schema import APPLICATION_ID, VERSION, about

# How long a writer waits for another process's transaction.
BUSY_SECONDS = 60
SQLITE_HEADER = b"SQLite format 3\x00"
# The size of SQLite's own header; the application's number stands at MARK.
HEADER_BYTES, MARK = 100, slice(68, 72)


@dataclass(frozen=True)
class _Look:
    """What a file holds: the application's number, how many tables, our version, and ``problem`` where it is damaged."""

    mark: int = APPLICATION_ID
    tables: int = 1
    version: object = None
    problem: str | None = None


def check_file(path: Path) -> None:
    """Raises a StoreError unless ``path`` is absent, empty, or a sound SQLite file of ours; only reads it."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise StoreError(f"store: {path} is a folder. Choose a file in it as --store.")
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"store: {path} is no file. Choose another --store.")
        if found.st_size == 0:
            return
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(f"store: cannot read {path} ({error.strerror}). Choose another --store.") from None
    if not header.startswith(SQLITE_HEADER):
        raise StoreError(f"store: {path} is no SQLite file. It is left as it is; choose another --store.")
    ours = int.from_bytes(header[MARK], "big") == APPLICATION_ID
    look = _look(path, ours)
    if look.problem is not None:
        raise StoreError(damaged(path, look.problem))
    if look.mark != APPLICATION_ID and look.tables:
        raise StoreError(
            f"store: {path} is a SQLite file of another program. It is left as it is; choose another --store."
        )
    if isinstance(look.version, int) and look.version > VERSION:
        raise StoreError(too_new(path, look.version))


def damaged(place: object, found: str) -> str:
    """What to do about a damaged file."""
    return (
        f"store: {place} is damaged ({found.splitlines()[0]}). It is left as it is. Save what can be saved with: "
        f'sqlite3 "{place}" ".recover" | sqlite3 recovered.sqlite, or choose another --store to start afresh.'
    )


def too_new(place: object, version: int) -> str:
    """What to do about a store of a newer program."""
    return (
        f"store: {place} was written by a newer version of this program (schema {version}, this one reads {VERSION}). Update "
        "the program, or choose another --store."
    )


def _look(path: Path, ours: bool) -> _Look:
    """A first look takes no locks, which leaves no trace; where others write meanwhile, a second one that does decides."""
    before, live = _stamp(path), _has_log(path)
    look = _read(path, "mode=ro" if live else "mode=ro&immutable=1", ours)
    if look.problem is not None and not live and (_has_log(path) or _stamp(path) != before):
        return _read(path, "mode=ro", ours)
    return look


def _read(path: Path, how: str, ours: bool) -> _Look:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=BUSY_SECONDS)) as connection:
            one = lambda query: connection.execute(query).fetchone()[0]  # noqa: E731
            mark = one("PRAGMA application_id")
            if mark != APPLICATION_ID:
                return _Look(mark, one("SELECT count(*) FROM sqlite_master"))
            problem = one("PRAGMA quick_check(1)")
            if problem != "ok":
                return _Look(problem=problem)
            named = one(f"SELECT count(*) FROM sqlite_master WHERE type='table' AND name='{about.name}'")
            return _Look(version=one(f"SELECT max(version) FROM {about.name}") if named else None)
    except sqlite3.OperationalError as error:
        # Not what is in the file, but how it can be reached.
        raise StoreError(
            f"store: cannot read {path} ({error}). Check who may use it, or choose another --store."
        ) from None
    except sqlite3.DatabaseError as error:
        if ours:
            return _Look(problem=str(error))
        raise StoreError(
            f"store: {path} is a SQLite file that cannot be read ({error}). It is left as it is; choose another --store."
        ) from None


def _has_log(path: Path) -> bool:
    """Whether write-ahead logging is under way: what was written last may not be in the file itself yet."""
    try:
        return os.path.getsize(f"{path}-wal") > 0
    except OSError:
        return False


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
