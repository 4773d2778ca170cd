"""Sees to it that a store whose jobs wait has a worker."""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from woodfisher_core.jobs.queue import StoreQueue
from woodfisher_core.jobs.worker import worker_of
from woodfisher_core.store.places import ENVIRONMENT_VARIABLE, data_folder
from woodfisher_core.store.store import Store

# After a worker that ended in an error the next one is started so much later, twice as much each time, but not more than:
FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0
# How much of a dead worker's last words goes into this process's log.
LAST_WORDS = 2000

_log = logging.getLogger(__name__)


@dataclass
class _Started:
    """A worker of this process: its process (None where it could not be started), standard error, and errors in a row."""

    process: subprocess.Popen | None
    words: IO[bytes] | None
    errors: int
    when: float
    over: bool = False


_lock = threading.Lock()
_workers: dict[str, _Started] = {}


def ensure_worker(store: Store) -> None:
    """Starts a worker where jobs wait and none lives; it ends with this process. Cheap: meant to be called at every look.

    However many threads and processes call it, one worker stays. One that ended in an error is followed by the next only after
    a while.

    Raises:
        StoreError: The store cannot be read.
    """
    queue = StoreQueue(store)
    queue.revive()
    if not queue.waits():
        return
    with _lock:
        last = _workers.get(store.place)
        if last is not None and _lives(last):
            return
        if worker_of(store) is not None:
            return
        errors = 0 if last is None else last.errors
        if errors and time.monotonic() - last.when < min(LONGEST_WAIT, FIRST_WAIT * 2 ** (errors - 1)):
            return
        _workers[store.place] = _start(store, errors)


def log_file(store: Store) -> Path:
    """Where a worker of ``store`` writes what happens: beside a file, else in the user's data folder."""
    if store.url.get_backend_name() == "sqlite":
        path = Path(store.url.database)
        return path.with_name(f"{path.name}.worker.log")
    return data_folder() / f"worker-{hashlib.sha256(store.place.encode()).hexdigest()[:12]}.log"


def _lives(last: _Started) -> bool:
    """Whether this worker still runs; counts its error once when it has ended in one."""
    status = None if last.process is None else last.process.poll()
    if last.process is not None and status is None:
        return True
    if not last.over:
        last.over, last.when = True, time.monotonic()
        if status == 0:
            last.errors = 0
        else:
            last.errors += 1
            _log.error("the worker ended with status %s. %s", status, _last_words(last.words))
        if last.words is not None:
            last.words.close()
    return False


def _start(store: Store, errors: int) -> _Started:
    file, words = log_file(store), None
    command = [sys.executable, "-m", "woodfisher_core.jobs.worker", "--parent", str(os.getpid()), "--log", str(file)]
    own = (
        {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        words = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the worker has ended
        process = subprocess.Popen(
            command,
            # A URL may hold a password, which everyone could read among the arguments.
            env={**os.environ, ENVIRONMENT_VARIABLE: store.place},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            close_fds=True,
            **own,
        )
    except OSError as error:
        _log.error("a worker could not be started: %s", error)
        if words is not None:
            words.close()
        return _Started(None, None, errors + 1, time.monotonic(), over=True)
    return _Started(process, words, errors, time.monotonic())


def _last_words(words: IO[bytes] | None) -> str:
    if words is None:
        return ""
    words.seek(0)
    return words.read()[-LAST_WORDS:].decode(errors="replace").strip()
