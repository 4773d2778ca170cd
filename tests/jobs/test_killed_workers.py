"""Real worker processes, really killed: nothing asked for is lost, nothing finished is done again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

from job_kinds import IN_A_FILE, counting, started, submit, until, work

from woodfisher_core.jobs import JobRequest, JobStatus
from woodfisher_core.jobs.queue import MOST_ATTEMPTS
from woodfisher_core.jobs.worker import worker_of
from woodfisher_core.store.schema import parts

KILLS = 15


def kill(process) -> None:
    process.kill()
    process.join()


def begun_or_ended(queue, numbers, worker):
    """Whether any of these jobs runs, or the worker has found nothing to do."""
    return lambda: not worker.is_alive() or any(queue.get(n).status is JobStatus.RUNNING for n in numbers)


def last_attempt(queue, number: int) -> bool:
    """Whether this job runs for the last time: killed now it would rightly end as failed."""
    job = queue.get(number)
    return job.status is JobStatus.RUNNING and job.attempts == MOST_ATTEMPTS


def running(queue, number: int):
    """Whether this job runs and has finished a part."""
    return lambda: queue.get(number).status is JobStatus.RUNNING and bool(queue.parts(number))


def finished_at(queue) -> dict[tuple[int, int], float]:
    with queue.store.reading() as connection:
        return {(row.job, row.position): row.created for row in connection.execute(parts.select())}


def stopped_before_a_last_attempt(queue, wanted, worker) -> bool:
    """Whether ``worker`` now stands still with no job at its last attempt; else it goes on. (Looked at while it runs, it could
    begin one before it is killed.)"""
    if not worker.is_alive():
        return True
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(0.05)  # what it has sent to the database by now is there
    if any(last_attempt(queue, number) for number in wanted):
        os.kill(worker.pid, signal.SIGCONT)
        return False
    return True


def test_killed_at_random_moments_all_jobs_end(queue, place, tmp_path):
    """Every part of every job is finished once and stays; each kill costs at most the part that was being made."""
    random_ = random.Random(0)
    wanted = [queue.submit(counting(tmp_path, name, parts=8, seconds=0.02)).number for name in range(12)]
    seen, kills = {}, 0
    while any(not queue.get(number).over for number in wanted):
        worker = started(work, place, tmp_path, "--idle", "0")
        if kills < KILLS:
            until(begun_or_ended(queue, wanted, worker))
            worker.join(random_.uniform(0.0, 0.25))
            until(partial(stopped_before_a_last_attempt, queue, wanted, worker))
            kill(worker)
            kills += 1
        else:
            worker.join()
        now = finished_at(queue)
        assert now.items() >= seen.items()
        seen = now
    assert kills >= 5
    assert [queue.get(number).status for number in wanted] == [JobStatus.DONE] * 12
    assert seen.keys() == {(number, position) for number in wanted for position in range(8)}
    assert all(part.value == {"square": part.position**2} for n in wanted for part in queue.parts(n))
    made = Counter((tmp_path / "log.txt").read_text().splitlines())
    assert len(made) == 12 * 8
    assert made.total() <= 12 * 8 + kills


@IN_A_FILE
def test_a_job_that_kills_its_worker_each_time_ends_as_failed(queue, place, tmp_path):
    """With a sentence, after so many workers; the job behind it is done by the next one."""
    deadly = queue.submit(JobRequest(kind="kill_own_process", request={}, title="deadly")).number
    behind = queue.submit(counting(tmp_path)).number
    for attempt in range(1, MOST_ATTEMPTS + 1):
        worker = started(work, place, tmp_path, "--idle", "0")
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        assert (queue.get(deadly).attempts, queue.get(behind).status) == (attempt, JobStatus.QUEUED)
    worker = started(work, place, tmp_path, "--idle", "0")
    worker.join()
    assert worker.exitcode == 0
    assert queue.get(deadly).status is JobStatus.FAILED
    assert "Its process ended without a word 3 times" in queue.get(deadly).error
    assert queue.get(behind).status is JobStatus.DONE


@IN_A_FILE
def test_when_the_server_is_killed_its_worker_hands_the_job_back(queue, place, tmp_path):
    """The next server's worker does the rest."""
    request = counting(tmp_path, parts=400, seconds=0.02)
    number = queue.submit(request).number
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    worker = started(work, place, tmp_path, "--parent", str(server.pid))
    until(running(queue, number))
    server.kill()
    server.wait()
    worker.join()
    assert worker.exitcode == 0
    job, kept = queue.get(number), finished_at(queue)
    assert (job.status, job.attempts, worker_of(queue.store)) == (JobStatus.QUEUED, 0, None)
    assert 0 < len(kept) < 400
    again = started(work, place, tmp_path)
    until(lambda: len(queue.parts(number)) > len(kept))
    assert finished_at(queue).items() >= kept.items()
    assert queue.get(number).attempts == 1
    queue.cancel(number)
    until(lambda: queue.get(number).status is JobStatus.CANCELLED)
    again.terminate()
    again.join()
    assert again.exitcode == 0


@IN_A_FILE
def test_sigterm_hands_the_job_back(queue, place, tmp_path):
    number = queue.submit(counting(tmp_path, parts=400, seconds=0.02)).number
    worker = started(work, place, tmp_path)
    until(running(queue, number))
    worker.terminate()
    worker.join()
    assert (worker.exitcode, queue.get(number).status, queue.get(number).attempts) == (0, JobStatus.QUEUED, 0)


@IN_A_FILE
def test_cancel_of_a_running_job(queue, place, tmp_path):
    """It stops at its next step and the next one begins; asked for again it goes on from there."""
    request = counting(tmp_path, 0, parts=400, seconds=0.02)
    first, second = queue.submit(request).number, queue.submit(counting(tmp_path, 1, parts=2)).number
    worker = started(work, place, tmp_path, "--idle", "1")
    until(running(queue, first))
    queue.cancel(first)
    worker.join()
    assert [queue.get(n).status for n in (first, second)] == [JobStatus.CANCELLED, JobStatus.DONE]
    kept = finished_at(queue)
    assert queue.submit(request).status is JobStatus.QUEUED
    again = started(work, place, tmp_path)
    until(lambda: len(finished_at(queue)) > len(kept))
    kill(again)
    assert finished_at(queue).items() >= kept.items()


def test_two_workers_at_once_one_stays(queue, place, tmp_path):
    """The second ends at once and quietly; the job is run once."""
    number = queue.submit(counting(tmp_path, parts=30, seconds=0.02)).number
    both = [started(work, place, tmp_path, "--idle", "1") for _ in range(2)]
    until(lambda: any(not worker.is_alive() for worker in both))
    assert sum(worker.is_alive() for worker in both) == 1
    until(lambda: queue.get(number).over)
    for worker in both:
        worker.join()
    assert [worker.exitcode for worker in both] == [0, 0]
    assert (tmp_path / "log.txt").read_text().split("\n")[:-1] == [f"{number} {position}" for position in range(30)]
    assert worker_of(queue.store) is None


def test_thirty_who_ask_at_once_get_one_job(queue, place, tmp_path):
    """From several processes, while a worker works; it is run once."""
    request = counting(tmp_path, parts=5, seconds=0.02)
    asking = [started(submit, place, request, 5) for _ in range(6)]
    worker = started(work, place, tmp_path, "--idle", "2")
    for process in (*asking, worker):
        process.join()
        assert process.exitcode == 0
    assert [job.status for job in queue.jobs()] == [JobStatus.DONE]
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 5


@IN_A_FILE
def test_a_failing_job_does_not_stop_the_others(queue, place, tmp_path):
    """The worker's log has the whole error, the job the short one."""
    bad = queue.submit(JobRequest(kind="fail", request={"how": "bug"}, title="a job with a bug")).number
    good = queue.submit(counting(tmp_path)).number
    worker = started(work, place, tmp_path, "--idle", "0")
    worker.join()
    assert [queue.get(n).status for n in (bad, good)] == [JobStatus.FAILED, JobStatus.DONE]
    assert queue.get(bad).error.startswith("ZeroDivisionError: a bug")
    log = (tmp_path / "worker.log").read_text()
    assert "(a job with a bug) failed" in log
    assert "Traceback" in log
