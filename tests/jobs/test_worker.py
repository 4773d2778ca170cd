"""The worker in this process, and the real one that a server starts."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from job_kinds import counting, started, until, work

from woodfisher_core.errors import StoreError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.jobs import JobStatus, runner, starting
from woodfisher_core.jobs import worker as workers
from woodfisher_core.jobs.prune import prune_request
from woodfisher_core.jobs.starting import ensure_worker, log_file
from woodfisher_core.store import Store
from woodfisher_core.store.claims import claim, release
from woodfisher_core.store.schema import claims

SMALL = PruneConfig(model="digits-mlp", num_samples=50, sparsity=0.8, held_out=0)


@pytest.fixture
def place(tmp_path):
    """A file: what is tested here is the same on every backend."""
    return str(tmp_path / "runs.sqlite")


@pytest.mark.usefixtures("own_kinds")
class TestHere:
    """A worker in this process."""

    def test_it_ends_when_nothing_waits(self, queue, tmp_path):
        numbers = [queue.submit(counting(tmp_path, name)).number for name in range(3)]
        assert workers.work(queue.store, idle=0)
        assert [queue.get(number).status for number in numbers] == [JobStatus.DONE] * 3
        assert workers.worker_of(queue.store) is None

    def test_it_leaves_a_store_that_has_one(self, queue, tmp_path):
        number = queue.submit(counting(tmp_path)).number
        claim(queue.store, workers.CLAIM, "elsewhere|1|1.00")
        assert not workers.work(queue.store, idle=0)
        assert queue.get(number).status is JobStatus.QUEUED
        assert workers.worker_of(queue.store) == "elsewhere|1|1.00"

    def test_it_ends_when_another_has_taken_its_place(self, queue, tmp_path, monkeypatch):
        """As after a long sleep of this machine: the job at hand is finished, the next one is the other's."""
        numbers = [queue.submit(counting(tmp_path, name)).number for name in range(2)]
        run = workers.run_job

        def slept(*arguments):
            with queue.store.writing() as connection:
                connection.execute(claims.update().values(owner="elsewhere|1|1.00", heartbeat=time.time()))
            return run(*arguments)

        monkeypatch.setattr(workers, "run_job", slept)
        assert workers.work(queue.store, idle=0)
        assert [queue.get(number).status for number in numbers] == [JobStatus.DONE, JobStatus.QUEUED]
        assert workers.worker_of(queue.store) == "elsewhere|1|1.00"

    def test_who_asks_while_it_ends_is_not_forgotten(self, queue, tmp_path, monkeypatch):
        """A job asked for between its last look and its end: everyone saw a living worker."""
        asked = []

        def ends(store, key):
            if not asked:
                asked.append(queue.submit(counting(tmp_path)).number)
            release(store, key)

        monkeypatch.setattr(workers, "release", ends)
        assert workers.work(queue.store, idle=0)
        assert queue.get(asked[0]).status is JobStatus.DONE

    def test_a_store_that_stays_unreadable_ends_it(self, queue, monkeypatch):
        monkeypatch.setattr(runner, "PAUSES", (0.0,))
        monkeypatch.setattr(queue.store.__class__, "reading", lambda self: (_ for _ in ()).throw(StoreError("gone")))
        with pytest.raises(StoreError, match="gone"):
            workers.work(queue.store, idle=0)


def test_gone():
    """A living process is there; one that has ended is gone, waited for or not."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ended = workers.gone(process.pid)
    assert not ended()
    process.kill()
    until(ended)
    process.wait()
    assert ended()
    assert workers.gone(process.pid)()


def workers_of_this_process() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "woodfisher_core.jobs.worker" in child.cmdline()
    ]


@pytest.fixture
def no_workers_left():
    yield
    for mine in starting._workers.values():
        if mine.process is not None:
            mine.process.kill()
            mine.process.wait()
            if not mine.over:
                mine.words.close()
    starting._workers.clear()


@pytest.mark.usefixtures("no_workers_left")
class TestStarted:
    """A worker that this process starts, as a server does."""

    def test_thirty_sessions_start_one(self, queue, place):
        """It runs what waits, nicely, tells its log alone, is there for what comes later, and ends when told to."""
        ensure_worker(queue.store)
        assert workers_of_this_process() == []  # nothing waits
        number = queue.submit(prune_request(SMALL)).number
        together = threading.Barrier(30)

        def session():
            together.wait()
            ensure_worker(Store(place))

        sessions = [threading.Thread(target=session) for _ in range(30)]
        for thread in sessions:
            thread.start()
        for thread in sessions:
            thread.join()
        (worker,) = workers_of_this_process()
        until(lambda: queue.get(number).over)
        assert queue.get(number).status is JobStatus.DONE
        assert queue.store.runs()["sparsity"].round(2).tolist() == [0.8]
        assert worker.nice() == min(19, psutil.Process().nice() + workers.NICENESS)
        assert str(place) not in worker.cmdline()
        assert workers.worker_of(queue.store).split("|")[1] == str(worker.pid)
        later = queue.submit(prune_request(SMALL.replace(sparsity=0.7))).number
        ensure_worker(queue.store)
        until(lambda: queue.get(later).over)
        assert workers_of_this_process() == [worker]
        assert f"job {number}: done" in log_file(queue.store).read_text()
        mine = starting._workers[queue.store.place]
        worker.terminate()
        assert mine.process.wait(60) == 0
        assert os.fstat(mine.words.fileno()).st_size == 0
        assert workers.worker_of(queue.store) is None

    @pytest.mark.parametrize("broken", ["no such program", "ends at once"])
    def test_one_that_ends_in_an_error_is_not_started_over_and_over(self, queue, monkeypatch, caplog, tmp_path, broken):
        """Its last words are in the server's log; the next one is started after a while."""
        program = tmp_path / "python"
        if broken == "ends at once":
            program.write_text("#!/bin/sh\necho 'no room for torch' >&2\nexit 3\n")
            program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        queue.submit(prune_request(SMALL))
        with caplog.at_level(logging.ERROR):
            ensure_worker(queue.store)
            first = starting._workers[queue.store.place]
            if first.process is not None:
                first.process.wait()
            for _ in range(5):
                ensure_worker(queue.store)
            assert starting._workers[queue.store.place] is first
            first.when -= starting.FIRST_WAIT
            ensure_worker(queue.store)
        assert starting._workers[queue.store.place] is not first
        assert caplog.text.count("no room for torch" if first.process else "could not be started") >= 1
        assert queue.get(1).status is JobStatus.QUEUED


def test_it_says_what_is_wrong_with_its_store(place, tmp_path):
    """Status 1 and a line in the log; the file is left as it is."""
    Path(place).write_text("not a database at all")
    worker = started(work, place, tmp_path)
    worker.join()
    assert worker.exitcode == 1
    assert "is no SQLite file" in (tmp_path / "worker.log").read_text()
    assert Path(place).read_text() == "not a database at all"


def test_the_log_stays_small(tmp_path, monkeypatch):
    """It begins anew when it is full; the one before is kept."""
    monkeypatch.setattr(workers, "LOG_BYTES", 2000)
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    monkeypatch.setattr(root, "handlers", [])
    workers.log_to(str(tmp_path / "log.txt"))
    for number in range(200):
        logging.getLogger("woodfisher_core.jobs").info("line %d", number)
    root.handlers[0].close()
    assert before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.txt", "log.txt.1"]
    assert "line 199" in (tmp_path / "log.txt").read_text()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5000


def test_sigterm_is_heard():
    """The event is set, and nothing else happens."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        told = workers.told_to_end()
        os.kill(os.getpid(), signal.SIGTERM)
        assert told.wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)
