"""The worker: a process of low priority that runs the jobs of a store, one after the other.

``python -m woodfisher_core.jobs.worker`` works on until nothing has waited for a while, the process it belongs to is gone, or it
is told to end (SIGTERM): then the job at hand waits for the next worker, with what it has finished. One worker a store.
"""

import argparse
import logging
import logging.handlers
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import sqlalchemy as sa

from woodfisher_core.errors import StoreError, WoodFisherError
from woodfisher_core.experiments import Workspace
from woodfisher_core.jobs.queue import StoreQueue
from woodfisher_core.jobs.runner import patiently, run_job
from woodfisher_core.store.claims import claim, heartbeat, release
from woodfisher_core.store.owners import is_alive, this_owner
from woodfisher_core.store.schema import claims
from woodfisher_core.store.store import Store

CLAIM = "worker"
# How often an idle worker looks for a job, and how long it goes on looking.
LOOK_SECONDS = 0.5
IDLE_SECONDS = 600.0
# Beside the page's own workspace there must be room for the worker's.
CACHE_BYTES = 1 << 30
LOG_BYTES = 1 << 18
# Unix: how much nicer than others; a page that computes goes first.
NICENESS = 10

# By its own name: run as a command, this module is called "__main__".
_log = logging.getLogger("woodfisher_core.jobs.worker")


def worker_of(store: Store) -> str | None:
    """The living worker of ``store``, or None."""
    with store.reading() as connection:
        held = connection.execute(sa.select(claims).where(claims.c.key == CLAIM)).first()
    return held.owner if held is not None and is_alive(held.owner, held.heartbeat) else None


def work(store: Store, *, idle: float = IDLE_SECONDS, ending: Callable[[], bool] = lambda: False) -> bool:
    """Runs jobs until none has waited for ``idle`` seconds or ``ending`` says so; False where another worker lives.

    Raises:
        StoreError: The store could not be read or written for a while; a job at hand counts as interrupted.
    """
    queue, space = StoreQueue(store), None
    while patiently(lambda: claim(store, CLAIM)):
        space = space or Workspace(cache_bytes=CACHE_BYTES)
        try:
            with heartbeat(store):
                _serve(queue, space, idle, ending)
        finally:
            with suppress(StoreError):  # a dead process's claim passes on by itself
                release(store, CLAIM)
        # Someone who asked a moment ago may have seen this worker alive and relied on it.
        if ending() or not patiently(queue.waits):
            return True
    return space is not None


def _serve(queue: StoreQueue, space: Workspace, idle: float, ending: Callable[[], bool]) -> None:
    owner, last = this_owner(), time.monotonic()
    # A machine that slept may find that another's worker has taken its place.
    while not ending() and patiently(lambda: worker_of(queue.store)) == owner:
        job = patiently(lambda: queue.take(owner))
        if job is not None:
            _log.info("job %d begun: %s", job.number, job.title)
            _log.info("job %d: %s", job.number, run_job(queue, job, space, ending))
            last = time.monotonic()
        elif time.monotonic() - last >= idle:
            return
        else:
            time.sleep(min(LOOK_SECONDS, idle))


def lower_priority() -> None:
    """Lets every other process of this machine go first."""
    with suppress(OSError, psutil.Error):
        if os.name == "nt":
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.nice(NICENESS)


def told_to_end() -> threading.Event:
    """An event that SIGTERM sets from now on."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    return told


def gone(parent: int) -> Callable[[], bool]:
    """A question: whether that process, which is alive now, has ended."""
    try:
        process = psutil.Process(parent)
    except psutil.NoSuchProcess:
        return lambda: True

    def ended() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return ended


def log_to(file: str | None) -> None:
    """Writes what happens into a small file that begins anew when it is full; None: to standard error."""
    handler = logging.StreamHandler()
    if file is not None:
        with suppress(OSError):  # a log is not worth a worker
            handler = logging.handlers.RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", handlers=[handler])
    logging.getLogger("woodfisher_core").setLevel(logging.INFO)


def main(arguments: list[str] | None = None) -> int:
    """Works as the arguments say; returns the exit status: 0, or 1 where the store could not be used."""
    parser = argparse.ArgumentParser(prog="python -m woodfisher_core.jobs.worker", description=__doc__)
    parser.add_argument("--store", metavar="PLACE", help="a file or URL (default: $WOODFISHER_STORE, else the user's)")
    parser.add_argument("--parent", type=int, metavar="PID", help="end when this process does")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS, metavar="S", help="seconds to wait for a job")
    parser.add_argument("--log", metavar="FILE", help="where to write what happens (default: standard error)")
    options = parser.parse_args(arguments)
    told, orphaned = told_to_end(), (lambda: False) if options.parent is None else gone(options.parent)
    lower_priority()
    log_to(options.log)
    try:
        work(Store(options.store), idle=options.idle, ending=lambda: told.is_set() or orphaned())
    except WoodFisherError as error:
        _log.error("the worker ends: %s", error)
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    except Exception:
        _log.exception("the worker ends")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
