"""Gradual runs as jobs: an epoch a part, kept with its network; stopped or killed anywhere, they end on the same bits."""

import json
import multiprocessing
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_record import NETWORK, epoch_values, gradual_record, network_file
from woodfisher_core.jobs import Cancelled, StoreQueue, Task
from woodfisher_core.jobs import gradual as gradual_jobs
from woodfisher_core.jobs import task as tasks
from woodfisher_core.jobs.gradual import gradual_request, run_gradual_job, snapshot_file
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.store import Store, artefacts
from woodfisher_core.store.claims import claim
from woodfisher_core.store.owners import this_owner

SMALL = PruneConfig(model="digits-mlp", num_samples=40, device="cpu")
EPOCHS = 5
SCHEDULE = GradualSchedule(final=0.9, initial=0.5, end_epoch=3)


def work(place: str, number: int) -> None:
    """What a worker does with one job, in a process that the test kills."""
    torch.set_num_threads(1)
    queue = StoreQueue(Store(place))
    run_gradual_job(Task(queue, queue.take(this_owner(), number), Workspace()))


def setting(epochs: int = EPOCHS, **changes) -> GradualConfig:
    return GradualConfig(prune=SMALL.replace(**changes), schedule=SCHEDULE, epochs=epochs).resolved(Workspace())


@pytest.fixture(scope="module")
def whole():
    """(config, result) of a run that nothing disturbed."""
    return run_gradual(setting())


@pytest.fixture
def queue(tmp_path):
    return StoreQueue(Store(tmp_path / "runs.sqlite"))


def begun(queue: StoreQueue, config: GradualConfig, stop=lambda: False) -> Task:
    job = queue.submit(gradual_request(config, "test"))
    return Task(queue, queue.take(this_owner(), job.number), Workspace(), stop)


def numbers(queue: StoreQueue, number: int) -> list[dict]:
    """The parts' values without the seconds, which no two runs share."""
    values = [dict(part.value) for part in queue.parts(number)]
    for value in values:
        assert value.pop("seconds") >= 0.0
    return values


def check_whole(queue: StoreQueue, task: Task, whole) -> None:
    """Parts, run and network are those of the undisturbed run; nothing is left beside the store."""
    config, result = whole
    assert numbers(queue, task.job.number) == [epoch_values(record) for record in result.records]
    run = queue.store.get(queue.store.find(config.key))
    wanted = gradual_record(config, result, 1.0)
    assert (run.headline, run.layers) == (wanted.headline, wanted.layers)
    assert {(m.name, m.step): m for m in run.metrics} == {(m.name, m.step): m for m in wanted.metrics}
    assert artefacts.get(queue.store.folder, run.artefacts[NETWORK]["sha256"]) == network_file(result)
    assert not snapshot_file(queue.store, config).exists()


def test_a_job_is_the_run(queue, whole):
    """Five parts, the last naming the run; origin and progress are told."""
    task = begun(queue, whole[0])
    run_gradual_job(task)
    check_whole(queue, task, whole)
    assert [part.position for part in queue.parts(task.job.number)] == [1, 2, 3, 4, 5]
    assert [part.key for part in queue.parts(task.job.number)] == [None] * 4 + [whole[0].key]
    assert (task.done, task.total) == (EPOCHS, EPOCHS)
    run = queue.store.get(queue.store.find(whole[0].key))
    assert (run.origin, run.kind) == ("test", "gradual")
    assert sum(run.seconds.values()) == pytest.approx(
        sum(part.value["seconds"] for part in queue.parts(task.job.number))
    )


def test_the_network_of_a_run(queue, whole):
    """What is kept loads again: zeros where the masks say so, everything else of the network beside them."""
    task = begun(queue, whole[0])
    run_gradual_job(task)
    run = queue.store.get(queue.store.find(whole[0].key))
    tensors = load(artefacts.get(queue.store.folder, run.artefacts[NETWORK]["sha256"]))
    state = whole[1].state_dict()
    assert all(tensors[name].equal(tensor) for name, tensor in state.items())
    masks = {name.removesuffix(".mask"): tensor for name, tensor in tensors.items() if name.endswith(".mask")}
    assert len(tensors) == len(state) + len(masks)
    assert not any(tensors[name][~mask].any() for name, mask in masks.items())
    assert sum(int(mask.sum()) for mask in masks.values()) == sum(row["kept"] for row in run.layers)


@pytest.mark.parametrize("looks", [1, 4, 30, 60, 90])
def test_stopped_anywhere_it_goes_on(queue, whole, monkeypatch, looks):
    """Told to stop at any of its looks, within an epoch too, it stops there; the next process ends on the same bits."""
    monkeypatch.setattr(tasks, "TELL_SECONDS", 0.0)
    left = iter(range(looks))
    task = begun(queue, whole[0], lambda: next(left, None) is None)
    with pytest.raises(Cancelled):
        run_gradual_job(task)
    first = queue.parts(task.job.number)
    assert len(first) < EPOCHS
    assert queue.store.find(whole[0].key) is None
    queue.hand_back(task.job.number, task.job.owner)
    again = begun(queue, whole[0])
    run_gradual_job(again)
    check_whole(queue, again, whole)
    assert queue.parts(task.job.number)[: len(first)] == first


def test_it_looks_within_an_epoch(queue, whole, monkeypatch):
    """Far more often than there are epochs: whoever stops a long one does not wait for its end."""
    monkeypatch.setattr(tasks, "TELL_SECONDS", 0.0)
    looks = []
    run_gradual_job(begun(queue, whole[0], lambda: bool(looks.append(0))))
    assert len(looks) > 20 * EPOCHS


def test_cancelled_by_someone(queue, whole, monkeypatch):
    """A cancelled job keeps what it had; asked for again it goes on from there."""
    monkeypatch.setattr(tasks, "TELL_SECONDS", 0.0)
    task = begun(queue, whole[0])
    said = []

    def stop() -> bool:
        if len(queue.parts(task.job.number)) == 2 and not said:
            said.append(queue.cancel(task.job.number))
        return False

    task._stop = stop
    with pytest.raises(Cancelled):
        run_gradual_job(task)
    assert len(queue.parts(task.job.number)) == 2
    assert snapshot_file(queue.store, whole[0]).exists()
    queue.hand_back(task.job.number, task.job.owner)
    assert queue.get(task.job.number).status.value == "cancelled"
    again = begun(queue, whole[0])
    run_gradual_job(again)
    check_whole(queue, again, whole)


def stopped_after(queue: StoreQueue, config: GradualConfig, epochs: int) -> Task:
    """A job whose process ended after so many parts."""
    task = begun(queue, config)
    keep = task.keep

    def keeping(*arguments) -> None:
        keep(*arguments)
        if task.done == epochs:
            raise Cancelled

    task.keep = keeping
    with pytest.raises(Cancelled):
        run_gradual_job(task)
    queue.hand_back(task.job.number, task.job.owner)
    return task


def test_a_part_that_was_not_kept_is_kept_later(queue, whole):
    """A process killed between an epoch's snapshot and its part loses neither."""
    task = stopped_after(queue, whole[0], 3)
    with queue.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM parts WHERE position = 3")
    again = begun(queue, whole[0])
    run_gradual_job(again)
    check_whole(queue, again, whole)
    assert again.done == EPOCHS
    assert task.job.number == again.job.number


@pytest.mark.parametrize("how", ["cut", "gone", "flipped"])
def test_a_damaged_snapshot_costs_only_time(queue, whole, how):
    """It is thrown away and the run starts afresh, to the same numbers."""
    stopped_after(queue, whole[0], 3)
    file = snapshot_file(queue.store, whole[0])
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[-3] ^= 255
        file.write_bytes(content[:100] if how == "cut" else content)
    again = begun(queue, whole[0])
    run_gradual_job(again)
    check_whole(queue, again, whole)


def test_a_run_that_is_there_is_only_told(queue, whole, monkeypatch):
    """Parts come from its metrics, equal to those of the run itself; nothing is pruned or trained."""
    config, result = whole
    queue.store.save(gradual_record(config, result, 1.0))

    def never(*_arguments, **_options):
        raise AssertionError("computed again")

    monkeypatch.setattr(gradual_jobs, "run_gradual", never)
    task = begun(queue, config)
    run_gradual_job(task)
    assert numbers(queue, task.job.number) == [epoch_values(record) for record in result.records]
    assert queue.parts(task.job.number)[-1].key == config.key
    assert (task.done, task.total) == (EPOCHS, EPOCHS)


def test_another_process_at_the_same_run(queue, whole):
    """It is waited for, and its run taken once it is there."""
    config, result = whole
    assert claim(queue.store, config.key, "another machine|1|1")
    task = begun(queue, config)
    waits = []

    def saying(message: str) -> None:
        waits.append(message)
        if len(waits) == 2:
            queue.store.save(gradual_record(config, result, 1.0))

    task.say = saying
    run_gradual_job(task)
    assert waits == ["another process is computing this run"] * 2
    assert numbers(queue, task.job.number) == [epoch_values(record) for record in result.records]


def test_killed_at_random_moments(queue):
    """SIGKILL several times over: each time it goes on, no finished epoch changes, and the end is the undisturbed run's."""
    generator = random.Random(1)
    config = setting(epochs=40, seed=3)
    number = queue.submit(gradual_request(config)).number
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([gradual_jobs.__name__])
    kept, kills = {}, 0
    while queue.store.find(config.key) is None:
        process = processes.Process(target=work, args=(queue.store.place, number))
        process.start()
        wanted = len(kept) + generator.randint(1, 4)
        while process.is_alive() and len(queue.parts(number)) < wanted:
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.1))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        parts = {part.position: part for part in queue.parts(number)}
        assert len(parts) >= wanted or process.exitcode == 0
        assert all(parts[position] == part for position, part in kept.items())
        kept = parts
    assert kills >= 3
    check_whole(queue, Task(queue, queue.get(number), Workspace()), run_gradual(config))


def test_requests():
    """Equal configs are one request; it is plain JSON and says in words what it is."""
    request = gradual_request(setting())
    assert gradual_request(GradualConfig.from_dict(json.loads(json.dumps(request.request)))).key == request.key
    assert gradual_request(setting(seed=1)).key != request.key
    assert request.title == "WoodFisher (OBS) on digits-mlp: to sparsity 0.9 in 3 steps, 5 epochs"
