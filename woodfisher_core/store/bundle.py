"""A folder or a .zip of a few named files, written whole or not at all; one of a stranger's is read with bounds on everything."""

import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from woodfisher_core.errors import InputError, StoreError

_SUFFIX = ".zip"
_MOST_FILES = 200_000
_PIECE = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


class Bundle:
    """What is in a folder or a .zip: ``sizes`` in bytes by name. Nothing is unpacked; names are only ever looked up here."""

    def __init__(self, title: str, sizes: dict[str, int], opener: Callable[[str], BinaryIO]):
        self.title, self.sizes, self._open = title, sizes, opener

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """The file ``name``; damage shows as an InputError."""
        if name not in self.sizes:
            raise InputError(f"import: {self.title} lacks {name}. Export it again.")
        try:
            with self._open(name) as stream:
                yield stream
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"import: {name} in {self.title} is damaged ({error}). Copy or export it again.") from None

    def read(self, name: str, limit: int) -> bytes:
        """All of ``name``, which may have ``limit`` bytes, whatever it says of itself."""
        with self.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise InputError(
                f"import: {name} in {self.title} has more than {limit:,} bytes. Export fewer runs at once."
            )
        return content


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """The folder or .zip at ``path``."""
    if path.is_dir():
        yield Bundle(path.name, _listed(path), lambda name: (path / name).open("rb"))
        return
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"import: expected a folder or a .zip at {path}, found nothing there.") from None
    except _BROKEN as error:
        raise InputError(f"import: {path.name} is no folder and no sound .zip file ({error}).") from None
    with archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if len(names) > _MOST_FILES or len(set(names)) != len(names):
            raise InputError(f"import: {path.name} has too many files, or one name twice. Export it again.")
        # What lies packed beside the tables could swell beyond every disk; our own exports do not pack it.
        packed = [i.filename for i in infos if "/" in i.filename and i.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise InputError(f"import: {packed[0]!r} in {path.name} is packed; expected it stored as it is.")
        yield Bundle(path.name, {info.filename: info.file_size for info in infos}, archive.open)


def _listed(folder: Path) -> dict[str, int]:
    found = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(here, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise InputError(
                    f"import: {path.relative_to(folder)} in {folder.name} is a link or no file. Remove it."
                )
        found |= {Path(here, f).relative_to(folder).as_posix(): Path(here, f).stat().st_size for f in files}
        if len(found) > _MOST_FILES:
            raise InputError(f"import: {folder.name} has more than {_MOST_FILES:,} files. Is it the right folder?")
    return found


@contextmanager
def written(path: Path) -> Iterator[Callable[[str, bytes | Path], None]]:
    """Gives ``add(name, content)``, content being bytes or a file; at the end all is at ``path``, a .zip or a folder.

    Raises:
        InputError: Something is there already; StoreError: it cannot be written, and nothing is left of it.
    """
    zipped = path.suffix.lower() == _SUFFIX
    if path.exists() and not (path.is_dir() and not zipped and not any(path.iterdir())):
        raise InputError(f"export: {path} is there already. Choose another name, or remove it.")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _zip(part) if zipped else _folder(part) as add:
            yield add
        if path.is_dir():
            path.rmdir()
        os.replace(part, path)
    except OSError as error:
        raise StoreError(
            f"export: cannot write {path} ({error.strerror or error}). Make room or choose another place."
        ) from None
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def _zip(part: Path) -> Iterator[Callable[[str, bytes | Path], None]]:
    with part.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

            def add(name: str, content: bytes | Path) -> None:
                if isinstance(content, bytes):
                    archive.writestr(name, content)
                else:
                    archive.write(content, name, zipfile.ZIP_STORED)

            yield add
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _folder(part: Path) -> Iterator[Callable[[str, bytes | Path], None]]:
    part.mkdir()

    def add(name: str, content: bytes | Path) -> None:
        target = part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, _PIECE)
            file.flush()
            os.fsync(file.fileno())

    yield add
