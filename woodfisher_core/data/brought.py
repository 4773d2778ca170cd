"""Files that users brought, networks' weights and data sets: where they are kept, by names that come from their contents.

How they come in, and what is refused, is the business of :mod:`woodfisher_core.own`; here they are found again, in every
process. Two files of equal contents have one name, and no path ever comes from a user.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from woodfisher_core.data.base import cache_folder
from woodfisher_core.errors import InputError

DATA, WEIGHTS = "data", "weights"
KINDS = (DATA, WEIGHTS)
# The one entry of a file's metadata, JSON with its ``label`` in it.
DESCRIPTION = "description"
# Hex digits of the name: 48 bits, so two of a million data sets share one with a chance of 1 in 500.
DIGITS = 12
_NAME = re.compile(rf"own-[0-9a-f]{{{DIGITS}}}")


def is_own(name: object) -> bool:
    """Whether ``name`` is of the form that what users brought is called by."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def own_name(digest: str) -> str:
    """The name of what has this hex sha256."""
    return f"own-{digest[:DIGITS]}"


def own_folder(kind: str) -> Path:
    """Where files of ``kind`` (``data`` or ``weights``) are kept."""
    return cache_folder() / "own" / kind


def own_file(kind: str, name: str) -> Path:
    """The file of ``name``, whether it is there or not.

    Raises:
        InputError: ``name`` is none that this package gives.
    """
    if not is_own(name):
        raise InputError(f"{kind}: expected a name such as own-0123456789ab, got {name!r}.")
    return own_folder(kind) / f"{name}.safetensors"


def is_here(kind: str, name: str) -> bool:
    """Whether the file of ``name`` is on this machine."""
    return is_own(name) and own_file(kind, name).is_file()


def stamp_of(kind: str, name: str) -> tuple[int, int]:
    """What changes when the file of ``name`` is replaced.

    Raises:
        InputError: It is not on this machine.
    """
    try:
        found = own_file(kind, name).stat()
    except OSError:
        raise missing(kind, name) from None
    return found.st_ino, found.st_size


def metadata(kind: str, name: str) -> dict[str, str]:
    """What is written in the file of ``name`` beside its tensors.

    Raises:
        InputError: It is not on this machine, or damaged.
    """
    stamp_of(kind, name)
    try:
        with safe_open(str(own_file(kind, name)), "pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(kind, name, str(error)) from None


def title_of(kind: str, name: str) -> str:
    """What its user calls ``name``, where it is one of theirs and here; else ``name`` itself."""
    try:
        return str(json.loads(metadata(kind, name)[DESCRIPTION])["label"])
    except (InputError, KeyError, TypeError, ValueError):
        return name


def used(kind: str, name: str) -> None:
    """Notes that ``name`` is in use now: what was not for longest leaves first where room is needed."""
    with suppress(OSError):
        os.utime(own_file(kind, name))


def missing(kind: str, name: str) -> InputError:
    """The error of a link that names something which is not on this machine."""
    what = "the data set is" if kind == DATA else "the weights are"
    return InputError(
        f"{kind}: {what} not on this machine: expected {name} in {own_folder(kind)}, found nothing. What a user brings stays "
        "where it was brought, and can be removed. Bring the file on the page Your model, or with: "
        "python -m woodfisher_core data import FILE"
    )


def damaged(kind: str, name: str, why: str) -> InputError:
    """The error of a kept file that is not what it was."""
    return InputError(f"{kind}: {own_file(kind, name)} is damaged ({why}). Remove it and bring the file again.")
