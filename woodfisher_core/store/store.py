"""The run store: what was computed once is found again, by everyone who opens the same database."""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from woodfisher_core.errors import InputError
from woodfisher_core.store import artefacts as files
from woodfisher_core.store import engine as engines
from woodfisher_core.store.naming import schedule_words
from woodfisher_core.store.places import artefacts_folder, shown
from woodfisher_core.store.records import GRADUAL, Metric, RunRecord, Status
from woodfisher_core.store.schema import OF_A_RUN, artefacts, configs, environments, layers, metrics, runs, timings
from woodfisher_core.store.versions import prepare

HEADLINE = ("sparsity", "accuracy", "dense_accuracy", "loss")
ABOUT = ("model", "dataset", "method")
# Parameters a statement: below every SQLite's limit.
CHUNK = 500
# Built once: building them takes longer than running them.
_KNOWN = sa.select(runs.c.id, runs.c.status, runs.c.deleted, runs.c.label).where(runs.c.key == sa.bindparam("wanted"))
_PUT_ONCE = {
    dialect: {table: insert(table).on_conflict_do_nothing() for table in (configs, environments)}
    for dialect, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}


class Store:
    """Runs in a database; safe to share between threads, and the database between processes.

    ``place`` is a SQLite file, created on first use, or a URL (``postgresql://…``); see :func:`parse_url` for the default.

    Raises:
        InputError: The place cannot be understood.
        StoreError: The file is damaged, foreign or of a newer version; or the database cannot be reached.
    """

    def __init__(self, place: str | Path | None = None):
        self.url = engines.parse_url(place)
        self._engine = engines.connect(self.url)
        try:
            with engines.in_words(self.url):
                prepare(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    @property
    def place(self) -> str:
        """Where it is, as :class:`Store` takes it (with its password, if it has one)."""
        if self.url.get_backend_name() == "sqlite":
            return self.url.database
        return self.url.render_as_string(hide_password=False)

    @property
    def folder(self) -> Path:
        """Where the files of its runs lie; see :mod:`woodfisher_core.store.artefacts`."""
        return artefacts_folder(self.url)

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database."""
        with (
            engines.in_words(self.url),
            self._engine.connect().execution_options(**engines.reading(self._engine)) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: whole or not at all, and alone: others who write wait for it to end."""
        with (
            engines.in_words(self.url),
            self._engine.connect().execution_options(**engines.WRITING) as connection,
            connection.begin(),
        ):
            yield connection

    def save(self, record: RunRecord) -> int:
        """Keeps a run and returns its number. What is done already stays as it is (and comes back if it was deleted)."""
        with self.writing() as connection:
            return insert_run(connection, record)

    def find(self, key: str) -> int | None:
        """The number of the finished run of the config with this key; None where there is none."""
        chosen = sa.select(runs.c.id).where(
            runs.c.key == key, runs.c.status == Status.DONE.value, runs.c.deleted.is_(None)
        )
        with self.reading() as connection:
            return connection.execute(chosen).scalar()

    def keys(self, wanted: Sequence[str]) -> dict[str, int]:
        """Number by key of those of ``wanted`` that are finished."""
        found = {}
        with self.reading() as connection:
            for some in _chunks(wanted):
                chosen = sa.select(runs.c.key, runs.c.id).where(
                    runs.c.key.in_(some), runs.c.status == Status.DONE.value, runs.c.deleted.is_(None)
                )
                found |= {key: number for key, number in connection.execute(chosen)}
        return found

    def get(self, number: int) -> RunRecord:
        """Everything about one run."""
        joined = runs.join(configs).outerjoin(environments, runs.c.environment == environments.c.key)
        with self.reading() as connection:
            row = (
                connection.execute(
                    sa.select(runs, configs.c.kind, configs.c.config, environments.c.environment.label("machine"))
                    .select_from(joined)
                    .where(runs.c.id == number)
                )
                .mappings()
                .first()
            )
            if row is None:
                raise InputError(f"run: expected the number of one in {shown(self.url)}, got {number}. See: runs list.")
            own = {
                table.name: connection.execute(
                    sa.select(table).where(table.c.run == number).order_by(*table.primary_key.columns)
                )
                .mappings()
                .all()
                for table in OF_A_RUN
            }
        return _record(row, own)

    def runs(self, *, deleted: bool = False, configurations: bool = True) -> pd.DataFrame:
        """One row a run, the newest first: its own columns and, with ``configurations``, every field of its config.

        ``id``, ``key``, ``kind``, ``status``, ``error``, ``origin``, ``label``, ``created`` (UTC), ``seconds``, ``model``,
        ``dataset``, ``method``, ``sparsity`` reached, ``accuracy``, ``dense_accuracy``, ``loss``, ``schedule`` in words (see
        :func:`schedule_words`); a field of the config with
        the same name as one of these is left out, but for its sparsity, ``asked_sparsity``. What gradual runs and others both
        have, both have under one name (:func:`settings`). ``deleted`` lists the deleted ones.
        """
        state = runs.c.deleted.is_not(None) if deleted else runs.c.deleted.is_(None)
        columns = [
            *(runs.c.id, runs.c.key, configs.c.kind, runs.c.status, runs.c.error, runs.c.origin, runs.c.label),
            *(runs.c.created, runs.c.seconds, *(runs.c[name] for name in (*ABOUT, *HEADLINE))),
        ]
        text = sa.cast(configs.c.config, sa.Text)
        # Of others than gradual runs the whole config is read where it is asked for alone: that takes long.
        plan = (configs.c.config["stages"], sa.case((configs.c.kind == GRADUAL, text)))
        chosen = sa.select(*columns, *plan, *([text] if configurations else []))
        query = chosen.select_from(runs.join(configs)).where(state).order_by(runs.c.id.desc())
        with self.reading() as connection:
            found = connection.execute(query).all()
        values = list(zip(*found, strict=True)) or [()] * (len(columns) + len(plan) + configurations)
        table = pd.DataFrame(
            {column.name: _series(column, own) for column, own in zip(columns, values, strict=False)},
            index=range(len(found)),
        )
        table["created"] = pd.to_datetime(table["created"], unit="s", utc=True)
        planned = zip(*values[len(columns) : len(columns) + len(plan)], strict=True)
        table["schedule"] = pd.Series([schedule_words(*own) for own in planned], dtype=object)
        if configurations:
            with engines.in_words(self.url):
                fields = _fields(values[-1])
            if "sparsity" in fields:
                fields["asked_sparsity"] = fields.pop("sparsity")
            others = {name: own for name, own in fields.items() if name not in table.columns}
            table = pd.concat([table, pd.DataFrame(others, index=table.index)], axis=1)
        return table

    def metrics(self, numbers: Sequence[int] | None = None) -> pd.DataFrame:
        """``run``, ``name``, ``step``, ``sparsity``, ``value`` of these runs (None: of all)."""
        return self._table(metrics, numbers)

    def layers(self, numbers: Sequence[int] | None = None) -> pd.DataFrame:
        """``run``, ``position``, ``layer``, ``shape``, ``kept``, ``total`` of these runs (None: of all)."""
        return self._table(layers, numbers)

    def timings(self, numbers: Sequence[int] | None = None) -> pd.DataFrame:
        """``run``, ``phase``, ``seconds`` of these runs (None: of all)."""
        return self._table(timings, numbers)

    def delete(self, numbers: Sequence[int]) -> None:
        """Takes runs off every list; :meth:`restore` brings them back until :meth:`purge`."""
        self._mark(numbers, time.time())

    def restore(self, numbers: Sequence[int]) -> None:
        """Undoes :meth:`delete`."""
        self._mark(numbers, None)

    def rename(self, number: int, label: str) -> None:
        """Gives a run the name its user wants to see."""
        with self.writing() as connection:
            connection.execute(runs.update().where(runs.c.id == number).values(label=_text(label)))

    def purge(self, grace: float = files.GRACE_SECONDS) -> int:
        """Removes deleted runs for good, and files that no run names any more; returns how many runs.

        A file younger than ``grace`` seconds stays until the next time: it may belong to a run that is about to be saved.
        """
        with self.writing() as connection:
            gone = connection.execute(runs.delete().where(runs.c.deleted.is_not(None))).rowcount
            for table, named in ((configs, runs.c.key), (environments, runs.c.environment)):
                used = sa.select(named).where(named.is_not(None))
                connection.execute(table.delete().where(table.c.key.not_in(used)))
            used = set(connection.execute(sa.select(artefacts.c.sha256)).scalars())
            files.sweep(self.folder, used, grace)
        return gone

    def _mark(self, numbers: Sequence[int], when: float | None) -> None:
        with self.writing() as connection:
            for some in _chunks(numbers):
                connection.execute(runs.update().where(runs.c.id.in_(some)).values(deleted=when))

    def _table(self, table: sa.Table, numbers: Sequence[int] | None) -> pd.DataFrame:
        order = list(table.primary_key.columns)
        queries = (
            [sa.select(table)]
            if numbers is None
            else [sa.select(table).where(table.c.run.in_(some)) for some in _chunks(numbers)]
        )
        with self.reading() as connection:
            rows = [row for query in queries for row in connection.execute(query.order_by(*order)).all()]
        values = list(zip(*rows, strict=True)) or [()] * len(table.columns)
        return pd.DataFrame({c.name: _series(c, own) for c, own in zip(table.columns, values, strict=True)})


def insert_run(connection: Connection, record: RunRecord, created: float | None = None) -> int:
    """Writes ``record`` within a transaction, as of ``created`` (seconds since 1970; now); returns its number.

    What is done already stays as it is; a failed run keeps its number, and its label where the new one has none.
    """
    known = connection.execute(_KNOWN, {"wanted": record.key}).first()
    if known is not None and known.status == Status.DONE.value:
        if known.deleted is not None:
            connection.execute(runs.update().where(runs.c.id == known.id).values(deleted=None))
        return known.id
    machine = json.dumps(dict(record.environment), sort_keys=True)
    environment = hashlib.sha256(machine.encode()).hexdigest()
    _put_once(connection, configs, key=record.key, kind=record.kind, config=dict(record.config))
    _put_once(connection, environments, key=environment, environment=dict(record.environment))
    values = {
        "key": record.key,
        "status": record.status.value,
        "error": None if record.error is None else _text(record.error),
        "origin": _text(record.origin),
        "label": _text(record.label) or (known.label if known else ""),
        "created": time.time() if created is None else created,
        "seconds": _number(math.fsum(record.seconds.values())),
        "environment": environment,
        "deleted": None,
        **{name: _text(record.about[name]) for name in ABOUT},
        **{name: _number(record.headline.get(name)) for name in HEADLINE},
    }
    if known is None:
        number = connection.execute(runs.insert(), values).inserted_primary_key[0]
    else:
        number = known.id
        connection.execute(runs.update().where(runs.c.id == number).values(**values))
        for table in OF_A_RUN:
            connection.execute(table.delete().where(table.c.run == number))
    for table, rows in (
        (metrics, [_metric(metric) for metric in record.metrics]),
        (layers, [_layer(i, row) for i, row in enumerate(record.layers)]),
        (timings, [{"phase": _text(phase), "seconds": float(took)} for phase, took in record.seconds.items()]),
        (artefacts, [{"name": n, "sha256": f["sha256"], "bytes": f["bytes"]} for n, f in record.artefacts.items()]),
    ):
        if rows:
            connection.execute(table.insert(), [{"run": number, **row} for row in rows])
    return number


def flat(config: Mapping[str, object]) -> dict[str, object]:
    """A config's fields in one level, groups joined by dots."""
    found = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": item for inner, item in flat(value).items()}
        else:
            found[name] = value
    return found


def settings(config: Mapping[str, object]) -> dict[str, object]:
    """As :func:`flat`, but a gradual run's ``prune`` group goes by the bare names that its fields have in other runs."""
    group = config.get("prune")
    if isinstance(group, Mapping):
        config = {**group, **{name: value for name, value in config.items() if name != "prune"}}
    return flat(config)


def _put_once(connection: Connection, table: sa.Table, **values: object) -> None:
    """Inserts a row whose key says all about it, unless it is there."""
    connection.execute(_PUT_ONCE[connection.dialect.name][table], values)


def _text(value: str) -> str:
    """``value`` as every database takes it: errors may quote names that are no text."""
    return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _layer(position: int, row: Mapping[str, object]) -> dict[str, object]:
    names, counts = ("layer", "shape"), ("kept", "total")
    texts = {name: _text(row[name]) for name in names}
    return {"position": position, **texts, **{name: int(row[name]) for name in counts}}


def _series(column: sa.Column, values: Sequence) -> pd.Series:
    """A column of a table as one of a frame: numbers are numbers where all are missing, or there are none."""
    kinds = ((sa.Float, "float64"), (sa.Integer, "int64"))
    return pd.Series(list(values), dtype=next((kind for own, kind in kinds if isinstance(column.type, own)), None))


def _fields(texts: Sequence[str]) -> dict[str, Sequence]:
    """Every field of these configs, by name, in the order of the configs; None where one lacks it."""
    found = json.loads(f"[{','.join(texts)}]")  # one reading shares the names
    if any(dict in set(map(type, config.values())) for config in found):
        found = [settings(config) for config in found]
    shapes = dict.fromkeys(map(tuple, found))
    if len(shapes) == 1:  # as a rule: all of one kind and version
        return dict(zip(next(iter(shapes)), zip(*map(dict.values, found), strict=True), strict=True))
    names = dict.fromkeys(chain.from_iterable(shapes))
    return {name: [config.get(name) for config in found] for name in names}


def _metric(metric: Metric) -> dict[str, object]:
    return {
        "name": _text(metric.name),
        "step": int(metric.step),
        "sparsity": _number(metric.sparsity),
        "value": _number(metric.value),
    }


def _number(value: float | None) -> float | None:
    """``value`` for a column; what is no number becomes NULL, as SQLite does by itself."""
    return None if value is None or math.isnan(value) else float(value)


def _record(row: RowMapping, own: Mapping[str, Sequence[RowMapping]]) -> RunRecord:
    without = lambda rows, *names: tuple({k: v for k, v in r.items() if k not in names} for r in rows)  # noqa: E731
    nan = lambda value: math.nan if value is None else value  # noqa: E731
    return RunRecord(
        kind=row["kind"],
        key=row["key"],
        config=row["config"],
        about={name: row[name] for name in ABOUT},
        status=Status(row["status"]),
        error=row["error"],
        headline={name: row[name] for name in HEADLINE},
        metrics=tuple(Metric(r["name"], nan(r["value"]), nan(r["sparsity"]), r["step"]) for r in own["metrics"]),
        layers=without(sorted(own["layers"], key=lambda r: r["position"]), "run", "position"),
        seconds={r["phase"]: r["seconds"] for r in own["timings"]},
        artefacts={r["name"]: {"sha256": r["sha256"], "bytes": r["bytes"]} for r in own["artefacts"]},
        environment=row["machine"] or {},
        origin=row["origin"],
        label=row["label"],
    )


def _chunks(values: Sequence) -> Iterator[Sequence]:
    values = list(values)
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
