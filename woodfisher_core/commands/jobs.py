"""``jobs``: what was asked of the worker, how far it is, and the worker itself in this terminal."""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from tqdm import tqdm

from woodfisher_core.commands.flags import add_store
from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.jobs import Job, JobStatus, StoreQueue
from woodfisher_core.jobs import worker as workers
from woodfisher_core.store import Store
from woodfisher_core.store.places import shown

# How often a bar moves.
LOOK_SECONDS = 0.5


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Its subcommands and their flags."""
    parser.description = "Lists, shows, stops and runs jobs: long work that is kept in the store and survives crashes."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("list", _list, "list jobs: those that run or wait, then the newest finished"),
        ("show", _show, "everything about one job"),
        ("cancel", _cancel, "stop a job; what it has finished is kept, and asking again goes on from there"),
        ("remove", _remove, "take a job that is over off the list; the runs it made stay"),
        ("work", _work, "run what waits, in this terminal"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_store(command)
        if name in ("list", "show"):
            command.add_argument("--json", action="store_true", help="print JSON and nothing else on standard output")
        if name in ("show", "cancel", "remove"):
            command.add_argument("number", type=int, metavar="N", help="the job's number")
        if name == "work":
            command.add_argument(
                "--idle",
                type=float,
                default=workers.IDLE_SECONDS,
                metavar="S",
                help="end when nothing has waited for so many seconds (default: %(default)g)",
            )
        command.set_defaults(run=run)


def _list(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    found = StoreQueue(store).jobs()
    if options.json:
        print(json.dumps([_plain(job) for job in found]))
        return 0
    if not found:
        print(f"no jobs in {shown(store.url)}")
    for job in found:
        print(f"{job.number:>5}  {job.status.label:9}  {_far(job):>24}  {job.title}")
    if any(job.status is JobStatus.QUEUED for job in found) and workers.worker_of(store) is None:
        print("nothing works on them now; the app starts a worker when a page is used, or: jobs work")
    return 0


def _show(options: argparse.Namespace, memory_at_start: int) -> int:
    queue = StoreQueue(Store(options.store))
    job = queue.get(options.number)
    failed = [part for part in queue.parts(job.number) if part.error]
    if options.json:
        errors = [{"position": part.position, "error": part.error} for part in failed]
        print(json.dumps({**_plain(job), "failed_parts": errors}))
        return 0
    print(f"job {job.number}: {job.title}")
    print(f"{job.status.label.lower():12}{_far(job)}")
    facts = {
        "kind": job.kind,
        "asked for": _when(job.created),
        "begun": _when(job.started),
        "ended": _when(job.finished),
        "attempts": job.attempts if job.attempts > 1 else None,
        "doing": job.message if job.status is JobStatus.RUNNING else None,
        "error": job.error,
    }
    for name, value in facts.items():
        if value is not None:
            print(f"{name:12}{value}")
    for part in failed:
        print(f"part {part.position:<7}{part.error}")
    return 0


def _cancel(options: argparse.Namespace, memory_at_start: int) -> int:
    queue = StoreQueue(Store(options.store))
    before = queue.get(options.number)
    queue.cancel(options.number)
    job = queue.get(options.number)
    words = f"job {job.number} was {before.status.label.lower()} already"
    if not before.over:
        words = f"job {job.number} " + ("is cancelled" if job.over else "will stop at its next step")
    print(words)
    return 0


def _remove(options: argparse.Namespace, memory_at_start: int) -> int:
    StoreQueue(Store(options.store)).remove(options.number)
    print(f"job {options.number} is removed")
    return 0


def _work(options: argparse.Namespace, memory_at_start: int) -> int:
    if not options.idle >= 0:
        raise InputError(f"idle: expected seconds of at least 0, got {options.idle:g}.")
    store = Store(options.store)
    told = workers.told_to_end()
    workers.lower_priority()
    with _shown(StoreQueue(store)):
        alone = workers.work(store, idle=options.idle, ending=told.is_set)
    if not alone:
        raise InputError("worker: another one works on this store already. See what it does with: jobs list.")
    return 0


@contextmanager
def _shown(queue: StoreQueue) -> Iterator[None]:
    """A bar on standard error for the job that runs, and a line for each that has ended."""
    stop, mine, begun = threading.Event(), workers.this_owner(), time.time()
    told: set[int] = set()

    def look(bar: tqdm) -> None:
        for job in queue.jobs():
            if job.owner == mine:
                bar.total, bar.n = job.total or None, job.done
                bar.set_description_str(f"job {job.number}", refresh=False)
                bar.set_postfix_str(job.message)
            elif job.over and (job.finished or 0.0) >= begun and job.number not in told:
                told.add(job.number)
                bar.write(f"job {job.number} {job.status.label.lower()}: {job.error or job.title}", file=sys.stderr)

    def follow() -> None:
        with tqdm(unit="part", leave=False, disable=None) as bar:
            last = False
            while not last:
                last = stop.wait(LOOK_SECONDS)
                with suppress(StoreError):  # the worker will say what is wrong
                    look(bar)

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _far(job: Job) -> str:
    """How far a job is, in few words."""
    if job.status is JobStatus.QUEUED:
        place = "next" if job.ahead == 0 else f"{job.ahead} before it"
        return place if job.seconds_left is None else f"{place}, in {_duration(job.seconds_left)}"
    parts = f"{job.done:,} of {job.total:,}" if job.total else ""
    return parts if job.seconds_left is None else f"{parts}, {_duration(job.seconds_left)} left"


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _plain(job: Job) -> dict[str, object]:
    return {**asdict(job), "status": job.status.value}
