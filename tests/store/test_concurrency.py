"""Many processes, threads and forks on one store; some of them killed."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from samples import PROCESSES, is_whole, sample, save_many, together

from woodfisher_core.store import Store
from woodfisher_core.store.claims import claim, release
from woodfisher_core.store.files import check_file
from woodfisher_core.store.owners import is_alive, this_owner


def test_processes_write_at_once(place):
    """Four processes, 300 runs each, every third of them everyone's: none is lost, none is there twice."""
    shared = range(0, 100)
    own = [range(1000 * i, 1000 * i + 200) for i in range(1, 5)]
    codes = together(save_two, *((place, seeds, shared) for seeds in own))
    assert codes == [0, 0, 0, 0]
    store = Store(place)
    found = store.runs()
    assert sorted(found["seed"]) == sorted([*shared, *(seed for seeds in own for seed in seeds)])
    assert len(store.metrics()) == 12 * len(found)
    by_seed = dict(zip(found["seed"], found["id"], strict=True))
    assert all(is_whole(store, by_seed[seed], seed) for seed in (0, 99, 1000, 4199))
    store.close()


def save_two(place: str, own: range, shared: range, barrier) -> None:
    """Its own runs and the shared ones, in turns."""
    barrier.wait()
    store = Store(place)
    for i, seed in enumerate(own):
        store.save(sample(seed))
        if i < len(shared):
            store.save(sample(shared[i]))
    store.close()


@pytest.mark.parametrize("attempt", range(5))
def test_processes_create_it_at_once(place, attempt):
    """Six processes find nothing there at the same moment; all make one store."""
    codes = together(save_many, *((place, range(i, i + 2)) for i in range(0, 12, 2)))
    assert codes == [0] * 6
    store = Store(place)
    assert sorted(store.runs()["seed"]) == list(range(12))
    store.close()


@pytest.mark.parametrize("kills", [20])
def test_a_killed_writer_loses_nothing_it_was_told(place, tmp_path, kills):
    """SIGKILL at random moments: what ``save`` returned for is there, and whatever is there is whole."""
    chance, log = random.Random(0), tmp_path / "log"
    log.touch()
    killed_at_work = 0
    for attempt in range(kills):
        before = log.stat().st_size
        writer = PROCESSES.Process(
            target=save_many, args=(place, range(10_000 * attempt, 10_000 * attempt + 5000), None, str(log))
        )
        writer.start()
        # Some before they open the store, the rest while they write.
        if attempt % 5:
            while writer.is_alive() and log.stat().st_size == before:
                time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.06))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        killed_at_work += writer.exitcode == -signal.SIGKILL
        if "://" not in place:
            check_file(Path(place))
    assert killed_at_work == kills
    told = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    store = Store(place)
    found = store.runs()
    assert len(told) >= kills / 2
    assert all(is_whole(store, number, seed) for seed, number in told)
    assert all(is_whole(store, number, seed) for number, seed in zip(found["id"], found["seed"], strict=True))
    assert len(told) <= len(found) <= len(told) + kills
    store.close()


def test_threads_share_one_store(store):
    """Twenty-four threads save and read at once."""
    problems = []

    def work(first: int) -> None:
        try:
            for seed in range(first, first + 5):
                assert is_whole(store, store.save(sample(seed)), seed)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(store.runs()) == 120


FORKING = """
import os, sys
from samples import sample, is_whole
from woodfisher_core.store import Store
store = Store(sys.argv[1])
numbers = [store.save(sample(0))]
with store.reading() as held:  # a connection in use and one at rest, both the parent's
    child = os.fork()
    if child == 0:
        ok = is_whole(store, numbers[0], 0) and all(store.save(sample(seed)) for seed in range(1, 30))
        os._exit(0 if ok else 1)
    for seed in range(30, 60):
        store.save(sample(seed))
    assert os.waitpid(child, 0)[1] == 0
assert sorted(store.runs()["seed"]) == list(range(60))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_opens_connections_of_its_own(place):
    """Parent and child go on with the same store, neither disturbs the other."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, place], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_readers_see_one_moment(store):
    """What is written during a reading is not seen in it."""
    from sqlalchemy import func, select

    from woodfisher_core.store.schema import runs

    store.save(sample(0))
    counted = select(func.count()).select_from(runs)
    with store.reading() as connection:
        assert connection.execute(counted).scalar() == 1
        store.save(sample(1))
        assert connection.execute(counted).scalar() == 1
    assert len(store.runs()) == 2


def test_one_process_has_a_claim(place):
    """Of six that want a key at once one gets it; a dead one's passes on."""
    results = Path(place).parent if "://" not in place else None
    store = Store(place)
    with PROCESSES.Manager() as manager:
        won = manager.list()
        assert together(want, *((place, won) for _ in range(6))) == [0] * 6
        assert sum(won) == 1
    assert results is None or results.is_dir()
    assert claim(store, "a key")
    assert not claim(store, "a key", "another host|1|1")
    release(store, "a key")
    assert claim(store, "a key", "another host|1|1")
    assert not claim(store, "a key")
    store.close()


def want(place: str, won, barrier) -> None:
    """Tries to take the claim, and stays until everyone has."""
    store = Store(place)
    barrier.wait()
    got = claim(store, "a key")
    won.append(got)
    barrier.wait()
    store.close()


def test_owners_are_told_apart():
    """This process lives; one with its number that began at another time, or that ended, does not."""
    host, pid, started = this_owner().rsplit("|", 2)
    assert is_alive(this_owner(), 0)
    assert not is_alive(f"{host}|{pid}|0{started}", time.time())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_alive(f"{host}|{ended.pid}|{started}", time.time())
    assert is_alive(f"elsewhere|{pid}|{started}", time.time())
    assert not is_alive(f"elsewhere|{pid}|{started}", time.time() - 1000)
