"""What a job is, and all that pages and commands know of whatever runs jobs: :class:`Queue`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from woodfisher_core.options import Choice


class JobStatus(Choice):
    """Where a job stands."""

    QUEUED = ("queued", "Waiting", "It runs when those before it are done.")
    RUNNING = ("running", "Running", "A process works on it.")
    DONE = ("done", "Done", "All of it is here.")
    FAILED = ("failed", "Failed", "It raised an error or kept killing its process; what it had done is kept.")
    CANCELLED = (
        "cancelled",
        "Cancelled",
        "Someone stopped it; what it had done is kept, and asking again goes on from there.",
    )


UNFINISHED = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is asked for: a ``kind`` from the registry of jobs and its ``request``, plain JSON; ``title`` is for people."""

    kind: str
    request: Mapping[str, object]
    title: str
    origin: str = ""

    @property
    def key(self) -> str:
        """Hex sha256 of kind and request: equal requests are one job."""
        return hashlib.sha256(json.dumps([self.kind, dict(self.request)], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stands: ``done`` of ``total`` parts (0: not known yet), ``ahead`` unfinished ones before it where it waits.

    ``seconds_left`` until it is done, or for a job that waits until it is begun; None where nothing is known. ``attempts``
    counts how often it was begun since it last finished a part. Times are seconds since 1970.
    """

    number: int
    key: str
    kind: str
    title: str
    request: Mapping[str, object]
    origin: str
    status: JobStatus
    created: float
    started: float | None
    finished: float | None
    attempts: int
    cancel: bool
    done: int
    total: int
    message: str
    error: str | None
    owner: str | None
    ahead: int
    seconds_left: float | None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.status.value not in UNFINISHED


@dataclass(frozen=True)
class Part:
    """One finished part of a job: its ``value`` (plain JSON), the ``key`` of the run it is, or the ``error`` it ended in."""

    position: int
    value: Mapping[str, object]
    key: str | None = None
    error: str | None = None


class Queue(Protocol):
    """What a page or a command may ask of whatever runs jobs."""

    def submit(self, request: JobRequest) -> Job:
        """The job of this request: a new one, the one that waits or runs, or the finished one; a stopped one is begun again."""

    def get(self, number: int) -> Job:
        """One job as it stands now."""

    def find(self, request: JobRequest) -> Job | None:
        """The job of this request, if it was ever asked for."""

    def jobs(self) -> list[Job]:
        """All jobs, those that run or wait first in their order, then the newest finished."""

    def failed_parts(self, numbers: Sequence[int]) -> dict[int, int]:
        """How many parts of these jobs ended in an error, by job; those without any are left out."""

    def cancel(self, number: int) -> None:
        """Stops a job as soon as it can be; one that waits is not begun."""

    def remove(self, number: int) -> None:
        """Takes a job that is over off the list, with its parts; the runs it made stay."""

    def parts(self, number: int, after: int = -1) -> list[Part]:
        """What a job has finished so far, by position; only positions beyond ``after``."""
