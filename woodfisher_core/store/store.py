"""The run store: what was computed once is found again, by everyone who opens the same database."""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from woodfisher_core.errors import InputError
from woodfisher_core.store import engine as engines
from woodfisher_core.store.records import Metric, RunRecord, Status
from woodfisher_core.store.schema import OF_A_RUN, artefacts, configs, environments, layers, metrics, runs, timings
from woodfisher_core.store.versions import prepare

HEADLINE = ("sparsity", "accuracy", "dense_accuracy", "loss")
ABOUT = ("model", "dataset", "method")
# Parameters a statement: below every SQLite's limit.
CHUNK = 500


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
        with engines.in_words(self.url):
            prepare(self._engine)

    @property
    def place(self) -> str:
        """Where it is, as :class:`Store` takes it (with its password, if it has one)."""
        if self.url.get_backend_name() == "sqlite":
            return self.url.database
        return self.url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database."""
        with engines.in_words(self.url), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: whole or not at all."""
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
                found |= dict(connection.execute(chosen).tuples().all())
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
                raise InputError(
                    f"run: expected the number of one in {self.url.database}, got {number}. See: runs list."
                )
            own = {
                table.name: connection.execute(sa.select(table).where(table.c.run == number)).mappings().all()
                for table in OF_A_RUN
            }
        return _record(row, own)

    def runs(self, *, deleted: bool = False, configurations: bool = True) -> pd.DataFrame:
        """One row a run, the newest first: its own columns and, with ``configurations``, every field of its config.

        ``id``, ``key``, ``kind``, ``status``, ``error``, ``origin``, ``label``, ``created`` (UTC), ``seconds``, ``model``,
        ``dataset``, ``method``, ``sparsity``, ``accuracy``, ``dense_accuracy``, ``loss``; a field of the config with the same name as one of
        these is left out. ``deleted`` lists the deleted runs instead.
        """
        state = runs.c.deleted.is_not(None) if deleted else runs.c.deleted.is_(None)
        columns = [
            *(runs.c.id, runs.c.key, configs.c.kind, runs.c.status, runs.c.error, runs.c.origin, runs.c.label),
            *(runs.c.created, runs.c.seconds, *(runs.c[name] for name in (*ABOUT, *HEADLINE))),
        ]
        chosen = sa.select(*columns, configs.c.config) if configurations else sa.select(*columns)
        query = chosen.select_from(runs.join(configs)).where(state).order_by(runs.c.id.desc())
        with self.reading() as connection:
            found = connection.execute(query).all()
        names = [column.name for column in columns]
        table = pd.DataFrame([row[: len(names)] for row in found], columns=names)
        table["created"] = pd.to_datetime(table["created"], unit="s", utc=True)
        if configurations:
            fields = pd.DataFrame([flat(row[-1]) for row in found], index=table.index)
            table = pd.concat([table, fields.drop(columns=fields.columns.intersection(names))], axis=1)
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
            connection.execute(runs.update().where(runs.c.id == number).values(label=label))

    def purge(self) -> int:
        """Removes deleted runs for good; returns how many. Configs stay where anything still names them."""
        with self.writing() as connection:
            gone = connection.execute(runs.delete().where(runs.c.deleted.is_not(None))).rowcount
            connection.execute(configs.delete().where(configs.c.key.not_in(sa.select(runs.c.key))))
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
        return pd.DataFrame(rows, columns=[column.name for column in table.columns])


def insert_run(connection: Connection, record: RunRecord) -> int:
    """Writes ``record`` within a transaction; returns its number."""
    known = connection.execute(
        sa.select(runs.c.id, runs.c.status, runs.c.deleted).where(runs.c.key == record.key).with_for_update()
    ).first()
    if known is not None and known.status == Status.DONE.value:
        if known.deleted is not None:
            connection.execute(runs.update().where(runs.c.id == known.id).values(deleted=None))
        return known.id
    if known is not None:
        connection.execute(runs.delete().where(runs.c.id == known.id))
    machine = json.dumps(dict(record.environment), sort_keys=True)
    environment = hashlib.sha256(machine.encode()).hexdigest()
    _put_once(connection, configs, key=record.key, kind=record.kind, config=dict(record.config))
    _put_once(connection, environments, key=environment, environment=dict(record.environment))
    number = connection.execute(
        runs.insert().values(
            key=record.key,
            status=record.status.value,
            error=record.error,
            origin=record.origin,
            label=record.label,
            created=time.time(),
            seconds=sum(record.seconds.values()),
            environment=environment,
            **{name: record.about[name] for name in ABOUT},
            **{name: _number(record.headline.get(name)) for name in HEADLINE},
        )
    ).inserted_primary_key[0]
    for table, rows in (
        (metrics, [_metric(metric) for metric in record.metrics]),
        (layers, [{"position": i, **dict(row)} for i, row in enumerate(record.layers)]),
        (timings, [{"phase": phase, "seconds": seconds} for phase, seconds in record.seconds.items()]),
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


def _put_once(connection: Connection, table: sa.Table, **values: object) -> None:
    """Inserts a row whose key says all about it, unless it is there."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    connection.execute(insert(table).values(**values).on_conflict_do_nothing())


def _metric(metric: Metric) -> dict[str, object]:
    return {
        "name": metric.name,
        "step": metric.step,
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
