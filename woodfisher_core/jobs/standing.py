"""Jobs as they stand, read from their rows: place in the queue, parts, time left."""

import time
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from woodfisher_core.jobs.job import UNFINISHED, Job, JobStatus
from woodfisher_core.store.schema import jobs, parts

# The pace of a job is that of its last parts: those before them may have been found, not computed.
RECENT_PARTS = 20


def unfinished(connection: Connection) -> list[Row]:
    """Unfinished jobs in their order: what runs, then what waits."""
    rows = connection.execute(sa.select(jobs).where(jobs.c.status.in_(UNFINISHED))).all()
    return sorted(rows, key=lambda row: (row.status != JobStatus.RUNNING.value, row.created, row.id))


def one_job(connection: Connection, chosen: sa.ColumnElement) -> Job | None:
    """The one job that is ``chosen``, or None."""
    row = connection.execute(sa.select(jobs).where(chosen)).first()
    return None if row is None else as_job(connection, row, unfinished(connection))


def as_job(connection: Connection, row: Row, waiting: Sequence[Row]) -> Job:
    """A row as a job; ``waiting`` as :func:`unfinished` gives them."""
    ahead = next((place for place, other in enumerate(waiting) if other.id == row.id), 0)
    if row.status == JobStatus.QUEUED.value:
        before = [_seconds_left(connection, other) for other in waiting[:ahead]]
        left = None if None in before or not before else sum(before)
    else:
        left = _seconds_left(connection, row)
    return Job(
        number=row.id,
        status=JobStatus(row.status),
        ahead=ahead if row.status == JobStatus.QUEUED.value else 0,
        seconds_left=left,
        **{
            name: getattr(row, name)
            for name in (
                *("key", "kind", "title", "request", "origin", "created", "started", "finished", "attempts", "cancel"),
                *("done", "total", "message", "error", "owner"),
            )
        },
    )


def finished_since_begun(connection: Connection, row: Row, most: int) -> list[float]:
    """When the last ``most`` parts were finished, the newest first; only those since the job was begun."""
    times = sa.select(parts.c.created).where(parts.c.job == row.id, parts.c.created >= row.started)
    return list(connection.execute(times.order_by(parts.c.created.desc()).limit(most)).scalars())


def _seconds_left(connection: Connection, row: Row) -> float | None:
    """At the pace of the last parts since the job was begun: what earlier attempts did took no time of this one's."""
    if row.status != JobStatus.RUNNING.value or not row.total:
        return None
    times = finished_since_begun(connection, row, RECENT_PARTS + 1)
    if not times:
        return None
    count, begin = (RECENT_PARTS, times[-1]) if len(times) > RECENT_PARTS else (len(times), row.started)
    return max(0.0, (time.time() - begin) / count * (row.total - row.done))
