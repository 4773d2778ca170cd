"""Files of runs, named by what is in them: ``ab/abcdef…``, the sha256 of their bytes; equal files are kept once.

A file is there whole or not at all, and what is read is what was written, or an error.
"""

import hashlib
import io
import os
import re
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from woodfisher_core.errors import InputError, StoreError

_NAME = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20
_CHANGED = "store: the file {path} of a run is damaged: it is not what was written. Run it again to mend it."
# A file younger than this may belong to a run that is about to be saved.
GRACE_SECONDS = 600.0


def put(folder: Path, content: bytes | str | Path) -> dict[str, object]:
    """Keeps bytes or the file at a path; returns ``sha256`` and ``bytes``, as :class:`RunRecord` names an artefact.

    Raises:
        InputError: There is no such file to read; StoreError: it cannot be kept; nothing is left of it then.
    """
    if isinstance(content, bytes):
        return put_stream(folder, io.BytesIO(content))
    try:
        with open(content, "rb") as stream:
            return put_stream(folder, stream)
    except OSError as error:
        raise InputError(f"artefact: cannot read {content} ({error.strerror}). Check its path.") from None


def put_stream(folder: Path, stream: BinaryIO) -> dict[str, object]:
    """As :func:`put`, of all that ``stream`` still has."""
    part = folder / f"{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with part.open("xb") as file:
            while piece := _piece(stream):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        name = digest.hexdigest()
        path = path_of(folder, name)
        if _hash(path) == name:
            os.utime(path)  # so that whoever sweeps knows it is wanted
            return {"sha256": name, "bytes": size}
        path.parent.mkdir(exist_ok=True)
        os.replace(part, path)
        _settle(path.parent)
        _settle(folder)
        return {"sha256": name, "bytes": size}
    except OSError as error:
        raise StoreError(
            f"store: cannot keep a file in {folder} ({error.strerror}). Nothing of it is left. Make room or check who may write "
            "there."
        ) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def get(folder: Path, sha256: str) -> bytes:
    """The bytes of a kept file.

    Raises:
        StoreError: It is not there, or no longer what was written.
    """
    path = path_of(folder, sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"store: the file {path} of a run cannot be read ({error.strerror}).") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError(_CHANGED.format(path=path))
    return content


def verify(folder: Path, sha256: str) -> None:
    """As :func:`get`, of a file too large to hold: raises what that raises, and keeps nothing in memory."""
    path = path_of(folder, sha256)
    try:
        found = _hash(path)
    except OSError as error:
        raise StoreError(f"store: the file {path} of a run cannot be read ({error.strerror}).") from None
    if found is None:
        raise StoreError(f"store: the file {path} of a run is gone. Run it again to have it back.")
    if found != sha256:
        raise StoreError(_CHANGED.format(path=path))


def path_of(folder: Path, sha256: str) -> Path:
    """Where the file with this hash lies."""
    if not isinstance(sha256, str) or not _NAME.fullmatch(sha256):
        raise InputError(f"artefact: expected 64 hex digits, got {sha256!r}.")
    return folder / sha256[:2] / sha256


def sweep(folder: Path, named: Collection[str], grace: float = GRACE_SECONDS) -> int:
    """Removes files that are not ``named`` and older than ``grace`` seconds; returns how many. Nothing else is touched."""
    oldest, gone = time.time() - grace, 0
    for path in (*folder.glob("??/*"), *folder.glob("*.part")):
        ours = path.suffix == ".part" or (_NAME.fullmatch(path.name) and path.parent.name == path.name[:2])
        try:
            if ours and path.name not in named and path.stat().st_mtime <= oldest:
                path.unlink()
                gone += 1
        except OSError:
            continue  # another process was quicker, or it stays until next time
    return gone


def _piece(stream: BinaryIO) -> bytes:
    try:
        return stream.read(_PIECE)
    except OSError as error:
        raise InputError(f"artefact: cannot be read ({error}).") from None


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _settle(folder: Path) -> None:
    """Makes the names in ``folder`` outlast a power cut, where the system has a way to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
