"""Runs one job to whatever end it comes to, and says so in the store."""

import logging
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from woodfisher_core.errors import StoreError
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.remember import is_expected, said
from woodfisher_core.jobs.job import Job, JobStatus
from woodfisher_core.jobs.kinds import check_request, get_kind
from woodfisher_core.jobs.queue import StoreQueue
from woodfisher_core.jobs.task import Cancelled, Task

# How long what must be written waits for room on the disk or for a lock, from one try to the next; then its process must end.
PAUSES = (1.0, 3.0, 10.0, 20.0)
# Of an unforeseen error's path, the last steps are shown.
STEPS_SHOWN = 3

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


def run_job(queue: StoreQueue, job: Job, workspace: Workspace, stop: Callable[[], bool] = lambda: False) -> JobStatus:
    """Runs a job that was taken, here and now; returns where it stands then.

    An error ends the job as failed, in words. Stopped by someone it is cancelled; where ``stop`` says that this process has to
    end, or a KeyboardInterrupt does, it waits again for the next process, with what it has finished.

    Raises:
        StoreError: The end could not be written, for want of disk, say. The process should end: the job counts as interrupted
            then, and goes on when a process takes it up.
    """
    task = Task(queue, job, workspace, stop)
    try:
        kind = get_kind(job.kind)
        check_request(kind, job.request)
        kind.run(task)
    except Cancelled:
        return patiently(lambda: queue.hand_back(job.number, job.owner))
    except Exception as error:
        _log.error("job %d (%s) failed", job.number, job.title, exc_info=error)
        status, words = JobStatus.FAILED, _words(error)
    except BaseException:  # KeyboardInterrupt, SystemExit
        with suppress(StoreError):
            queue.hand_back(job.number, job.owner)
        raise
    else:
        status, words = JobStatus.DONE, None
    task.tell()
    patiently(lambda: queue.finish(job.number, job.owner, status, words))
    return status


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What ``ask`` returns; where the store cannot be read or written it is asked again for a while."""
    for pause in PAUSES:
        try:
            return ask()
        except StoreError as error:
            _log.warning("%s Trying again in %g s.", error, pause)
            time.sleep(pause)
    return ask()


def _words(error: Exception) -> str:
    """The error for people: a text that was written for them as it is, else with the last steps that led to it."""
    if is_expected(error) or isinstance(error, StoreError):
        return said(error)
    steps = traceback.format_list(traceback.extract_tb(error.__traceback__)[-STEPS_SHOWN:])
    return f"{said(error)}\n{''.join(steps).rstrip()}"
