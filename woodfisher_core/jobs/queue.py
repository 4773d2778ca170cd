"""The queue of jobs, kept in the run store: asked for once, run once, and never lost."""

import time
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from woodfisher_core.errors import InputError
from woodfisher_core.jobs.job import UNFINISHED, Job, JobRequest, JobStatus, Part
from woodfisher_core.jobs.standing import as_job, finished_since_begun, one_job, unfinished
from woodfisher_core.store.owners import is_alive
from woodfisher_core.store.places import shown
from woodfisher_core.store.records import Status
from woodfisher_core.store.schema import jobs, parts, runs
from woodfisher_core.store.store import Store

# A job whose process died so often before it finished another part is not begun again: it would probably kill the next too.
MOST_ATTEMPTS = 3


class StoreQueue:
    """The queue in a run store; every process that opens the store sees the same one.

    What begins and ends jobs names its ``owner``, a process as :func:`this_owner` writes it: a process that was taken for dead
    and wakes up again changes nothing any more.
    """

    def __init__(self, store: Store):
        self.store = store

    def submit(self, request: JobRequest) -> Job:
        """See :meth:`Queue.submit`; of a finished job what failed, and runs deleted since, are made again."""
        mine = jobs.c.key == request.key
        with self.store.writing() as connection:
            known = connection.execute(sa.select(jobs).where(mine).with_for_update()).first()
            if known is None:
                _insert_once(connection, request)
            elif known.status in (JobStatus.FAILED.value, JobStatus.CANCELLED.value) or (
                known.status == JobStatus.DONE.value and _forget_open_parts(connection, known.id)
            ):
                _requeue(connection, known.id, attempts=0, created=time.time())
            elif known.cancel:  # it is wanted after all
                connection.execute(jobs.update().where(mine).values(cancel=False))
            return one_job(connection, mine)

    def find(self, request: JobRequest) -> Job | None:
        """See :meth:`Queue.find`."""
        with self.store.reading() as connection:
            return one_job(connection, jobs.c.key == request.key)

    def get(self, number: int) -> Job:
        """See :meth:`Queue.get`."""
        with self.store.reading() as connection:
            found = one_job(connection, jobs.c.id == number)
        if found is None:
            raise InputError(
                f"job: expected the number of one in {shown(self.store.url)}, got {number}. See: jobs list."
            )
        return found

    def jobs(self) -> list[Job]:
        """See :meth:`Queue.jobs`; those whose process died wait again."""
        self.revive()
        with self.store.reading() as connection:
            waiting = unfinished(connection)
            over = sa.select(jobs).where(jobs.c.status.not_in(UNFINISHED))
            newest = connection.execute(over.order_by(jobs.c.finished.desc(), jobs.c.id.desc())).all()
            return [as_job(connection, row, waiting) for row in (*waiting, *newest)]

    def cancel(self, number: int) -> None:
        """See :meth:`Queue.cancel`; what is over stays as it is, and what a dead process had is over at once."""
        self.get(number)
        self.revive()
        with self.store.writing() as connection:
            connection.execute(
                jobs.update()
                .where(jobs.c.id == number, jobs.c.status == JobStatus.QUEUED.value)
                .values(status=JobStatus.CANCELLED.value, finished=time.time())
            )
            connection.execute(
                jobs.update().where(jobs.c.id == number, jobs.c.status == JobStatus.RUNNING.value).values(cancel=True)
            )

    def remove(self, number: int) -> None:
        """See :meth:`Queue.remove`."""
        self.get(number)
        with self.store.writing() as connection:
            gone = jobs.delete().where(jobs.c.id == number, jobs.c.status.not_in(UNFINISHED))
            if not connection.execute(gone).rowcount:
                raise InputError(f"job {number}: expected one that is over. Stop it first: jobs cancel {number}.")

    def parts(self, number: int, after: int = -1) -> list[Part]:
        """See :meth:`Queue.parts`."""
        chosen = sa.select(parts).where(parts.c.job == number, parts.c.position > after).order_by(parts.c.position)
        with self.store.reading() as connection:
            return [Part(row.position, row.value, row.key, row.error) for row in connection.execute(chosen)]

    def failed_parts(self, numbers: Sequence[int]) -> dict[int, int]:
        """See :meth:`Queue.failed_parts`."""
        failed = sa.select(parts.c.job, sa.func.count()).where(parts.c.job.in_(numbers), parts.c.error.is_not(None))
        with self.store.reading() as connection:
            return {job: count for job, count in connection.execute(failed.group_by(parts.c.job))}

    def waits(self) -> bool:
        """Whether a job waits to be begun."""
        queued = sa.select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED.value).limit(1)
        with self.store.reading() as connection:
            return connection.execute(queued).first() is not None

    def take(self, owner: str, number: int | None = None) -> Job | None:
        """Begins the next job that waits (or that one) in the name of ``owner``; None where there is none to begin."""
        self.revive()
        waiting = sa.select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED.value)
        if number is not None:
            waiting = waiting.where(jobs.c.id == number)
        if not self.waits():
            return None  # a look that finds nothing writes nothing
        with self.store.writing() as connection:
            first = waiting.order_by(jobs.c.created, jobs.c.id).limit(1).with_for_update(skip_locked=True)
            chosen = connection.execute(first).scalar()
            if chosen is None:
                return None
            now = time.time()
            connection.execute(
                jobs.update()
                .where(jobs.c.id == chosen)
                .values(
                    status=JobStatus.RUNNING.value,
                    owner=owner,
                    heartbeat=now,
                    started=now,
                    finished=None,
                    attempts=jobs.c.attempts + 1,
                    cancel=False,
                    error=None,
                    message="",
                )
            )
            return one_job(connection, jobs.c.id == chosen)

    def revive(self) -> None:
        """Puts jobs whose process died back into the queue; those that died too often are marked failed.

        One that finished a part before its process died begins to count anew: it goes on, however slowly.
        """
        running = sa.select(jobs).where(jobs.c.status == JobStatus.RUNNING.value)
        with self.store.reading() as connection:
            dead = [row for row in connection.execute(running) if not is_alive(row.owner, row.heartbeat)]
        for row in dead:
            with self.store.writing() as connection:
                same = connection.execute(
                    running.where(jobs.c.id == row.id, jobs.c.owner == row.owner).with_for_update()
                ).first()
                if same is None or is_alive(same.owner, same.heartbeat):
                    continue
                attempts = 0 if finished_since_begun(connection, same, 1) else same.attempts
                if same.cancel:
                    _finish(connection, same.id, JobStatus.CANCELLED, None)
                elif attempts >= MOST_ATTEMPTS:
                    _finish(
                        connection,
                        same.id,
                        JobStatus.FAILED,
                        f"Its process ended without a word {attempts} times (out of memory, perhaps). What was done is kept; "
                        "ask for less at once, or ask again to go on.",
                    )
                else:
                    _requeue(connection, same.id, attempts)

    def hand_back(self, number: int, owner: str) -> JobStatus:
        """Leaves a job of ``owner`` before its end: cancelled where someone wants that, else it waits as if never begun."""
        with self.store.writing() as connection:
            own = connection.execute(sa.select(jobs).where(*_own(number, owner)).with_for_update()).first()
            if own is not None and own.cancel:
                _finish(connection, number, JobStatus.CANCELLED, None)
            elif own is not None:
                _requeue(connection, number, own.attempts - 1)
            now = connection.execute(sa.select(jobs.c.status).where(jobs.c.id == number)).scalar()
        return JobStatus.CANCELLED if now is None else JobStatus(now)

    def tell(self, number: int, owner: str, *, done: int, total: int, message: str) -> bool:
        """Keeps how far a running job of ``owner`` is; False where it should stop: someone wants that, or another has it."""
        with self.store.writing() as connection:
            connection.execute(
                jobs.update()
                .where(*_own(number, owner))
                .values(done=done, total=total, message=message, heartbeat=time.time())
            )
            wanted = sa.select(jobs.c.id).where(*_own(number, owner), jobs.c.cancel.is_(False))
            return connection.execute(wanted).first() is not None

    def finish(self, number: int, owner: str, status: JobStatus, error: str | None = None) -> None:
        """Ends a job, unless another process has it by now."""
        with self.store.writing() as connection:
            if owns(connection, number, owner):
                _finish(connection, number, status, error)


def owns(connection: Connection, number: int, owner: str) -> bool:
    """Whether ``owner`` still runs this job: it has not been taken for dead, nor the job begun by another process."""
    return connection.execute(sa.select(jobs.c.id).where(*_own(number, owner)).with_for_update()).first() is not None


def add_part(connection: Connection, job: int, part: Part) -> None:
    """Keeps a finished part within a transaction; one finished again replaces it."""
    connection.execute(parts.delete().where(parts.c.job == job, parts.c.position == part.position))
    connection.execute(
        parts.insert().values(
            job=job,
            position=part.position,
            key=part.key,
            value=dict(part.value),
            error=part.error,
            created=time.time(),
        )
    )


def _own(number: int, owner: str) -> tuple[sa.ColumnElement, ...]:
    return jobs.c.id == number, jobs.c.owner == owner, jobs.c.status == JobStatus.RUNNING.value


def _insert_once(connection: Connection, request: JobRequest) -> None:
    try:
        with connection.begin_nested():
            connection.execute(
                jobs.insert().values(
                    key=request.key,
                    kind=request.kind,
                    title=request.title,
                    request=dict(request.request),
                    origin=request.origin,
                    status=JobStatus.QUEUED.value,
                    created=time.time(),
                )
            )
    except sa.exc.IntegrityError:  # PostgreSQL: another one has just asked for the same
        return


def _forget_open_parts(connection: Connection, number: int) -> bool:
    """Whether parts of a finished job failed, or were runs that are no longer there; those parts are dropped."""
    there = sa.select(runs.c.key).where(runs.c.status == Status.DONE.value, runs.c.deleted.is_(None))
    lost = sa.or_(parts.c.error.is_not(None), sa.and_(parts.c.key.is_not(None), parts.c.key.not_in(there)))
    return connection.execute(parts.delete().where(parts.c.job == number, lost)).rowcount > 0


def _requeue(connection: Connection, number: int, attempts: int, **changes: object) -> None:
    fresh = {"status": JobStatus.QUEUED.value, "owner": None, "heartbeat": None, "started": None, "finished": None}
    fresh |= {"cancel": False, "error": None, "message": "", "attempts": attempts}
    connection.execute(jobs.update().where(jobs.c.id == number).values(**fresh, **changes))


def _finish(connection: Connection, number: int, status: JobStatus, error: str | None) -> None:
    ended = {"status": status.value, "error": error, "finished": time.time(), "owner": None, "cancel": False}
    connection.execute(jobs.update().where(jobs.c.id == number).values(**ended))
