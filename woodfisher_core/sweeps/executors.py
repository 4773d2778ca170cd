"""What a sweep's points run on: this process, or a pool of small ones; any other ``concurrent.futures.Executor`` will do."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.connection import Connection, wait

import torch

from woodfisher_core.errors import InputError

# Beside the two pipes that tell of the parent's end, a worker looks itself so often: a fork of the parent keeps pipes open.
LOOK_SECONDS = 2.0


class InProcess(Executor):
    """Runs what is submitted at once, here, one after the other."""

    def submit(self, fn: Callable, /, *arguments, **options) -> Future:
        """The finished future of ``fn(*arguments, **options)``; a KeyboardInterrupt passes through."""
        future: Future = Future()
        try:
            future.set_result(fn(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class WorkerPool(ProcessPoolExecutor):
    """``workers`` fresh processes of ``threads`` threads each, which end as soon as this one does, however it ends.

    Left by an exception, as a context manager, it ends them at once: what they write is whole or not there.
    A script that makes one must be importable (``if __name__ == "__main__":``), as the processes are spawned, not forked.
    """

    def __init__(self, workers: int, threads: int = 1):
        if workers < 1:
            raise InputError(f"workers: expected at least 1, got {workers}.")
        spawn = multiprocessing.get_context("spawn")
        # Only this process holds the writing end: reading its end of file means that the pool is over.
        read, self._write = spawn.Pipe(duplex=False)
        super().__init__(workers, mp_context=spawn, initializer=_begin, initargs=(read, os.getpid(), threads))

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if kind is not None:
            self._write.close()
        super().__exit__(kind, *rest)
        if kind is None:
            self._write.close()


def _begin(over: Connection, parent: int, threads: int) -> None:
    """First of all in every worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the parent says what it means
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, args=(over, parent), daemon=True, name="end with parent").start()


def _end_with_parent(over: Connection, parent: int) -> None:
    watched = [over, multiprocessing.parent_process().sentinel]
    while not wait(watched, LOOK_SECONDS) and (os.name == "nt" or os.getppid() == parent):
        pass
    os._exit(1)  # at once, in the middle of anything: a point is written in one transaction


_chosen: ContextVar[tuple[Executor, int] | None] = ContextVar("executor of sweeps", default=None)


@contextmanager
def sweeps_on(executor: Executor, workers: int) -> Iterator[None]:
    """Until the block ends, sweeps that this thread runs use ``executor``, in parts for so many ``workers``."""
    token = _chosen.set((executor, workers))
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen_executor() -> tuple[Executor, int]:
    """The (executor, number of workers) of :func:`sweeps_on`, else this process."""
    return _chosen.get() or (InProcess(), 1)
