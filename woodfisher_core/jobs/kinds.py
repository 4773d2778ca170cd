"""The kinds of jobs there are, one line each, and what may be asked of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.plane import Plane
from woodfisher_core.jobs import gradual, plane, prune
from woodfisher_core.jobs.job import Job, JobRequest, Queue
from woodfisher_core.jobs.task import Task
from woodfisher_core.jobs.titles import counted
from woodfisher_core.sweeps import run as sweep
from woodfisher_core.sweeps.spec import Sweep

# Requests come from anyone who sees the page: what is larger than this is no honest one.
LARGEST_REQUEST = 1 << 20
LONGEST_TITLE, LONGEST_ORIGIN = 300, 64


@dataclass(frozen=True)
class JobKind:
    """A kind of job: ``run`` does it, ``check`` raises an InputError for a request that it could not do.

    ``unit`` is what one of its parts is.
    """

    name: str
    label: str
    help: str
    run: Callable[[Task], None]
    check: Callable[[Mapping[str, object]], object]
    unit: str = "part"


KINDS: dict[str, JobKind] = {
    kind.name: kind
    for kind in (
        JobKind(prune.KIND, "Run", "One pruning run, kept.", prune.run_prune_job, PruneConfig.from_dict, "run"),
        JobKind(
            gradual.KIND,
            "Gradual",
            "Pruning step by step, trained.",
            gradual.run_gradual_job,
            GradualConfig.from_dict,
            "epoch",
        ),
        JobKind(
            sweep.KIND,
            "Sweep",
            "A grid or random sample of runs, each kept.",
            sweep.run_sweep_job,
            Sweep.from_dict,
            "point",
        ),
        JobKind(
            plane.KIND, "Plane", "Many settings of two knobs, drawn.", plane.run_plane_job, Plane.from_dict, "point"
        ),
    )
}


def get_kind(name: str) -> JobKind:
    """The kind of that name."""
    if name not in KINDS:
        raise InputError(f"kind of job: expected one of {', '.join(KINDS)}, got {name!r}.")
    return KINDS[name]


def parts_words(job: Job) -> str:
    """How many parts of a job are done, as ``40 of 100 epochs``."""
    unit = KINDS[job.kind].unit if job.kind in KINDS else JobKind.unit
    return f"{job.done:,} of {counted(job.total, unit)}"


def check(request: JobRequest) -> None:
    """Raises an InputError for a request that could not be run, so that it need not wait in the queue to fail."""
    kind = get_kind(request.kind)
    for name, most in (("title", LONGEST_TITLE), ("origin", LONGEST_ORIGIN)):
        if len(getattr(request, name)) > most:
            raise InputError(f"job: expected a {name} of at most {most} characters. Shorten it.")
    try:
        size = len(json.dumps(dict(request.request), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"job: expected a request of plain JSON values ({error}).") from None
    if size > LARGEST_REQUEST:
        raise InputError(
            f"job: expected a request of at most {LARGEST_REQUEST:,} bytes, got {size:,}. Ask for less at once."
        )
    check_request(kind, request.request)


def check_request(kind: JobKind, request: Mapping[str, object]) -> None:
    """Raises an InputError for a request that ``kind`` could not run, whatever is wrong with it."""
    try:
        kind.check(request)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{kind.name} job: the request cannot be read ({type(error).__name__}: {error}).") from None


def submit(queue: Queue, request: JobRequest) -> Job:
    """Checks ``request`` and asks ``queue`` for it: the way in for everything that comes from people."""
    check(request)
    return queue.submit(request)
