"""``python -m woodfisher_core sweep``: what it prints, keeps and refuses."""

import json
import signal
import sys
import time
from subprocess import PIPE, Popen

import pytest
from safetensors.torch import load_file, save_file

from woodfisher_core import cli
from woodfisher_core.commands import sweep as sweep_command
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.jobs import JobStatus, StoreQueue
from woodfisher_core.models import MODELS
from woodfisher_core.store import Store

SMALL = ("sweep", "--model", "digits-mlp", "--num-samples", "60", "--device", "cpu")
GRID = ("--vary", "damping=1e-4,1e-2", "--vary", "sparsity=0.5,0.8")


def weights_file(path, scale: float = 1.0) -> None:
    """The network's own weights times ``scale``."""
    shipped = load_file(MODELS["digits-mlp"].shipped_weights())
    save_file({name: scale * tensor for name, tensor in shipped.items()}, path)


@pytest.fixture
def place(tmp_path) -> str:
    return str(tmp_path / "runs.sqlite")


@pytest.fixture
def run(capsys, place):
    """(status, standard output, standard error) of a command on a small network with a store of its own."""

    def running(*arguments: str) -> tuple[int, str, str]:
        status = cli.main([*SMALL, "--store", place, *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return running


def test_json(run, place):
    """Every point in the order of the grid, each a run of the store with what ``prune`` would give."""
    status, out, err = run(*GRID, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert [point["changes"] for point in found["points"]] == [
        {"damping": damping, "sparsity": sparsity} for damping in (1e-4, 1e-2) for sparsity in (0.5, 0.8)
    ]
    store = Store(place)
    for point in found["points"]:
        own = {"model": "digits-mlp", "num_samples": 60, "device": "cpu", "solver": "spectral", "held_out": 0}
        report = Workspace().report(PruneConfig(**own, **point["changes"]))
        assert (point["accuracy"], point["loss"], point["key"]) == (
            report.pruned.accuracy,
            report.pruned.loss,
            report.config.key,
        )
        assert store.get(point["run"]).origin == "sweep"
    assert found["sweep"]["vary"]["damping"] == {"values": [1e-4, 1e-2]}


def test_table(run):
    """The best first, only what varies; failing points below; asked again it is all there at once."""
    status, out, _ = run(*GRID, "--vary", "update=joint,none", "--vary", "update_scale=1,2", "--vary", "seed=0")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["damping", "sparsity", "update", "update_scale", "accuracy", "loss", "seconds"]
    accuracies = [float(line.split()[4]) for line in lines[1:9]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert lines[9] == "8 of 16 points failed:"
    assert "update_scale 2: update scale: only the independent update" in lines[10]
    assert run(*GRID, "--vary", "update=joint,none", "--vary", "update_scale=1,2", "--vary", "seed=0")[1] == out
    status, out, _ = run(*GRID, "--update", "none")
    assert "4 of 4 points were in the store already" in out


def test_methods_have_their_own_update(run):
    """Varying the method leaves each its own default update, as `prune` does."""
    _, out, _ = run("--vary", "method=woodfisher,magnitude", "--json")
    own = {"num_samples": 60, "device": "cpu", "solver": "spectral", "held_out": 0}
    for point in json.loads(out)["points"]:
        config = PruneConfig(model="digits-mlp", method=point["changes"]["method"], **own)
        assert point["key"] == Workspace().resolve(config).key


def test_random(run):
    """So many points, the same for the same seed."""
    flags = ("--vary", "damping=1e-5..1e-1:log", "--random", "5", "--json")
    first, other = (json.loads(run(*flags, "--sweep-seed", seed)[1]) for seed in ("0", "1"))
    assert len(first["points"]) == 5
    dampings = {point["changes"]["damping"] for point in first["points"]}
    assert len(dampings) == 5
    assert not dampings & {point["changes"]["damping"] for point in other["points"]}
    assert json.loads(run(*flags)[1])["points"] == first["points"]


def test_random_points_that_are_equal(run):
    """Five points over two seeds: computed once each, and that is what it says."""
    flags = ("--vary", "seed=0,1", "--random", "5")
    assert "3 of 5 points are equal to others here: computed once" in run(*flags)[1]
    store_too = run("--vary", "seed=0,1", "--vary", "damping=1e-3")[1]
    assert "2 of 2 points were in the store already" in store_too


@pytest.mark.parametrize("vary", [("weights", "shipped"), ("device", "auto"), ("damping", "1e-3")])
def test_other_weights_in_the_same_file(run, tmp_path, vary):
    """Are another sweep, whatever varies; the first ones back in their place are the first sweep."""
    file = tmp_path / "a.safetensors"
    name, other = vary
    values = f"weights={file},{other}" if name == "weights" else f"{name}={other}"
    arguments = ["--vary", values, "--sparsity", "0.8", "--json", "--device", "auto"]  # nor is one given that varies
    arguments += [] if name == "weights" else ["--weights", str(file)]

    def losses() -> list[float | None]:
        return [point["loss"] for point in json.loads(run(*arguments)[1])["points"]]

    if name == "weights":
        missing = losses()
        assert missing[0] is None
    weights_file(file)
    first = losses()
    weights_file(file, 0.5)
    second = losses()
    weights_file(file)
    assert None not in first + second
    assert first[0] != second[0]
    assert first[1:] == second[1:]
    assert losses() == first


def test_another_process_has_it(run, place, monkeypatch):
    """It says so, and that the flags of this one change nothing."""
    queue, other = StoreQueue(Store(place)), "elsewhere.example|1|0.00"  # on another machine, heard of just now
    run(*GRID, "--detach")
    assert queue.take(other, 1) is not None
    ends = lambda _: queue.finish(1, other, JobStatus.CANCELLED)  # noqa: E731
    monkeypatch.setattr("woodfisher_core.commands.sweep.time.sleep", ends)
    status, _, err = run(*GRID, "--workers", "2")
    assert status == 2
    assert err.count("job 1 runs in another process: followed here") == 1


def test_detached(run, place):
    """It waits for a worker; the plain command then runs it itself."""
    status, out, _ = run(*GRID, "--detach")
    queue = StoreQueue(Store(place))
    assert (status, queue.get(1).status) == (0, JobStatus.QUEUED)
    assert out.startswith("job 1 waits for a worker")
    assert json.loads(run(*GRID, "--detach", "--json")[1]) == {"job": 1}
    assert run(*GRID)[0] == 0
    assert queue.get(1).status is JobStatus.DONE
    assert "job 1 is done already" in run(*GRID, "--detach")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing varies"),
        (("--vary", "dumping=1"), "unknown field dumping"),
        (("--vary", "damping=1e-3..1e-1"), "how many steps"),
        (("--vary", "sparsity=1.5"), "none of its points can be run"),
        (("--vary", "damping=1", "--weights", "missing.safetensors"), "missing.safetensors"),
        (("--vary", "damping=1", "--random", "0"), "number of random points"),
        (("--vary", "damping=1", "--workers", "0"), "--workers"),
        (("--vary", "damping=1", "--workers", "2", "--detach"), "--workers: with --detach"),
        (("--vary", "damping=1", "--memory-budget", "2", "--detach"), "--memory-budget: with --detach"),
        (("--vary", "damping=1", "--storage", "memory", "--detach"), "--storage: with --detach"),
        (("--vary", "damping=1", "--scratch", "x", "--detach"), "--scratch: with --detach"),
        (("--vary", "damping=1", "--damping", "5"), "--damping: --vary damping sets it"),
        (("--vary", "fresh_samples=true,no", "--fixed-samples"), "--fixed-samples: --vary fresh_samples"),
        (("--vary", "damping=1", "--sweep-seed", "7"), "--sweep-seed: a grid"),
    ],
)
def test_refused(run, place, arguments, words):
    """In one line on standard error; nothing is kept."""
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_every_point_failed(run):
    """The table says why, and so does the error."""
    status, out, err = run("--vary", "mini_batch=500,600")
    assert status == 2
    assert "2 of 2 points failed" in out
    assert "every point failed, the first one with: number of samples" in err


def test_cancelled_elsewhere(run, place, monkeypatch):
    """Another terminal's `jobs cancel` ends it, with words on how to go on."""
    real, queue = Workspace.report, StoreQueue(Store(place))

    def report(self, config, told):
        queue.cancel(1)
        found = real(self, config)
        monkeypatch.setattr("woodfisher_core.jobs.task.TELL_SECONDS", 0.0)
        return found

    monkeypatch.setattr(Workspace, "report", report)
    status, out, err = run(*GRID)
    assert (status, out) == (2, "")
    assert "error: job 1 is cancelled with 1 of 4 points. The same command goes on." in err
    monkeypatch.undo()
    assert "4 of 4" not in run(*GRID)[1]
    assert [part.value["reused"] for part in queue.parts(1)] == [False] * 4


def test_ctrl_c_waits_for_a_step():
    """The first is remembered, the second strikes at once; before and after, the first does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with sweep_command._between_steps() as told:
            signal.raise_signal(signal.SIGINT)
            assert told.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupted(place):
    """Ctrl-C in a real terminal's way: what is done is kept, nobody goes on with it, and the same command does."""
    flags = ("--vary", "damping=1e-6..1e-1:log:40", "--vary", "sparsity=0.1..0.9:9", "--store", place)
    # A shell's `command &` ignores the signal, and so would its heirs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = Popen([sys.executable, "-m", "woodfisher_core", *SMALL, *flags], stdout=PIPE, stderr=PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    store, kept = Store(place), 0
    while kept < 5 and process.poll() is None:
        time.sleep(0.05)
        kept = len(StoreQueue(store).parts(1))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "points; the same command goes on with the others" in err
    assert "error: interrupted" in err
    assert "Traceback" not in err
    job = StoreQueue(store).get(1)
    assert job.status is JobStatus.CANCELLED
    assert 5 <= len(StoreQueue(store).parts(1)) < 360
