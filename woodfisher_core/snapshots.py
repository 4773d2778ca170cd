"""One file from which an interrupted run continues: tensors and JSON in safetensors, written whole or not at all.

Nothing in it is ever executed. A checksum over everything tells a damaged file; the settings inside tell another run's.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from woodfisher_core.checkpoints import state_hash
from woodfisher_core.errors import InputError

# What the format is called inside the file; a later one that this code cannot read gets another number.
FORMAT = "woodfisher snapshot 1"


def write_snapshot(path: str | Path, tensors: Mapping[str, Tensor], run: Mapping[str, object]) -> None:
    """Replaces ``path`` in one step by ``tensors`` and ``run`` (plain JSON values).

    A crash at any moment leaves the old file or the new one. The new one grows beside it as ``<name>.part``, which a crash
    leaves behind and the next writing takes over.

    Raises:
        InputError: The place cannot be written to.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    # Copies: safetensors refuses tied weights, which share their memory.
    held = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(run)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(held, str(part), metadata={"format": FORMAT, "run": text, "sha256": _checksum(held, text)})
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        if os.name == "posix":  # the new name itself must reach the disk too
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise InputError(f"snapshot: cannot write {path} ({error}). Choose another place.") from None


def read_snapshot(path: str | Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """What :func:`write_snapshot` wrote, tensors on the CPU.

    Raises:
        InputError: The file is damaged or no snapshot.
    """
    path = Path(path)
    again = "Remove the file to start afresh, or give another place."
    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
            # Clones: what safetensors gives may be the mapped file itself.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise InputError(f"snapshot: {path} is truncated or no snapshot ({error}). {again}") from None
    if about.get("format") != FORMAT:
        raise InputError(
            f"snapshot: {path} is no snapshot of a run, or of another version; expected format '{FORMAT}', got "
            f"{about.get('format')!r}. {again}"
        )
    text = about.get("run", "")
    if about.get("sha256") != _checksum(tensors, text):
        raise InputError(f"snapshot: {path} is damaged: its bytes are not those that were written. {again}")
    return tensors, json.loads(text)


def plain(settings: Mapping[str, object]) -> dict[str, object]:
    """``settings`` as a file gives them back: tuples as lists, enums as their values."""
    return json.loads(json.dumps(settings))


def check_same(path: str | Path, here: Mapping[str, object], there: Mapping[str, object]) -> None:
    """Raises an InputError that names every setting of a snapshot (``there``) that differs from this run's (``here``)."""
    differ = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if differ:
        shown = ", ".join(f"{name} {_shown(there.get(name))} (here {_shown(here.get(name))})" for name in differ)
        raise InputError(
            f"snapshot: {path} was made by another run: {shown}. Use its settings to continue it, give another place, or "
            "remove the file to start afresh."
        )


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    return hashlib.sha256(f"{state_hash(tensors)}|{text}".encode()).hexdigest()


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}…"
