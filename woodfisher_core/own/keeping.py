"""Keeping what was brought: whole or not at all, by a name of its contents, within a bound on all of it together."""

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from woodfisher_core.data import own
from woodfisher_core.data.brought import KINDS, own_file, own_folder, used
from woodfisher_core.errors import InputError
from woodfisher_core.own.limits import KEPT_BYTES, LABEL_LENGTH

# What a writing that was cut short leaves behind is cleared after an hour.
PART, PART_SECONDS = ".part", 3600.0


@dataclass(frozen=True)
class Brought:
    """What was kept: its ``kind`` (data or weights), its name, the user's own for it, and what he should know of it."""

    kind: str
    name: str
    label: str
    nbytes: int
    models: tuple[str, ...]
    said: tuple[str, ...] = ()


def label_of(file_name: str) -> str:
    """A file's name as it is shown: its last part without suffix, letters, digits and plain marks only."""
    stem = re.split(r"[/\\]", file_name)[-1].rsplit(".", 1)[0]
    clean = re.sub(r"[^\w .()+-]|_{2,}", " ", stem)
    return " ".join(clean.split())[:LABEL_LENGTH].strip() or "mine"


def keep(kind: str, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[int, tuple[str, ...]]:
    """Writes the file of ``name`` unless it is there; (its bytes, names that had to leave to make room)."""
    path = own_file(kind, name)
    part = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}{PART}")
    try:
        if path.is_file():
            used(kind, name)
            return path.stat().st_size, ()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(part), metadata=metadata)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"{kind}: cannot be kept in {path.parent} ({why}). Make room there, or start the app with XDG_CACHE_HOME naming "
            "another folder."
        ) from None
    return path.stat().st_size, _make_room(path)


def _make_room(new: Path) -> tuple[str, ...]:
    """Removes what was not used for longest until all fits; never ``new``."""
    gone = []
    files = sorted(_files(), key=lambda found: found[1].st_mtime)
    left = sum(stat.st_size for _, stat in files)
    for path, stat in files:
        old_part = path.suffix == PART and time.time() - stat.st_mtime > PART_SECONDS
        if not old_part and (left <= KEPT_BYTES or path == new or path.suffix == PART):
            continue
        with suppress(OSError):
            path.unlink()
            left -= stat.st_size
            if not old_part:
                gone.append(path.stem)
    return tuple(gone)


def _files() -> list[tuple[Path, os.stat_result]]:
    found = []
    for kind in KINDS:
        for path in own_folder(kind).glob("own-*"):
            with suppress(OSError):  # another process may remove it meanwhile
                found.append((path, path.stat()))
    return found


def total_bytes() -> int:
    """Bytes of everything that is kept."""
    return sum(stat.st_size for _, stat in _files())


def remove(kind: str, name: str) -> bool:
    """Deletes the file of ``name``, and what was read of it; whether there was one."""
    own.forget()
    try:
        own_file(kind, name).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{kind}: {name} cannot be removed: {error}.") from None
    return True
