"""What a job sees while it runs: its request, what was done before, and how to say how far it is."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property

from woodfisher_core.errors import StoreError
from woodfisher_core.experiments import Workspace
from woodfisher_core.jobs.job import Job, Part
from woodfisher_core.jobs.queue import StoreQueue, add_part, owns
from woodfisher_core.store.records import RunRecord
from woodfisher_core.store.store import Store, insert_run

# How often a running job writes its progress and looks whether it should stop.
TELL_SECONDS = 0.5
MESSAGE_LENGTH = 300


class Cancelled(Exception):
    """The job should stop here; raised out of the task's own calls, never to be caught by a job."""


class Task:
    """A running job. ``request`` is what was asked for, ``workspace`` the process's own.

    ``stop`` is asked now and then whether the process has to end; the job is then begun again by the next one.
    """

    def __init__(self, queue: StoreQueue, job: Job, workspace: Workspace, stop: Callable[[], bool] = lambda: False):
        self.queue, self.job, self.workspace, self._stop = queue, job, workspace, stop
        self.done, self.total = job.done, job.total
        self._message, self._told = "", 0.0

    @property
    def store(self) -> Store:
        return self.queue.store

    @property
    def request(self) -> Mapping[str, object]:
        return self.job.request

    @cached_property
    def before(self) -> dict[int, Part]:
        """Parts finished by earlier attempts, by position."""
        return {part.position: part for part in self.queue.parts(self.job.number)}

    def expect(self, total: int, done: int = 0) -> None:
        """How many parts there are in all, and how many are done already."""
        self.total, self.done = total, done
        self._tell()

    def keep(self, part: Part, record: RunRecord | None = None) -> None:
        """Keeps a finished part, with the run it is, in one transaction; then stops here if someone wants that.

        Raises:
            StoreError: It could not be written; the job ends with this error, and goes on from there when asked for again.
        """
        with self.store.writing() as connection:
            if not owns(connection, self.job.number, self.job.owner):
                raise Cancelled
            if record is not None:
                insert_run(connection, record)
            add_part(connection, self.job.number, part)
        self.done += 1
        if self.done != self.total:  # nothing is left to stop after the last one
            self.check()

    def say(self, message: str) -> None:
        """Shows what is being done; then stops here if someone wants that."""
        self._message = message[:MESSAGE_LENGTH]
        self.check()

    def progress(self, phase: str, done: int, total: int) -> None:
        """As the workspace reports its own progress."""
        self.say(f"{phase}: {done:,} of {total:,}")

    def check(self) -> None:
        """Raises :class:`Cancelled` where the job should stop; also writes its progress, now and then."""
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._tell()

    def tell(self) -> None:
        """Writes its progress now; never stops here, and never fails: a full disk costs no more than the bar's last moves."""
        self._told = time.monotonic()
        self._still_wanted()

    def _tell(self) -> None:
        self._told = time.monotonic()
        if not self._still_wanted() or self._stop():
            raise Cancelled

    def _still_wanted(self) -> bool:
        told = {"done": self.done, "total": self.total, "message": self._message}
        try:
            return self.queue.tell(self.job.number, self.job.owner, **told)
        except StoreError:
            return True  # progress is not worth a job; what is finished is kept with :meth:`keep`, which says what is wrong
