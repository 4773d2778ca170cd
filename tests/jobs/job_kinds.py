"""Kinds of jobs for tests, and processes that run them: forked from one that has loaded everything, so they start at once."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.jobs import JobRequest, Part, StoreQueue, Task
from woodfisher_core.jobs import worker as workers
from woodfisher_core.jobs.kinds import KINDS, JobKind
from woodfisher_core.store import Store

IN_A_FILE = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["woodfisher_core.jobs.worker"])


def count(task: Task) -> None:
    """``parts`` parts, each after ``seconds``, each noted in the file ``log`` before it is kept."""
    task.expect(task.request["parts"], len(task.before))
    for position in range(task.request["parts"]):
        if position in task.before:
            continue
        time.sleep(task.request["seconds"])
        with open(task.request["log"], "a") as log:
            log.write(f"{task.job.number} {position}\n")
        task.keep(Part(position, {"square": position**2}))


def kill_own_process(task: Task) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(task: Task) -> None:
    raise {"bug": ZeroDivisionError("a bug"), "input": InputError("knob: turn it."), "memory": MemoryError()}[
        task.request["how"]
    ]


def known(request) -> None:
    if set(request) - {"parts", "seconds", "log", "how", "name"}:
        raise InputError(f"request: unknown field {', '.join(sorted(request))}.")


def register() -> None:
    for run in (count, kill_own_process, fail):
        KINDS[run.__name__] = JobKind(run.__name__, run.__name__, "", run, known)


def counting(folder: Path, name: object = 0, parts: int = 3, seconds: float = 0.0) -> JobRequest:
    request = {"name": name, "parts": parts, "seconds": seconds, "log": str(folder / "log.txt")}
    return JobRequest(kind="count", request=request, title=f"count {name}")


def work(place: str, folder: Path, *arguments: str) -> None:
    """A worker as the command starts it, with the kinds of this file; its own priority would only slow the test."""
    register()
    workers.lower_priority = lambda: None
    raise SystemExit(workers.main(["--store", place, "--log", str(folder / "worker.log"), *arguments]))


def submit(place: str, request: JobRequest, times: int) -> None:
    queue = StoreQueue(Store(place))
    for _ in range(times):
        queue.submit(request)


def started(function, *arguments) -> multiprocessing.Process:
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def until(condition, seconds: float = 60.0) -> None:
    """Waits for ``condition`` to hold; fails where it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
