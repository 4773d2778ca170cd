"""A job run here: whatever it comes to, the store says so in words."""

import logging
import re

import pytest
from job_kinds import counting

from woodfisher_core.errors import StoreError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.jobs import JobRequest, JobStatus, Part, kinds, runner
from woodfisher_core.jobs.prune import prune_request
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.store.owners import this_owner

pytestmark = pytest.mark.usefixtures("own_kinds")
ME = this_owner()
SMALL = PruneConfig(model="digits-mlp", method="magnitude", sparsity=0.5, held_out=0)


@pytest.fixture
def place(tmp_path):
    """A file: what is tested here is the same on every backend."""
    return str(tmp_path / "runs.sqlite")


def run(queue, request: JobRequest, **options):
    queue.submit(request)
    job = queue.take(ME)
    status = run_job(queue, job, Workspace(), **options)
    found = queue.get(job.number)
    assert found.status is status
    return found


def failing(how: str) -> JobRequest:
    return JobRequest(kind="fail", request={"how": how}, title="fail")


def test_a_run_is_kept_and_found_again(queue):
    """The part names the run; the same config through another job is not computed again."""
    job = run(queue, prune_request(SMALL, "page"))
    (part,) = queue.parts(job.number)
    record = queue.store.get(part.value["run"])
    assert (job.status, job.done, job.total, job.owner) == (JobStatus.DONE, 1, 1, None)
    assert (part.value["reused"], part.key, record.origin) == (False, record.key, "page")
    other = run(queue, JobRequest(kind="prune", request=SMALL.replace(device="cpu").to_dict(), title="the same"))
    assert queue.parts(other.number) == [Part(0, {"run": part.value["run"], "reused": True}, record.key)]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("input", r"^knob: turn it\.$"),
        ("memory", "out of memory: .*Lower"),
        ("bug", "(?s)ZeroDivisionError: a bug\n.*line"),
    ],
)
def test_an_error_ends_the_job_in_words(queue, caplog, how, expected):
    """Those written for people as they are, others with the last steps; the log has all of it."""
    with caplog.at_level(logging.ERROR):
        job = run(queue, failing(how))
    assert job.status is JobStatus.FAILED
    assert re.search(expected, job.error)
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (JobRequest(kind="no such", request={}, title=""), "kind of job: expected one of prune"),
        (JobRequest(kind="prune", request={"colour": 1}, title=""), "unknown field colour"),
    ],
    ids=["kind", "field"],
)
def test_a_request_that_came_past_the_check_fails_in_words(queue, request_, expected):
    job = run(queue, request_)
    assert job.status is JobStatus.FAILED
    assert expected in job.error


def test_a_process_that_has_to_end_hands_its_job_back(queue, tmp_path, monkeypatch):
    """What was done is kept; the next one does the rest."""
    monkeypatch.setattr("woodfisher_core.jobs.task.TELL_SECONDS", 0.0)
    asked = iter([False, False, False, True])
    job = run(queue, counting(tmp_path, parts=5), stop=lambda: next(asked))
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    kept = queue.parts(job.number)
    assert 0 < len(kept) < 5
    assert run(queue, counting(tmp_path, parts=5)).status is JobStatus.DONE
    lines = (tmp_path / "log.txt").read_text().split("\n")[:-1]
    assert lines == [f"{job.number} {position}" for position in range(5)]


def test_stopped_after_its_last_part_it_is_done(queue, tmp_path, monkeypatch):
    """Nothing is left to stop."""
    monkeypatch.setattr("woodfisher_core.jobs.task.TELL_SECONDS", 0.0)
    queue.submit(counting(tmp_path, parts=1))
    job = queue.take(ME)
    cancel_at = iter([False])  # asked once, when the number of parts is known

    def stop() -> bool:
        queue.cancel(job.number)
        return next(cancel_at)

    assert run_job(queue, job, Workspace(), stop) is JobStatus.DONE
    assert queue.get(job.number).cancel is False


def test_ctrl_c_hands_back_and_goes_on_up(queue, monkeypatch):
    def interrupted(task):
        raise KeyboardInterrupt

    monkeypatch.setitem(kinds.KINDS, "fail", kinds.JobKind("fail", "", "", interrupted, dict))
    queue.submit(failing("bug"))
    job = queue.take(ME)
    with pytest.raises(KeyboardInterrupt):
        run_job(queue, job, Workspace())
    assert (queue.get(job.number).status, queue.get(job.number).attempts) == (JobStatus.QUEUED, 0)


@pytest.fixture
def full_disk(queue, monkeypatch):
    """A switch: while it is on, nothing can be written to the store (its own text, as SQLite says it)."""
    writing, switch = queue.store.writing, {"on": False, "tries": 0}

    def refused():
        if not switch["on"]:
            return writing()
        switch["tries"] += 1
        if switch["tries"] == switch.get("room at"):
            switch["on"] = False
        raise StoreError("store: runs.sqlite could not be written, the disk may be full.")

    monkeypatch.setattr(queue.store, "writing", refused)
    monkeypatch.setattr(runner, "PAUSES", (0.0, 0.0, 0.0))
    return switch


def filling(full_disk, monkeypatch, finish):
    """A job of two parts; the disk is full after the first."""

    def two_parts(task):
        task.expect(2, len(task.before))
        for position in {0, 1} - set(task.before):
            finish(task, position)
            full_disk["on"] = not task.before

    monkeypatch.setitem(kinds.KINDS, "fail", kinds.JobKind("fail", "", "", two_parts, dict))
    return failing("disk")


def test_a_disk_that_fills_up_ends_the_job_in_words_where_it_can(queue, full_disk, monkeypatch):
    """The end waits for room; asked for again the job goes on from its parts."""
    full_disk["room at"] = 3
    request = filling(full_disk, monkeypatch, lambda task, position: task.keep(Part(position, {})))
    job = run(queue, request)
    assert job.status is JobStatus.FAILED
    assert "the disk may be full" in job.error
    assert [part.position for part in queue.parts(job.number)] == [0]
    assert run(queue, request).status is JobStatus.DONE
    assert [part.position for part in queue.parts(job.number)] == [0, 1]


def test_a_disk_that_stays_full_ends_the_process_not_the_job(queue, full_disk, monkeypatch):
    """Its process must end; then the job counts as interrupted, and the next process takes it up."""
    request = filling(full_disk, monkeypatch, lambda task, position: task.keep(Part(position, {})))
    queue.submit(request)
    job = queue.take(ME)
    with pytest.raises(StoreError, match="disk may be full"):
        run_job(queue, job, Workspace())
    full_disk["on"] = False
    assert queue.get(job.number).status is JobStatus.RUNNING
    monkeypatch.setattr("woodfisher_core.jobs.queue.is_alive", lambda owner, heartbeat: owner != ME)
    assert run_job(queue, queue.take(ME), Workspace()) is JobStatus.DONE


def test_progress_that_cannot_be_written_stops_nothing(queue, full_disk, monkeypatch):
    """Only what is finished must be."""
    monkeypatch.setattr("woodfisher_core.jobs.task.TELL_SECONDS", 0.0)

    def chatty(task, position):
        full_disk["on"] = True
        task.say("nobody hears this")
        full_disk["on"] = False
        task.keep(Part(position, {}))

    request = filling({}, monkeypatch, chatty)
    assert run(queue, request).status is JobStatus.DONE
    assert full_disk["tries"] > 0
