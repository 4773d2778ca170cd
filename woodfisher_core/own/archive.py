"""A zip archive that nobody trusts: what it says of itself is checked before anything is unpacked; the disk is never touched."""

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from woodfisher_core.errors import InputError
from woodfisher_core.own.limits import (
    IMAGES,
    LARGEST_RATIO,
    OTHER_FILES,
    SMALL_BYTES,
    UNPACKED_BYTES,
    UPLOAD_BYTES,
    megabytes,
)

# One entry of a zip's directory begins so.
ENTRY = b"PK\x01\x02"
LONGEST_NAME = 240
# What operating systems put beside.
_JUNK = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._)")
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, KeyError)


class Archive:
    """The files in a zip that may be read, by name, in the order of their names."""

    def __init__(self, opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]):
        self._opened, self._members = opened, members

    @property
    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """All of one file, which is as long as the archive said."""
        info = self._members[name]
        try:
            with self._opened.open(info) as member:
                content = member.read(info.file_size + 1)
        except BROKEN as error:
            raise InputError(
                f"data: {shown(name)} in the archive is damaged ({_short(error)}). Zip it again."
            ) from None
        if len(content) != info.file_size:
            raise InputError(f"data: {shown(name)} is not as long as the archive says. Zip it again.")
        return content


@contextmanager
def opened_archive(raw: bytes) -> Iterator[Archive]:
    """The archive in ``raw``.

    Raises:
        InputError: It is damaged, too large, or made to harm; the words say which.
    """
    if len(raw) > UPLOAD_BYTES:
        raise InputError(f"data: expected a file of at most {megabytes(UPLOAD_BYTES)}, got {megabytes(len(raw))}.")
    # Before zipfile reads the directory: it makes an object of every entry.
    if raw.count(ENTRY) > IMAGES + OTHER_FILES:
        raise InputError(
            f"data: expected an archive of at most {IMAGES:,} files, this one lists more. Bring fewer images."
        )
    try:
        opened = zipfile.ZipFile(io.BytesIO(raw))
    except BROKEN as error:
        raise InputError(
            f"data: the file is truncated or no zip archive ({_short(error)}). Expected .npz or a .zip of images; copy it again."
        ) from None
    with opened:
        yield Archive(opened, _checked(opened.infolist()))


def _checked(entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in entries:
        name = info.orig_filename
        _check_name(name)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(
                f"data: {shown(name)} is a symbolic link, which could lead anywhere. Expected files only: zip the images "
                "themselves (zip follows links unless told --symlinks)."
            )
        if info.is_dir() or _JUNK.search(name):
            continue
        if name in members:
            raise InputError(f"data: {shown(name)} is in the archive twice. Expected each file once: zip it again.")
        if info.flag_bits & 1:
            raise InputError(f"data: {shown(name)} is encrypted. Expected an archive without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                f"data: {shown(name)} is packed in a way that is not read here. Expected plain zip (deflate)."
            )
        total += info.file_size
        ratio = info.file_size / max(1, info.compress_size)
        if total > UNPACKED_BYTES or (info.file_size > SMALL_BYTES and ratio > LARGEST_RATIO):
            raise InputError(
                f"data: unpacked, the archive would take {megabytes(total)} or more ({shown(name)} grows {ratio:,.0f}-fold); "
                f"expected at most {megabytes(UNPACKED_BYTES)}, and no file to grow more than {LARGEST_RATIO}-fold. It looks "
                "like a zip bomb, so nothing was unpacked."
            )
        members[name] = info
    return members


def _check_name(name: str) -> None:
    parts = name.split("/")
    outside = name.startswith(("/", "\\")) or ".." in parts or "\\" in name or (len(name) > 1 and name[1] == ":")
    if outside:
        raise InputError(
            f"data: {shown(name)} names a place outside of the archive. Expected names such as train/cat/1.png. Nothing was "
            "unpacked; zip the folder again."
        )
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InputError(f"data: {shown(name)} is no name of a file. Expected at most {LONGEST_NAME} plain characters.")


def shown(name: str) -> str:
    """A stranger's file name in an error: short, and nothing in it that a page would obey."""
    plain = "".join(letter if letter.isprintable() and letter not in "`*[]<>$\\" else "·" for letter in name)
    return f"“{plain[:60]}{'…' if len(plain) > 60 else ''}”"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
