"""Sweeps in one process and on executors: the right numbers, computed once, whatever fails or is stopped between."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sweep_cases import BASE, begun, finished, grid, shown, weights_file

from woodfisher_core.errors import NumericalError, StoreError
from woodfisher_core.experiments import PruneConfig, Workspace, materials
from woodfisher_core.experiments import workspace as workspaces
from woodfisher_core.experiments.remember import remembered
from woodfisher_core.jobs import Cancelled, JobStatus
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.store import Status, Store
from woodfisher_core.store.claims import claim
from woodfisher_core.store.schema import claims
from woodfisher_core.sweeps import WorkerPool, resolved, run_sweep, sweep_request, sweeps_on
from woodfisher_core.sweeps.order import Item, in_groups

GRID = grid(damping=(1e-4, 1e-2), num_samples=(30, 60), sparsity=(0.5, 0.9))


@pytest.fixture
def store(place):
    """An empty store, once a backend."""
    made = Store(place)
    yield made
    made.close()


@pytest.fixture
def file_store(tmp_path):
    """An empty store in a file."""
    made = Store(tmp_path / "runs.sqlite")
    yield made
    made.close()


@pytest.fixture
def reports(monkeypatch) -> list[PruneConfig]:
    """The configs that are really computed, in their order."""
    asked, real = [], Workspace.report

    def counting(self, config, progress=None):
        asked.append(config)
        return real(self, config, progress)

    monkeypatch.setattr(Workspace, "report", counting)
    return asked


def test_results_are_those_of_single_runs(store):
    """Every point says what a fresh workspace's report of its config says, and is a run of that key."""
    task = begun(store, GRID)
    run_sweep(task)
    found = task.queue.parts(task.job.number)
    assert [part.position for part in found] == list(range(8))
    for part, point in zip(found, GRID.points(), strict=True):
        report = Workspace().report(point.config)
        assert part.value["changes"] == dict(point.changes)
        assert (part.value["accuracy"], part.value["loss"]) == (report.pruned.accuracy, report.pruned.loss)
        assert part.value["sparsity"] == report.outcome.mask.sparsity
        assert part.value["dense_accuracy"] == report.problem.dense.accuracy
        record = store.get(part.value["run"])
        assert (part.key, part.error, record.key) == (report.config.key, None, report.config.key)
        assert record.headline["accuracy"] == report.pruned.accuracy
    assert (task.done, task.total) == (8, 8)


def test_gradients_and_spectra_are_made_once(file_store, monkeypatch):
    """N × λ × sparsity: the gradients of the most samples, once; the points of one Fisher one after the other."""
    made, real = [], materials.gradient_matrix
    monkeypatch.setattr(materials, "gradient_matrix", lambda *a, **k: (made.append(a[3]), real(*a, **k))[1])
    order, report = [], Workspace.report
    monkeypatch.setattr(
        Workspace,
        "report",
        lambda self, config, told: (order.append(config.num_samples), report(self, config, told))[1],
    )
    run_sweep(begun(file_store, GRID))
    assert made == [60]
    assert order == [60] * 4 + [30] * 4


def test_what_a_method_never_reads_costs_nothing(file_store, monkeypatch):
    """Magnitude at five dampings: five runs, one mask, one evaluation of the network on the test set."""
    masks, real = [], workspaces.run_stages
    monkeypatch.setattr(workspaces, "run_stages", lambda *a, **k: (masks.append(1), real(*a, **k))[1])
    run_sweep(begun(file_store, grid({"method": "magnitude"}, damping=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1))))
    assert len(file_store.runs()) == 5
    assert len(masks) == 1


def test_known_points_are_taken_from_the_store(file_store, reports):
    """A wider sweep computes only what is new; its parts of the others are as old as their runs."""
    run_sweep(begun(file_store, GRID))
    before = file_store.runs(configurations=False)
    wider = begun(file_store, grid(damping=(1e-4, 1e-3, 1e-2), num_samples=(30, 60), sparsity=(0.5, 0.9)))
    reports.clear()
    run_sweep(wider)
    assert sorted({config.damping for config in reports}) == [1e-3]
    assert len(reports) == 4
    found = wider.queue.parts(wider.job.number)
    assert [part.value["reused"] for part in found] == [part.value["changes"]["damping"] != 1e-3 for part in found]
    known = {part.value["run"] for part in found if part.value["reused"]}
    assert known == set(before["id"])
    times = finished(file_store)
    for part in found:
        if part.value["reused"]:
            assert times["part", wider.job.number, part.position] == times["run", part.value["run"], part.key]


def test_failing_points_do_not_stop_the_others(store, monkeypatch):
    """Impossible values, too many samples, a numerical breakdown and too little memory: each kept with its error."""
    real = Workspace._run

    def breaking(self, config, *rest):
        if (config.damping, config.sparsity) == (1e-2, 0.5):
            raise NumericalError("the update broke down. Raise the damping.")
        if (config.damping, config.sparsity) == (1e-2, 0.9):
            raise MemoryError
        return real(self, config, *rest)

    monkeypatch.setattr(Workspace, "_run", breaking)
    task = begun(store, grid(damping=(1e-3, 1e-2, 1e-1), sparsity=(0.5, 0.9, 1.5), num_samples=(20, 100_000)))
    assert run_job(task.queue, task.job, task.workspace) is JobStatus.DONE
    found = {
        (part.value["changes"]["damping"], part.value["changes"]["sparsity"]): part
        for part in task.queue.parts(task.job.number)
        if part.value["changes"]["num_samples"] == 20
    }
    assert {place for place, part in found.items() if part.error is None} == {
        (damping, sparsity) for damping in (1e-3, 1e-1) for sparsity in (0.5, 0.9)
    }
    assert found[1e-2, 0.5].error == "the update broke down. Raise the damping."
    assert "out of memory" in found[1e-2, 0.9].error
    assert "expected a fraction" in found[1e-1, 1.5].error
    others = [p for p in task.queue.parts(task.job.number) if p.value["changes"]["num_samples"] > 20]
    assert all(part.error for part in others)
    assert any("at most 1,297" in part.error for part in others)
    table = store.runs()
    assert (table["status"] == Status.FAILED.value).sum() == 2
    assert set(table["error"].dropna()) == {found[1e-2, 0.5].error, found[1e-2, 0.9].error}
    assert all(part.value["accuracy"] is None for part in [*others, found[1e-2, 0.5]])


def test_a_bug_ends_the_job_and_keeps_what_was_done(file_store, monkeypatch):
    """An error nobody foresaw is no result of a point; asked again, the sweep goes on where it was."""
    real = Workspace._run

    def breaking(self, config, *rest):
        if (config.num_samples, config.damping, config.sparsity) == (30, 1e-2, 0.5):
            raise KeyError("a bug")
        return real(self, config, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "_run", breaking)
        task = begun(file_store, GRID)
        assert run_job(task.queue, task.job, task.workspace) is JobStatus.FAILED
    assert "a bug" in task.queue.get(task.job.number).error
    kept = finished(file_store)
    assert len(task.queue.parts(task.job.number)) == 6
    again = begun(file_store, GRID)
    assert run_job(again.queue, again.job, again.workspace) is JobStatus.DONE
    assert again.job.number == task.job.number
    assert finished(file_store).items() >= kept.items()
    assert len(file_store.runs()) == 8


def test_cancelled_between_points_it_goes_on(store, reports):
    """Whoever cancels, the point in hand is the last; asked again, only the others are computed."""
    task = begun(store, GRID)
    real = task.check
    task.check = lambda: task._tell() if len(reports) == 3 else real()  # looks at once, as after half a second
    until_cancelled = task.workspace.report
    task.workspace.report = lambda config, told: (
        until_cancelled(config),
        len(reports) == 3 and task.queue.cancel(task.job.number),
    )[0]
    with pytest.raises(Cancelled):
        run_sweep(task)
    assert task.queue.hand_back(task.job.number, task.job.owner) is JobStatus.CANCELLED
    kept = finished(store)
    assert len(reports) == 3
    again = begun(store, GRID)
    assert (again.job.number, len(again.before)) == (task.job.number, 3)
    run_sweep(again)
    assert finished(store).items() >= kept.items()
    assert len(reports) == len({config.key for config in reports}) == 8


def test_stopped_in_the_middle_of_a_point(file_store):
    """A process that has to end leaves a point unfinished; nothing of it stays behind, and another can compute it."""
    stopping = []
    task = begun(file_store, GRID, stop=lambda: bool(stopping))
    real = task.workspace.report

    def stopped(config, told):
        stopping.append(1)
        task._told = 0.0
        return real(config, told)

    task.workspace.report = stopped
    with pytest.raises(Cancelled):
        run_sweep(task)
    assert task.queue.parts(task.job.number) == []
    assert task.queue.hand_back(task.job.number, task.job.owner) is JobStatus.QUEUED
    first = next(iter(GRID.points())).config
    assert claim(file_store, Workspace().resolve(first).key, "elsewhere|1|0.00")


def test_threads_compute_each_point_once(file_store, reports):
    """Any executor will do; groups share nothing but the workspace and the store."""
    with ThreadPoolExecutor(3) as threads:
        task = begun(file_store, GRID)
        run_sweep(task, threads, 3)
    alone = Store(file_store.place + ".2")
    one = begun(alone, GRID)
    run_sweep(one)
    assert shown(task.queue.parts(1)) == shown(one.queue.parts(1))
    assert len(reports) == 16
    assert (task.done, task.total) == (8, 8)
    alone.close()


def test_a_pool_gives_the_numbers_of_one_process(file_store):
    """Bitwise, failing points too, through the job's own way in."""
    wanted = grid({"update": "joint"}, num_samples=(30, 60), damping=(1e-4, 1e-2), sparsity=(0.5, 0.9, 1.5))
    task = begun(file_store, wanted)
    with WorkerPool(2) as pool, sweeps_on(pool, 2):
        assert run_job(task.queue, task.job, task.workspace) is JobStatus.DONE
    alone = Store(file_store.place + ".2")
    one = begun(alone, wanted)
    run_sweep(one)
    assert shown(task.queue.parts(1)) == shown(one.queue.parts(1))
    assert [p.error for p in task.queue.parts(1)] == [p.error for p in one.queue.parts(1)]
    assert (task.queue.get(1).done, task.queue.get(1).total) == (12, 12)
    metrics = ["name", "step", "sparsity", "value"]
    for part, other in zip(task.queue.parts(1), one.queue.parts(1), strict=True):
        if part.error is None:
            own = file_store.metrics([part.value["run"]])[metrics]
            assert own.equals(alone.metrics([other.value["run"]])[metrics])
    alone.close()


def test_points_held_by_another_come_last(file_store, reports):
    """A point that a living process computes is left to it, and taken up when its claim is gone."""
    first = resolved(GRID, Workspace())
    order = in_groups([Item(p.position, dict(p.changes), Workspace().resolve(p.config)) for p in first.points()], 1)[0]
    held = order[0].config.key
    other = "elsewhere.example|1|0.00"  # on another machine, heard of just now
    assert claim(file_store, held, other)
    task = begun(file_store, first)
    real = task.check

    def check():
        if len(reports) == 7:
            with file_store.writing() as connection:
                connection.execute(claims.delete().where(claims.c.key == held))
        real()

    task.check = check
    run_sweep(task)
    assert len(reports) == 8
    assert reports[-1].key == held
    assert [part.position for part in task.queue.parts(task.job.number)] == list(range(8))


def test_another_owner_ends_it(file_store):
    """A process that was taken for dead writes no part of a job that another one has by now; its run is kept."""
    task = begun(file_store, GRID)
    task.job = replace(task.job, owner="elsewhere|1|0.00")
    with pytest.raises(Cancelled):
        run_sweep(task)
    assert task.queue.parts(task.job.number) == []


def test_a_full_disk_is_no_result(file_store, monkeypatch):
    """An error of the store is none of the point's."""

    def failing(self, config, told):
        raise StoreError("no room")

    monkeypatch.setattr(Workspace, "report", failing)
    task = begun(file_store, GRID)
    with pytest.raises(StoreError):
        run_sweep(task)
    assert task.queue.parts(task.job.number) == []


@pytest.mark.parametrize("workers", [1, 2, 5, 40])
def test_groups_hold_every_point_once(workers):
    """Whatever the number of workers; points of one Fisher stay together while there are groups enough."""
    sweep = grid(
        num_samples=(20, 40), damping=(1e-4, 1e-3, 1e-2), sparsity=(0.3, 0.5, 0.7), method=("woodfisher", "lamp")
    )
    space = Workspace()
    items = [Item(p.position, dict(p.changes), space.resolve(p.config)) for p in sweep.points()]
    groups = in_groups(items, workers)
    assert sorted(item.position for group in groups for item in group) == list(range(36))
    assert len(groups) >= min(workers, 6)
    assert in_groups([], workers) == []
    if workers <= 4:  # four things to share: two Fishers, and a method without one at two N
        of_a_fisher = [{item.config.num_samples for item in group} for group in groups]
        assert workers == 1 or all(len(found) == 1 for found in of_a_fisher)


def test_requests_name_the_weights():
    """A sweep asks for the very weights and data that it is about, each of them where they vary."""
    space = Workspace()
    (source,) = resolved(GRID, space).sources
    problem = space.problem(PruneConfig(**BASE))
    assert source.found == {"weights_hash": problem.weights_hash, "data_hash": problem.dataset.hash, "device": "cpu"}
    several = resolved(grid(model=("digits-mlp", "digits-cnn"), sparsity=(0.5, 0.8), device=("cpu", "auto")), space)
    assert len(several.sources) == 4
    assert all(point.config == space.resolve(point.config) for point in several.points())
    assert sweep_request(GRID).key == sweep_request(replace(GRID, vary=GRID.vary[::-1])).key
    assert sweep_request(GRID).key != sweep_request(grid(damping=(1e-3,))).key
    assert "1 point" in sweep_request(grid(damping=(1e-3,))).title
    assert "points" not in sweep_request(grid(damping=(1e-3,))).title


def test_weights_that_changed_are_no_result(file_store, tmp_path):
    """Between asking and running: the job fails, and goes on where the weights are as they were."""
    file = weights_file(tmp_path / "a.safetensors")
    before = file.read_bytes()
    wanted = resolved(grid(weights=(str(file), "shipped"), sparsity=(0.5,)), Workspace())
    weights_file(file, 0.5)
    task = begun(file_store, wanted)
    assert run_job(task.queue, task.job, Workspace()) is JobStatus.FAILED
    assert "are others than when it was asked for" in task.queue.get(1).error
    file.write_bytes(before)
    again = begun(file_store, wanted)
    assert run_job(again.queue, again.job, Workspace()) is JobStatus.DONE
    assert [part.error for part in again.queue.parts(1)] == [None, None]


def test_deleted_runs_come_back(file_store, reports):
    """Asked for again they are restored, not computed; so they are for a sweep that wants others too."""
    run_sweep(begun(file_store, GRID))
    before = finished(file_store)
    reports.clear()
    file_store.delete([2, 5])
    task = begun(file_store, grid(damping=(1e-4, 1e-2), num_samples=(30, 60), sparsity=(0.5,)))
    run_sweep(task)
    assert reports == []
    assert finished(file_store).items() >= before.items()
    file_store.delete(range(1, 9))
    number, reused = remembered(file_store, Workspace(), next(iter(GRID.points())).config)
    assert (reused, reports, list(file_store.runs()["id"])) == (True, [], [number])
