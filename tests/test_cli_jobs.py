"""``python -m woodfisher_core jobs``: what it lists, stops, removes, runs and refuses."""

import json
import signal

import pytest

from woodfisher_core import cli
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.jobs import JobRequest, JobStatus, Part, StoreQueue
from woodfisher_core.jobs import worker as workers
from woodfisher_core.jobs.prune import prune_request
from woodfisher_core.jobs.queue import add_part
from woodfisher_core.store import Store
from woodfisher_core.store.claims import claim
from woodfisher_core.store.owners import this_owner

SMALL = PruneConfig(model="digits-mlp", method="magnitude", sparsity=0.5, held_out=0)


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "runs.sqlite"))
    store = Store()
    yield StoreQueue(store)
    store.close()


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["jobs", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def asked(title: str) -> JobRequest:
    return JobRequest(kind="prune", request={"title": title}, title=title)


@pytest.fixture
def four(queue):
    """One that runs (2 of 8 parts, one with an error), one that waits, one cancelled, one failed."""
    numbers = [queue.submit(asked(title)).number for title in ("one", "two", "three", "four")]
    queue.take(this_owner())
    queue.tell(numbers[0], this_owner(), done=2, total=8, message="gradients: 3 of 10")
    with queue.store.writing() as connection:
        add_part(connection, numbers[0], Part(0, {}))
        add_part(connection, numbers[0], Part(1, {}, error="damping: too small"))
    queue.cancel(numbers[2])
    queue.take(this_owner(), numbers[3])
    queue.finish(numbers[3], this_owner(), JobStatus.FAILED, "knob: turn it.")
    return numbers


def test_an_empty_list_says_where_it_looked(capsys, queue):
    assert run(capsys, "list") == (0, f"no jobs in {queue.store.url.database}\n", "")
    assert run(capsys, "list", "--json") == (0, "[]\n", "")


def test_list(capsys, four):
    """In the order in which they will run, then the newest finished; and that nobody works on them."""
    status, out, err = run(capsys, "list")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert [line.split()[1] for line in lines[:4]] == ["Running", "Waiting", "Failed", "Cancelled"]
    assert [line.split()[-1] for line in lines[:4]] == ["one", "two", "four", "three"]
    assert "2 of 8, 0 s left" in lines[0]
    assert "1 before it, in 0 s" in lines[1]
    assert "jobs work" in lines[4]
    found = json.loads(run(capsys, "list", "--json")[1])
    assert [job["number"] for job in found] == [four[0], four[1], four[3], four[2]]
    assert [job["status"] for job in found] == ["running", "queued", "failed", "cancelled"]


def test_show(capsys, four):
    """Readable, with what went wrong in its parts; or one JSON object."""
    _, out, _ = run(capsys, "show", str(four[0]))
    assert "job 1: one" in out
    assert "doing       gradients: 3 of 10" in out
    assert "part 1      damping: too small" in out
    assert "error       knob: turn it." in run(capsys, "show", str(four[3]))[1]
    found = json.loads(run(capsys, "show", str(four[0]), "--json")[1])
    assert (found["done"], found["total"], found["request"]) == (2, 8, {"title": "one"})
    assert found["failed_parts"] == [{"position": 1, "error": "damping: too small"}]


def test_cancel_and_remove(capsys, queue, four):
    assert run(capsys, "cancel", "1")[1] == "job 1 will stop at its next step\n"
    assert run(capsys, "cancel", "2")[1] == "job 2 is cancelled\n"
    assert run(capsys, "cancel", "4")[1] == "job 4 was failed already\n"
    assert run(capsys, "remove", "2") == (0, "job 2 is removed\n", "")
    assert [job.number for job in queue.jobs()] == [1, 4, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "9"), "job: expected the number of one in"),
        (("cancel", "9"), "got 9. See: jobs list."),
        (("remove", "1"), "Stop it first: jobs cancel 1"),
        (("work", "--idle", "-1"), "idle: expected seconds of at least 0"),
        (("list", "--store", "mysql://here"), "store: expected a file's path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused_in_one_line(capsys, four, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out, len(four)) == (2, "", 4)
    assert message in err.splitlines()[-1]


@pytest.fixture
def as_it_was(monkeypatch):
    """The test process keeps its priority and its signals."""
    monkeypatch.setattr(workers, "lower_priority", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("as_it_was")
def test_work(capsys, queue):
    """What waits is run in this terminal, each end said on standard error."""
    good = queue.submit(prune_request(SMALL)).number
    queue.submit(asked("bad"))
    status, out, err = run(capsys, "work", "--idle", "0")
    assert (status, out) == (0, "")
    assert f"job {good} done: magnitude on digits-mlp at sparsity 0.5" in err
    assert "unknown field title" in err
    assert [job.status for job in queue.jobs()] == [JobStatus.FAILED, JobStatus.DONE]
    assert len(queue.store.runs()) == 1


@pytest.mark.usefixtures("as_it_was")
def test_work_beside_another_worker(capsys, queue):
    claim(queue.store, workers.CLAIM, "elsewhere|1|1.00")
    status, out, err = run(capsys, "work", "--idle", "0")
    assert (status, out) == (2, "")
    assert "another one works on this store already" in err
