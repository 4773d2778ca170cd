"""Real processes running the real command line, really killed: no finished point lost, none finished twice."""

import random
import sqlite3

import psutil
import pytest
from sweep_cases import finished, started, until

from woodfisher_core.jobs import JobStatus, StoreQueue
from woodfisher_core.store import Store

POINTS, KILLS = 60, 12
FLAGS = ("sweep", "--model", "digits-mlp", "--device", "cpu", "--json", "--num-samples", "80")
DAMPINGS, LEVELS = "damping=1e-5..1e-1:log:10", "sparsity=0.4..0.9:6"


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "runs.sqlite")
    yield made
    made.close()


def the_sweep(store: Store, *more: str) -> tuple[str, ...]:
    return (*FLAGS, "--vary", DAMPINGS, "--vary", LEVELS, "--store", store.place, *more)


def made_here(queue: StoreQueue, number: int) -> set[str]:
    return {part.key for part in queue.parts(number) if not part.value["reused"]}


def test_killed_at_random_moments_it_continues(store):
    """At the beginning, between points and within them: what was finished stays as it was, to the last time stamp."""
    random_, queue, seen, kills = random.Random(0), StoreQueue(store), {}, 0
    while not (queue.jobs() and queue.get(1).status is JobStatus.DONE):
        process = started(*the_sweep(store))
        if kills < KILLS:
            longest = 0.15
            if kills % 3:  # after some more points, else wherever it is by then
                longest = 0.02  # a point takes no longer on a fast machine; they must last for all kills
                goal = len(seen) + 2 * random_.randint(1, 3)
                until(lambda goal=goal, one=process: len(finished(store)) >= goal or not one.is_alive())
            process.join(random_.uniform(0.0, longest))
            process.kill()
            kills += 1
        process.join()
        now = finished(store)
        assert now.items() >= seen.items()
        seen = now
    assert kills >= 8
    found = queue.parts(1)
    assert [part.position for part in found] == list(range(POINTS))
    assert not any(part.error or part.value["reused"] for part in found)
    assert sorted(store.runs()["id"]) == sorted(part.value["run"] for part in found)
    assert len(store.runs()) == POINTS
    store.close()
    connection = sqlite3.connect(store.place)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_pool_ends_with_its_parent(store):
    """Killed, the command leaves no process behind; started again, without a pool, it does the rest."""
    process = started(*the_sweep(store, "--workers", "2"))
    until(lambda: len(finished(store)) >= 10 or not process.is_alive())
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.join()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    kept = finished(store)
    assert 10 <= len(kept) < 2 * POINTS
    again = started(*the_sweep(store))
    again.join()
    assert again.exitcode == 0
    now = finished(store)
    assert now.items() >= kept.items()
    assert len(now) == 2 * POINTS


def test_two_at_once_compute_each_point_once(store):
    """The same sweep from two terminals is one job; another one that has points in common takes them from it."""
    wider = (*FLAGS, "--vary", DAMPINGS, "--vary", "sparsity=0.5,0.6,0.95", "--store", store.place)
    processes = [started(*the_sweep(store)), started(*the_sweep(store)), started(*wider)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    queue = StoreQueue(store)
    assert sorted(job.total for job in queue.jobs()) == [30, 60]
    assert {job.attempts for job in queue.jobs()} == {1}
    first, second = made_here(queue, 1), made_here(queue, 2)
    assert not first & second
    assert len(first) + len(second) == len(store.runs()) == 70


def test_whoever_follows_takes_over(store):
    """Two terminals, the one that computes is killed: the other goes on."""
    first = started(*the_sweep(store))
    until(lambda: len(finished(store)) >= 4)
    second = started(*the_sweep(store))
    first.join(0.1)
    first.kill()
    first.join()
    kept = finished(store)
    second.join()
    assert second.exitcode == 0
    assert finished(store).items() >= kept.items()
    assert not any(part.value["reused"] for part in StoreQueue(store).parts(1))
    assert len(store.runs()) == POINTS
