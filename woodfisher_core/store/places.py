"""Where runs are kept: a place as users write it (a file, a folder, a URL) becomes a database's URL."""

import os
import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from woodfisher_core.errors import InputError

ENVIRONMENT_VARIABLE = "WOODFISHER_STORE"
ARTEFACTS_VARIABLE = "WOODFISHER_ARTEFACTS"
FILE_NAME = "runs.sqlite"
_EXPECTED = "a file's path or postgresql://user:password@host/database"
# A scheme has two letters at least: C:\runs and C://runs are files of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SECRETS = ("password", "sslpassword")


def data_folder() -> Path:
    """Where runs are kept: ``$XDG_DATA_HOME/woodfisher``, else ``~/.local/share/woodfisher`` (``%LOCALAPPDATA%`` on Windows)."""
    base = os.environ.get("XDG_DATA_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return Path(base) / "woodfisher" if base else Path.home() / ".local" / "share" / "woodfisher"


def parse_url(place: str | Path | None) -> URL:
    """The database of ``place``: a URL, a file, or None for $WOODFISHER_STORE, else ``runs.sqlite`` in :func:`data_folder`."""
    text = str(place or os.environ.get(ENVIRONMENT_VARIABLE) or data_folder() / FILE_NAME)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _of_file(text)
    # No more of it is repeated in errors: the rest may hold a password, wherever its user put it.
    shown = f"{scheme[1]}://…"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise InputError(f"store: cannot read the URL {shown} Expected {_EXPECTED}.") from None
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not url.database or url.query or url.host:
        raise InputError(f"store: expected {_EXPECTED}, got {shown}")
    return _of_file(url.database)


def artefacts_folder(url: URL) -> Path:
    """Where the files of the runs in ``url`` lie: beside a SQLite file; else $WOODFISHER_ARTEFACTS or :func:`data_folder`."""
    if url.get_backend_name() == "sqlite":
        return Path(f"{url.database}.artefacts")
    return Path(os.environ.get(ARTEFACTS_VARIABLE) or data_folder() / "artefacts")


def shown(url: URL) -> str:
    """``url`` for people: a SQLite file's path, or the URL without a password."""
    if url.get_backend_name() == "sqlite":
        return url.database
    secrets = {name: "***" for name in url.query if name.lower() in _SECRETS}
    return url.update_query_dict(secrets).render_as_string(hide_password=True)


def _of_file(text: str) -> URL:
    if text.startswith((":memory:", "file:")) or "\0" in text:
        raise InputError(f"store: expected {_EXPECTED}, got {text!r}. Runs are remembered in a file.")
    try:
        path = Path(text).expanduser().resolve()
        if path.is_dir():
            path = path / FILE_NAME
    except (OSError, RuntimeError) as error:  # no such user, too long a name, no permission, a loop of links
        raise InputError(f"store: cannot find {text!r} ({error}). Write another file's path.") from None
    return URL.create("sqlite", database=str(path))
