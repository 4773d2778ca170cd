"""Runs as files for others, and others' files as runs: a folder or a .zip of tables, and the runs' files where wanted.

``manifest.json`` says what it is; ``runs``, ``metrics``, ``layers``, ``timings`` and ``artefacts`` (``.csv`` or ``.parquet``) are
joined by ``run``. What comes back is what went out, to the last bit. A stranger's file can only ever become rows: nothing in
it runs, everything is bounded, and every config must be the one its key names.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from woodfisher_core.errors import InputError
from woodfisher_core.store import artefacts as files
from woodfisher_core.store import bundle as bundles
from woodfisher_core.store.columns import MOST_BYTES, TABLES, Form, decode, encode
from woodfisher_core.store.incoming import Incoming, assemble
from woodfisher_core.store.records import Status
from woodfisher_core.store.schema import configs, environments, runs
from woodfisher_core.store.schema import metadata as schema
from woodfisher_core.store.store import Store, insert_run

FORMAT, FORMAT_VERSION = "woodfisher-runs", 1
MANIFEST = "manifest.json"
_MANIFEST_BYTES = 1 << 20
_PIECE = 1 << 20
_KNOWN = sa.select(runs.c.status, runs.c.deleted).where(runs.c.key == sa.bindparam("wanted"))


class Imported(NamedTuple):
    """How many runs an import brought, and how many of its runs were there already."""

    new: int
    known: int


def export_runs(
    store: Store,
    path: str | Path,
    numbers: Sequence[int] | None = None,
    artefacts: bool = False,
    *,
    format: str = Form.CSV,
) -> int:
    """Writes runs (None: all that are not deleted) to ``path``, a .zip by its ending, else a folder; returns how many.

    ``format`` is ``csv`` or ``parquet``; ``artefacts`` takes the runs' files along.

    Raises:
        InputError: A number is not known, or something is at ``path`` already; StoreError: it cannot be written.
    """
    form, path = Form.parse(format, "format"), Path(path)
    with bundles.written(path) as add:
        with store.reading() as connection:
            known = set(connection.execute(sa.select(runs.c.id).where(runs.c.deleted.is_(None))).scalars())
            wanted = known if numbers is None else {int(number) for number in numbers}
            if unknown := sorted(wanted - known):
                raise InputError(
                    f"export: expected numbers of runs, got {', '.join(map(str, unknown[:5]))}. See: runs list."
                )
            tables = {name: _rows(connection, name, wanted) for name in TABLES}
        kept = tables["artefacts"] if artefacts else []
        tables["artefacts"] = kept
        for name, rows in tables.items():
            add(f"{name}.{form}", encode(name, rows, form))
        for sha256 in sorted({row[2] for row in kept}):
            files.verify(store.folder, sha256)
            add(_name_of(sha256), files.path_of(store.folder, sha256))
        about = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "tables": str(form),
            "program": version("woodfisher-explorer"),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "rows": {name: len(rows) for name, rows in tables.items()},
        }
        add(MANIFEST, (json.dumps(about, indent=2) + "\n").encode())
    return len(wanted)


def import_runs(store: Store, path: str | Path) -> Imported:
    """Brings the runs of an export into ``store``, all or none; a run whose key is there already is skipped.

    Where the store has only a failed or a deleted run of the key, a finished one takes its place, or it comes back. The files
    of runs that are here already stay where they are: nothing of a stranger's is added to one's own run.

    Raises:
        InputError: Anything about the file is not as an export is, in a sentence; StoreError: the store cannot be written.
    """
    with bundles.opened(Path(path)) as bundle:
        form = _manifest(bundle)
        named = {MANIFEST, *(f"{table}.{form}" for table in TABLES)}
        tables = {}
        for table in TABLES:
            name = f"{table}.{form}"
            tables[table] = decode(table, name, bundle.read(name, MOST_BYTES), form)
        incoming = assemble(tables, lambda table: f"{table}.{form}")
        wanted = {_name_of(row[2]): row for row in tables["artefacts"]}
        if strange := sorted(set(bundle.sizes) - named - set(wanted) - _folders(bundle.sizes)):
            raise InputError(
                f"import: {bundle.title} holds {strange[0]!r:.120}, which no export does. Nothing was imported."
            )
        for name, (_, _, sha256, size) in wanted.items():
            with bundle.open(name) as stream:
                _check(name, stream, sha256, size)
        with store.reading() as connection:
            with_files = [one for one in incoming if one.record.artefacts and _is_written(one, _found(connection, one))]
        for sha256 in sorted({file["sha256"] for one in with_files for file in one.record.artefacts.values()}):
            with bundle.open(_name_of(sha256)) as stream:
                files.put_stream(store.folder, stream)
    with store.writing() as connection:
        return _insert(connection, incoming, {one.record.key for one in with_files})


def _insert(connection: Connection, incoming: Iterable[Incoming], with_files: Collection[str]) -> Imported:
    new = known = 0
    for one in incoming:
        found = _found(connection, one)
        if _is_written(one, found) or found.deleted is not None:
            record = one.record
            # It was here when files were copied, and has gone since.
            if record.artefacts and record.key not in with_files:
                record = replace(record, artefacts={})
            insert_run(connection, record, one.created)
            new += 1
        else:
            known += 1
    return Imported(new, known)


def _found(connection: Connection, one: Incoming) -> sa.Row | None:
    return connection.execute(_KNOWN, {"wanted": one.record.key}).first()


def _is_written(one: Incoming, found: sa.Row | None) -> bool:
    """Whether ``one`` becomes a run, where the store has ``found`` of its key; a deleted one that is done only comes back."""
    if found is None:
        return True
    return found.status == Status.FAILED.value and (found.deleted is not None or one.record.status is Status.DONE)


def _rows(connection: Connection, name: str, wanted: set[int]) -> list[tuple]:
    """The rows of a table of the export, in the order of its primary key."""
    if name == "runs":
        source = runs.join(configs).outerjoin(environments, runs.c.environment == environments.c.key)
        own = {"run": runs.c.id, "kind": configs.c.kind, "config": sa.cast(configs.c.config, sa.Text)}
        own["environment"] = sa.func.coalesce(sa.cast(environments.c.environment, sa.Text), "{}")
        columns = [own.get(column.name, runs.c.get(column.name)) for column in TABLES[name]]
        query = sa.select(*columns).select_from(source).order_by(runs.c.id)
    else:
        table = schema.tables[name]
        query = sa.select(*(table.c[column.name] for column in TABLES[name])).order_by(*table.primary_key.columns)
    return [tuple(row) for row in connection.execute(query) if row[0] in wanted]


def _manifest(bundle: bundles.Bundle) -> Form:
    content = bundle.read(MANIFEST, _MANIFEST_BYTES)
    try:
        about = json.loads(content)
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("version"), int):
        raise InputError(f"import: {MANIFEST} in {bundle.title} is not that of exported runs. Nothing was imported.")
    if about["version"] != FORMAT_VERSION:
        raise InputError(
            f"import: {bundle.title} has format {about['version']}, this program reads {FORMAT_VERSION}. Update the program."
        )
    return Form.parse(about.get("tables"), f"import: {MANIFEST}: tables")


def _name_of(sha256: str) -> str:
    return f"artefacts/{sha256[:2]}/{sha256}"


def _folders(names: Iterable[str]) -> set[str]:
    """The entries that other packers add for the folders themselves."""
    return {"artefacts/"} | {f"artefacts/{name.split('/')[1]}/" for name in names if name.count("/") == 2}


def _check(name: str, stream: BinaryIO, sha256: str, size: int) -> None:
    digest, seen = hashlib.sha256(), 0
    while seen <= size and (piece := stream.read(_PIECE)):
        digest.update(piece)
        seen += len(piece)
    if seen != size or digest.hexdigest() != sha256:
        raise InputError(
            f"import: {name} is not the file its name says. Copy or export it again. Nothing was imported."
        )
