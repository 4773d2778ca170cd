"""The queue: asked for once, begun once, in order, and never lost."""

import pytest
import sqlalchemy as sa

from woodfisher_core.errors import InputError
from woodfisher_core.jobs import Cancelled, JobRequest, JobStatus, Part, StoreQueue, Task
from woodfisher_core.jobs.queue import MOST_ATTEMPTS, add_part
from woodfisher_core.store import RunRecord, Store
from woodfisher_core.store.owners import this_owner
from woodfisher_core.store.schema import jobs, parts

ME = this_owner()
DEAD = ME.replace("|", "|99", 1).rsplit("|", 1)[0] + "|1.00"  # a process of this machine that cannot be


def asked(name: str) -> JobRequest:
    return JobRequest(kind="count", request={"name": name}, title=name)


def keep(queue: StoreQueue, number: int, *positions: int, key: str | None = None) -> None:
    with queue.store.writing() as connection:
        for position in positions:
            add_part(connection, number, Part(position, {}, key))


def set_job(queue: StoreQueue, number: int, **values) -> None:
    with queue.store.writing() as connection:
        connection.execute(jobs.update().where(jobs.c.id == number).values(**values))


def a_run(key: str) -> RunRecord:
    about = {"model": "m", "dataset": "d", "method": "x"}
    return RunRecord(kind="prune", key=key, config={"seed": 1}, about=about)


def test_equal_requests_are_one_job(queue):
    """Whatever the order of their fields and whoever asks; another request is another job, behind it."""
    one = queue.submit(JobRequest(kind="count", request={"a": 1, "b": [2]}, title="one", origin="page"))
    same = queue.submit(JobRequest(kind="count", request={"b": [2], "a": 1}, title="else"))
    other = queue.submit(asked("other"))
    assert same == one
    assert (one.status, one.ahead, one.title, one.origin, one.request) == (
        *(JobStatus.QUEUED, 0, "one", "page"),
        {"a": 1, "b": [2]},
    )
    assert (other.number != one.number, other.ahead) == (True, 1)
    assert queue.find(asked("never")) is None
    assert queue.find(asked("other")) == other


def test_jobs_are_taken_in_order_and_once(queue):
    """Those that run or wait are listed in their order, then the newest finished."""
    names = ["a", "b", "c", "d"]
    numbers = [queue.submit(asked(name)).number for name in names]
    assert queue.take(ME, numbers[2]).title == "c"
    first = queue.take(ME)
    assert (first.title, first.status, first.attempts, first.owner) == ("a", JobStatus.RUNNING, 1, ME)
    assert [(job.title, job.ahead) for job in queue.jobs()] == [("a", 0), ("c", 0), ("b", 2), ("d", 3)]
    assert queue.take(ME, numbers[0]) is None
    queue.finish(numbers[0], ME, JobStatus.DONE)
    queue.finish(numbers[2], ME, JobStatus.FAILED, "why")
    assert [job.title for job in queue.jobs()] == ["b", "d", "c", "a"]
    assert [queue.take(ME).title, queue.take(ME).title, queue.take(ME)] == ["b", "d", None]
    assert queue.get(numbers[2]).error == "why"


def test_what_ended_badly_is_begun_again_behind_the_others(queue):
    """A finished job stays finished; a failed or cancelled one waits again, with its parts."""
    done, failed, cancelled, waits = (queue.submit(asked(name)).number for name in "abcd")
    queue.take(ME, done)
    queue.finish(done, ME, JobStatus.DONE)
    queue.take(ME, failed)
    keep(queue, failed, 0)
    queue.finish(failed, ME, JobStatus.FAILED, "why")
    queue.cancel(cancelled)
    assert queue.get(cancelled).status is JobStatus.CANCELLED
    assert queue.submit(asked("a")).status is JobStatus.DONE
    again = queue.submit(asked("b"))
    assert (again.number, again.status, again.error, again.attempts) == (failed, JobStatus.QUEUED, None, 0)
    assert queue.submit(asked("c")).ahead == 2
    assert [job.number for job in queue.jobs()] == [waits, failed, cancelled, done]
    assert [part.position for part in queue.parts(failed)] == [0]


def test_a_finished_job_whose_runs_were_deleted_makes_them_again(queue):
    """The parts that are lost or ended in an error, and no others: parts that are no runs stay."""
    number = queue.submit(asked("a")).number
    queue.take(ME)
    one, two = queue.store.save(a_run("1" * 64)), queue.store.save(a_run("2" * 64))
    keep(queue, number, 0, key="1" * 64)
    keep(queue, number, 1, key="2" * 64)
    keep(queue, number, 2)
    with queue.store.writing() as connection:
        add_part(connection, number, Part(3, {}, "3" * 64, "went wrong"))
    queue.finish(number, ME, JobStatus.DONE)
    assert queue.submit(asked("a")).status is JobStatus.QUEUED
    assert [part.position for part in queue.parts(number)] == [0, 1, 2]
    queue.take(ME)
    queue.finish(number, ME, JobStatus.DONE)
    assert queue.submit(asked("a")).status is JobStatus.DONE
    queue.store.delete([two])
    assert queue.submit(asked("a")).status is JobStatus.QUEUED
    assert [part.position for part in queue.parts(number)] == [0, 2]
    assert queue.store.find("1" * 64) == one


def test_cancel(queue):
    """One that waits ends at once, one that runs at its next step, one that is over stays as it is."""
    waits, runs = queue.submit(asked("a")).number, queue.submit(asked("b")).number
    task = Task(queue, queue.take(ME, runs), None)
    queue.cancel(waits)
    queue.cancel(runs)
    assert queue.get(waits).status is JobStatus.CANCELLED
    assert (queue.get(runs).status, queue.get(runs).cancel) == (JobStatus.RUNNING, True)
    with pytest.raises(Cancelled):
        task.expect(2)
    assert queue.hand_back(runs, ME) is JobStatus.CANCELLED
    queue.cancel(runs)
    assert queue.get(runs).status is JobStatus.CANCELLED
    with pytest.raises(InputError, match="got 99"):
        queue.cancel(99)


def test_asked_for_again_while_it_stops_it_goes_on(queue):
    """The last word counts, even where the job has begun to stop."""
    number = queue.submit(asked("a")).number
    queue.take(ME)
    queue.cancel(number)
    assert queue.submit(asked("a")).cancel is False
    assert queue.tell(number, ME, done=1, total=2, message="") is True
    queue.cancel(number)
    assert queue.tell(number, ME, done=1, total=2, message="") is False
    queue.submit(asked("a"))
    assert queue.hand_back(number, ME) is JobStatus.QUEUED


def test_handed_back_it_waits_first_as_if_never_begun(queue):
    first, second = queue.submit(asked("a")).number, queue.submit(asked("b")).number
    queue.take(ME)
    assert queue.hand_back(first, ME) is JobStatus.QUEUED
    job = queue.get(first)
    assert (job.attempts, job.started, job.owner, job.ahead) == (0, None, None, 0)
    assert [job.number for job in queue.jobs()] == [first, second]


def test_a_dead_owners_job_waits_again_until_it_died_too_often(queue):
    """Each death counts; a part finished in between begins the count anew."""
    number = queue.submit(asked("a")).number
    for attempt in range(1, MOST_ATTEMPTS):
        assert queue.take(DEAD).attempts == attempt
        queue.revive()
        assert (queue.get(number).status, queue.get(number).attempts) == (JobStatus.QUEUED, attempt)
    assert queue.take(DEAD).attempts == MOST_ATTEMPTS
    keep(queue, number, 0)
    queue.revive()
    assert (queue.get(number).status, queue.get(number).attempts) == (JobStatus.QUEUED, 0)
    for _ in range(MOST_ATTEMPTS):
        assert queue.take(DEAD) is not None
    assert queue.take(DEAD) is None
    job = queue.get(number)
    assert job.status is JobStatus.FAILED
    assert f"ended without a word {MOST_ATTEMPTS} times" in job.error
    assert [part.position for part in queue.parts(number)] == [0]


def test_a_dead_owners_job_that_someone_stopped_is_cancelled(queue):
    number = queue.submit(asked("a")).number
    queue.take(DEAD)
    queue.cancel(number)
    queue.revive()
    assert queue.get(number).status is JobStatus.CANCELLED


def test_a_process_taken_for_dead_changes_nothing_any_more(queue):
    """It is told to stop at its next step, and neither its parts nor its end count."""
    number = queue.submit(asked("a")).number
    late = Task(queue, queue.take(DEAD), None)
    mine = queue.take(ME)
    assert mine.number == number
    with pytest.raises(Cancelled):
        late.keep(Part(0, {}), a_run("1" * 64))
    with pytest.raises(Cancelled):
        late.expect(7, 5)
    queue.finish(number, DEAD, JobStatus.FAILED, "late")
    assert queue.hand_back(number, DEAD) is JobStatus.RUNNING
    job = queue.get(number)
    assert (job.status, job.owner, job.done, job.error) == (JobStatus.RUNNING, ME, 0, None)
    assert queue.parts(number) == []
    assert queue.store.find("1" * 64) is None


def test_another_machines_job_is_its_own_while_it_is_heard_of(queue):
    number = queue.submit(asked("a")).number
    queue.take("elsewhere|1|1.00")
    queue.revive()
    assert queue.get(number).status is JobStatus.RUNNING
    set_job(queue, number, heartbeat=1.0)
    queue.revive()
    assert queue.get(number).status is JobStatus.QUEUED


def set_times(queue: StoreQueue, number: int, *, started: float, finished: list[float]) -> None:
    """The job begun ``started`` seconds ago, its parts finished so many seconds ago."""
    now = queue.get(number).started
    set_job(queue, number, started=now - started)
    keep(queue, number, *range(len(finished)))
    with queue.store.writing() as connection:
        for position, ago in enumerate(finished):
            mine = sa.and_(parts.c.job == number, parts.c.position == position)
            connection.execute(parts.update().where(mine).values(created=now - ago))


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        ([], None),
        ([90.0], None),  # by an earlier attempt
        ([30.0, 10.0], 40.0 / 2 * 6),
        ([90.0, 80.0, 30.0, 10.0], 40.0 / 2 * 4),
        ([39.0] * 100 + [20.0 - i for i in range(20)], 39.0 / 20 * 10),  # found quickly, then computed slowly
    ],
    ids=["nothing yet", "before", "two", "resumed", "found"],
)
def test_time_left_is_at_the_pace_of_this_attempts_last_parts(queue, finished, expected):
    """Begun 40 seconds ago; the one behind it begins when it is done."""
    number, behind = queue.submit(asked("a")).number, queue.submit(asked("b")).number
    last = queue.submit(asked("c")).number
    queue.take(ME)
    done = len(finished)
    queue.tell(number, ME, done=done, total=8 if done < 8 else done + 10, message="half-way")
    set_times(queue, number, started=40.0, finished=finished)
    left = queue.get(number).seconds_left
    if expected is None:
        assert left is None
        assert queue.get(behind).seconds_left is None
    else:
        assert left == pytest.approx(expected, rel=0.1)
        assert queue.get(behind).seconds_left == pytest.approx(left, rel=0.1)
    assert queue.get(last).seconds_left is None
    assert queue.get(number).message == "half-way"


def test_remove(queue):
    """Only what is over; its runs stay, and it can be asked for anew."""
    number = queue.submit(asked("a")).number
    with pytest.raises(InputError, match=f"Stop it first: jobs cancel {number}"):
        queue.remove(number)
    queue.take(ME)
    run = queue.store.save(a_run("1" * 64))
    keep(queue, number, 0, key="1" * 64)
    queue.finish(number, ME, JobStatus.DONE)
    queue.remove(number)
    assert queue.jobs() == []
    assert queue.parts(number) == []
    assert queue.store.find("1" * 64) == run
    assert queue.submit(asked("a")).status is JobStatus.QUEUED


def test_closed_and_opened_again_it_is_the_same(queue, place):
    queue.submit(asked("a"))
    queue.take(ME)
    keep(queue, 1, 0, 5)
    queue.submit(asked("b"))
    before = queue.jobs()
    queue.store.close()
    again = StoreQueue(Store(place))
    assert [(job.number, job.status, job.title) for job in again.jobs()] == [
        (job.number, job.status, job.title) for job in before
    ]
    assert [part.position for part in again.parts(1, after=0)] == [5]
    again.store.close()
