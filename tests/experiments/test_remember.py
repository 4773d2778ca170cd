"""Reports as runs of a store, and equal configs computed once: by threads, by processes, by whoever outlives another."""

import multiprocessing
import threading
import time

import pytest
import torch

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.remember import begin, end, failed_record, record_of, remembered, said
from woodfisher_core.store import Status, Store
from woodfisher_core.store.claims import claim
from woodfisher_core.store.schema import claims

MLP = PruneConfig(model="digits-mlp", num_samples=60, held_out=50, sparsity=0.8, device="cpu")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["woodfisher_core.cli", "woodfisher_core.jobs.worker"])


@pytest.fixture
def store(place):
    """An empty store, once a backend."""
    made = Store(place)
    yield made
    made.close()


def claimed(store: Store) -> list[str]:
    with store.reading() as connection:
        return [row.key for row in connection.execute(claims.select())]


def numbers(store: Store, run: int, step: int = 0) -> dict[str, float]:
    table = store.metrics([run])
    return dict(table[table["step"] == step][["name", "value"]].itertuples(index=False))


def test_a_run_says_all_of_its_report(store):
    """Every number comes back from the store as the report has it; the config makes the same run again."""
    report = Workspace().report(MLP)
    run = store.save(record_of(report, origin="test", label="mine"))
    record, change = store.get(run), report.loss_change
    assert PruneConfig.from_dict(record.config) == report.config
    assert (record.key, record.kind, record.status) == (report.config.key, "prune", Status.DONE)
    assert (record.origin, record.label) == ("test", "mine")
    assert record.about == {"model": "digits-mlp", "dataset": "digits", "method": "woodfisher"}
    assert numbers(store, run) == {
        "accuracy": report.pruned.accuracy,
        "standard_error": report.pruned.standard_error,
        "loss": report.pruned.loss,
        "dense_loss": report.problem.dense.loss,
        "kept": report.outcome.mask.kept,
        "effective_damping": report.damping,
        "damping_penalty": change.damping_penalty,
        "measured_fisher_samples": change.measured_fisher_samples,
        "predicted_fisher_samples": change.predicted_fisher_samples.total,
        "predicted_fisher_samples_first_order": change.predicted_fisher_samples.first_order,
        "predicted_fisher_samples_second_order": change.predicted_fisher_samples.second_order,
        "measured_held_out": change.measured_held_out,
        "num_held_out": 50,
        "predicted_held_out": change.predicted_held_out.total,
        "predicted_held_out_first_order": change.predicted_held_out.first_order,
        "predicted_held_out_second_order": change.predicted_held_out.second_order,
    }
    assert record.headline == {
        "sparsity": report.outcome.mask.sparsity,
        "accuracy": report.pruned.accuracy,
        "dense_accuracy": report.problem.dense.accuracy,
        "loss": report.pruned.loss,
    }
    assert sum(row["kept"] for row in record.layers) == report.outcome.mask.kept
    assert [row["layer"] for row in record.layers] == ["fc1", "fc2", "fc3"]
    assert record.seconds == report.seconds
    assert record.environment["threads"] == torch.get_num_threads()


def test_what_there_is_not_is_left_out(store):
    """Magnitude pruning without held-out samples predicts nothing and damps nothing."""
    run = store.save(record_of(Workspace().report(MLP.replace(method="magnitude", update="none", held_out=0))))
    found = {"accuracy", "standard_error", "loss", "dense_loss", "kept", "measured_fisher_samples"}
    assert set(numbers(store, run)) == found


def test_curves_are_kept_at_their_steps(store):
    """Steps from 1, each at the sparsity that it reached; the run itself stays at step 0."""
    space = Workspace()
    curve = space.curve(MLP, (0.3, 0.6, 0.9))
    run = store.save(record_of(space.report(MLP), curve=curve))
    for step, point in enumerate(curve, start=1):
        assert numbers(store, run, step) == {"accuracy": point.accuracy, "loss": point.loss, "kept": point.kept}
    table = store.metrics([run])
    assert table[(table["name"] == "loss") & (table["step"] > 0)]["sparsity"].tolist() == [p.removed for p in curve]
    assert "standard_error" in numbers(store, run)


def test_equal_configs_are_computed_once(store, monkeypatch):
    """The second time it is found, by a workspace that knows nothing, and whatever leaves the result alone."""
    first = remembered(store, Workspace(), MLP, origin="test")
    monkeypatch.setattr(Workspace, "report", lambda *_: pytest.fail("computed again"))
    assert remembered(store, Workspace(), MLP) == (first[0], True)
    assert first[1] is False
    assert remembered(store, Workspace(), MLP.replace(weights="shipped")) == (first[0], True)
    assert claimed(store) == []


def test_a_deleted_run_comes_back(store):
    """Under its number, and nothing is computed."""
    number, _ = remembered(store, Workspace(), MLP)
    store.delete([number])
    assert remembered(store, Workspace(), MLP) == (number, True)
    assert store.runs()["id"].tolist() == [number]


def test_failed_runs_are_kept_and_tried_again(store, monkeypatch):
    """Its error in words; the next time it may succeed."""
    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "_run", lambda *_: (_ for _ in ()).throw(NumericalError("it broke down.")))
        with pytest.raises(NumericalError):
            remembered(store, Workspace(), MLP)
    table = store.runs()
    assert table["status"].tolist() == ["failed"]
    assert table["error"].tolist() == ["it broke down."]
    assert claimed(store) == []
    assert remembered(store, Workspace(), MLP)[1] is False
    assert store.runs()["status"].tolist() == ["done"]


def test_bugs_and_bad_configs_keep_nothing(store, monkeypatch):
    with pytest.raises(InputError):
        remembered(store, Workspace(), MLP.replace(num_samples=5000))
    monkeypatch.setattr(Workspace, "_run", lambda *_: (_ for _ in ()).throw(KeyError("bug")))
    with pytest.raises(KeyError):
        remembered(store, Workspace(), MLP)
    assert len(store.runs()) == 0
    assert claimed(store) == []


def test_threads_compute_once(store, monkeypatch):
    """Six threads of one process, each with a workspace of its own."""
    asked, real = [], Workspace.report
    monkeypatch.setattr(Workspace, "report", lambda self, *a: (asked.append(1), time.sleep(0.1), real(self, *a))[2])
    found, start = [], threading.Barrier(6)

    def ask():
        start.wait()
        found.append(remembered(store, Workspace(), MLP))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert sorted(reused for _, reused in found) == [False] + [True] * 5
    assert len({number for number, _ in found}) == 1


def _ask(place: str, answers) -> None:
    torch.set_num_threads(1)
    answers.put(remembered(Store(place), Workspace(), MLP))


def _hold(place: str, key: str, answers) -> None:
    answers.put(begin(Store(place), key))
    time.sleep(600)


def test_processes_compute_once(store):
    """Three processes ask for the same at once."""
    answers = CONTEXT.Queue()
    processes = [CONTEXT.Process(target=_ask, args=(store.place, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(reused for _, reused in found) == [False, True, True]
    assert {number for number, _ in found} == set(store.runs()["id"])


def test_a_killed_process_is_taken_over_from(store):
    """Waiting for its run, another one finds it dead and computes the run itself."""
    answers, space = CONTEXT.Queue(), Workspace()
    key = space.resolve(MLP).key
    holder = CONTEXT.Process(target=_hold, args=(store.place, key, answers))
    holder.start()
    assert answers.get(timeout=120) is True
    waits = []

    def waiting():
        waits.append(1)
        if len(waits) == 3:
            holder.kill()
            holder.join()

    assert remembered(store, space, MLP, waiting=waiting)[1] is False
    assert len(waits) >= 3
    assert claimed(store) == []


def test_waiting_can_be_given_up(store):
    """What ``waiting`` raises ends it; another's claim stays."""
    space = Workspace()
    key = space.resolve(MLP).key
    assert claim(store, key, "elsewhere.example|1|0.00")

    def enough():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        remembered(store, space, MLP, waiting=enough)
    assert claimed(store) == [key]
    assert not begin(store, key)


def test_begin_and_end(store):
    """One thread of a process at a time; what was ended can be begun again."""
    assert begin(store, "a")
    assert not begin(store, "a")
    assert begin(store, "b")
    end(store, "a")
    assert begin(store, "a")
    end(store, "a")
    end(store, "b")
    assert claimed(store) == []


def test_words_of_errors():
    assert said(NumericalError("it broke.")) == "it broke."
    assert "out of memory" in said(MemoryError())
    assert "out of memory" in said(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 5 bytes"))
    assert said(KeyError("x")) == "KeyError: 'x'"
    record = failed_record(Workspace().resolve(MLP), MemoryError(), seconds=2.0)
    assert (record.status, record.seconds) == (Status.FAILED, {"until the error": 2.0})
