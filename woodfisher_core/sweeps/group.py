"""The work on some points of a sweep, in whatever process: each is kept, run and part at once, before the next is begun."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.remember import begin, end, failed_record, is_expected, record_of
from woodfisher_core.jobs.job import JobStatus, Part
from woodfisher_core.jobs.queue import add_part, owns
from woodfisher_core.jobs.task import TELL_SECONDS, Cancelled
from woodfisher_core.planning import Storage
from woodfisher_core.store import RunRecord, Status, Store
from woodfisher_core.store.claims import heartbeat
from woodfisher_core.store.owners import is_alive
from woodfisher_core.store.schema import jobs, parts, runs
from woodfisher_core.store.store import CHUNK, insert_run
from woodfisher_core.sweeps.order import Item

# How long to wait where all that is left is being computed by someone else.
PAUSE_SECONDS = 0.1
# Of a run, what a table or a chart of a sweep shows.
SHOWN = ("sparsity", "accuracy", "dense_accuracy", "loss", "seconds")


@dataclass(frozen=True)
class Order:
    """Whose points these are, and what a process elsewhere may take: all that travels there beside the points."""

    place: str
    job: int
    owner: str
    origin: str
    cache_bytes: int
    memory_budget: int | None
    storage: Storage | None
    scratch: str | Path | None


class Site:
    """Where a group is computed. In the process that runs the job it shares its workspace; pickled, it becomes the other's own.

    ``check`` raises :class:`Cancelled` between points, ``kept`` is told each finished part.
    """

    def __init__(
        self,
        order: Order,
        store: Store,
        workspace: Workspace,
        check: Callable[[], None],
        progress: Progress,
        kept: Callable[[Part], None] = lambda part: None,
    ):
        self.order, self.store, self.workspace = order, store, workspace
        self.check, self.progress, self.kept = check, progress, kept

    def __reduce__(self) -> tuple:
        return _site_here, (self.order,)


def _site_here(order: Order) -> Site:
    """The site of a process that works for another's job."""
    store = _store(order.place)
    looked = time.monotonic()

    def check() -> None:
        nonlocal looked
        looked = time.monotonic()
        if not _wanted(store, order):
            raise Cancelled

    def progress(phase: str, done: int, total: int) -> None:
        if time.monotonic() - looked >= TELL_SECONDS:
            check()

    space = _workspace(order.cache_bytes, order.memory_budget, order.storage, order.scratch)
    return Site(order, store, space, check, progress)


@lru_cache(maxsize=1)
def _store(place: str) -> Store:
    return Store(place)


@lru_cache(maxsize=1)
def _workspace(
    cache_bytes: int, memory_budget: int | None, storage: Storage | None, scratch: str | Path | None
) -> Workspace:
    return Workspace(cache_bytes, memory_budget, storage, scratch)


def _wanted(store: Store, order: Order) -> bool:
    """Whether the job is still run by the living process that sent us."""
    chosen = sa.select(jobs.c.status, jobs.c.owner, jobs.c.cancel, jobs.c.heartbeat).where(jobs.c.id == order.job)
    with store.reading() as connection:
        row = connection.execute(chosen).first()
    return (
        row is not None
        and (row.status, row.owner, row.cancel) == (JobStatus.RUNNING.value, order.owner, False)
        and is_alive(row.owner, row.heartbeat)
    )


def run_group(site: Site, items: Sequence[Item]) -> None:
    """Computes ``items`` in their order; those that another process is at come last, and are taken from it when it is done."""
    left, idle = deque(items), 0
    with heartbeat(site.store):
        while left:
            site.check()
            item = left.popleft()
            part = _computed(site, item)
            if part is not None:
                idle = 0
                site.kept(part)
                continue
            left.append(item)
            idle += 1
            if idle >= len(left):
                idle = 0
                time.sleep(PAUSE_SECONDS)


def _computed(site: Site, item: Item) -> Part | None:
    """The point's part, written; None where someone else computes it at this moment."""
    key = item.config.key
    if not begin(site.store, key):
        return None
    try:
        known = known_runs(site.store, [key]).get(key)
        if known is not None:
            return _write(site, part_of(item.position, item.changes, known), None)
        started = time.perf_counter()
        try:
            record = record_of(site.workspace.report(item.config, site.progress), origin=site.order.origin)
        except Exception as error:
            if not is_expected(error):
                raise
            seconds = time.perf_counter() - started
            record = failed_record(item.config, error, seconds=seconds, origin=site.order.origin)
        return _write(site, _fresh_part(item, record), record)
    finally:
        end(site.store, key)


def _write(site: Site, part: Part, record: RunRecord | None) -> Part:
    """Run and part in one transaction; a part that is there stays. The run is kept even where the job is another's by now."""
    order = site.order
    with site.store.writing() as connection:
        ours = owns(connection, order.job, order.owner)
        number = part.value["run"] if record is None else insert_run(connection, record)
        part = Part(part.position, {**part.value, "run": number}, part.key, part.error)
        there = sa.select(parts.c.position).where(parts.c.job == order.job, parts.c.position == part.position)
        if ours and connection.execute(there).first() is None:
            add_part(connection, order.job, part)
    if not ours:
        raise Cancelled
    return part


def known_runs(store: Store, keys: Iterable[str]) -> dict[str, RowMapping]:
    """Those of ``keys`` that are finished runs: ``id``, ``key``, ``created`` and what is :data:`SHOWN`.

    Those that were deleted come back.
    """
    wanted, found = list(dict.fromkeys(keys)), {}
    columns = [runs.c.id, runs.c.key, runs.c.created, runs.c.deleted, *(runs.c[name] for name in SHOWN)]
    done = runs.c.status == Status.DONE.value
    with store.reading() as connection:
        for start in range(0, len(wanted), CHUNK):
            chosen = sa.select(*columns).where(runs.c.key.in_(wanted[start : start + CHUNK]), done)
            found |= {row["key"]: row for row in connection.execute(chosen).mappings()}
    deleted = [row["id"] for row in found.values() if row["deleted"] is not None]
    if deleted:
        store.restore(deleted)
    return found


def part_of(position: int, changes: Mapping[str, object], known: Mapping[str, object]) -> Part:
    """The part of a point whose run was there already."""
    shown = {name: _finite(known[name]) for name in SHOWN}
    return Part(position, {"changes": dict(changes), **shown, "reused": True, "run": known["id"]}, known["key"])


def impossible_part(position: int, changes: Mapping[str, object], error: str) -> Part:
    """The part of a point that cannot be run at all."""
    return Part(position, {"changes": dict(changes), **dict.fromkeys(SHOWN), "reused": False, "run": None}, error=error)


def _fresh_part(item: Item, record: RunRecord) -> Part:
    shown = {name: _finite(record.headline.get(name)) for name in SHOWN[:-1]}
    shown["seconds"] = sum(record.seconds.values())
    return Part(item.position, {"changes": item.changes, **shown, "reused": False}, record.key, record.error)


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
