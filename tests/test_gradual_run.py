"""Snapshots of gradual runs: continued at any epoch, after any error or SIGKILL, the result is that of an undisturbed run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_gradual import FEW, Watcher, digits, equal, run, trained
from torch import nn

from woodfisher_core.errors import InputError
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.snapshots import read_snapshot, write_snapshot

FULL = {"augment": True, "learning_rate": 0.01, "batch_size": 32}
TESTS = Path(__file__).parent


class Stop(Exception):
    """What ends a run early."""


def stopping_after(epoch: int):
    def progress(record) -> None:
        if record.epoch == epoch:
            raise Stop

    return progress


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
def test_continued_after_every_epoch(tmp_path, name, optimizer):
    """Stopped after each epoch in turn, the run ends on the same bits as in one go, and tells only of its new epochs."""
    settings = {"tuning": FineTuning(optimizer=optimizer, **FULL), "seed": 3}
    whole = run(name, **settings)
    told = []
    for epoch in (1, 2, 3):
        with pytest.raises(Stop):
            run(name, snapshot=tmp_path / "run", progress=stopping_after(epoch), **settings)
        assert len(read_snapshot(tmp_path / "run")[1]["records"]) == epoch
    continued = run(name, snapshot=tmp_path / "run", progress=told.append, **settings)
    assert [record.epoch for record in told] == [4]
    assert equal(whole, continued)
    assert (whole.dense, whole.best) == (continued.dense, continued.best)
    assert os.listdir(tmp_path) == ["run"]


def test_continued_where_weights_are_tied_and_random_units_drop(tmp_path):
    """Dropout goes on from where it was; a tied weight comes back as one."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
            self.second.weight = self.first.weight
            self.drop = nn.Dropout(0.3)

        def forward(self, x):
            return self.head(self.second(self.drop(self.first(x.flatten(1)).relu())).relu())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tied()
    settings = {"options": {"method": "magnitude"}, "tuning": FineTuning(**FULL)}
    with pytest.raises(Stop):
        run(model, snapshot=tmp_path / "run", progress=stopping_after(2), **settings)
    continued = run(model, snapshot=tmp_path / "run", **settings)
    assert equal(run(model, **settings), continued)
    pruned = continued.applied_to(model)
    assert pruned.first.weight is pruned.second.weight


def test_continued_after_an_error_within_an_epoch(tmp_path):
    """An evaluation that fails straight after pruning costs that epoch only."""
    watcher = Watcher(trained("digits-mlp"))

    def failing(network):
        if len(watcher.states) == 4:  # dense, pruned, trained, pruned
            raise Stop
        return watcher(network)

    with pytest.raises(Stop):
        run(evaluate=failing, snapshot=tmp_path / "run")
    good = Watcher(trained("digits-mlp"))
    assert equal(run(evaluate=good, snapshot=tmp_path / "run"), run(evaluate=good))


def test_finished_run_is_only_read(tmp_path):
    """Nothing is evaluated, trained or written again."""
    first = run(snapshot=tmp_path / "run")
    before = (tmp_path / "run").stat().st_mtime_ns
    again = run(snapshot=tmp_path / "run", progress=stopping_after(4))
    assert equal(first, again)
    assert (tmp_path / "run").stat().st_mtime_ns == before


def test_snapshot_does_not_change_the_result(tmp_path):
    """With and without one; the folder is made."""
    assert equal(run(), run(snapshot=tmp_path / "new" / "run"))


def test_momentum_of_pruned_weights_in_the_snapshot(tmp_path):
    """After each epoch zero where pruned, and not elsewhere."""
    epochs = []

    def look(record) -> None:
        tensors, _ = read_snapshot(tmp_path / "run")
        start = 0
        for name in ("fc1", "fc2"):
            weight = tensors[f"model/{name}.weight"].flatten()
            momentum = tensors[f"optimizer/{name}.weight/momentum_buffer"].flatten()
            keep = tensors["keep"][start : start + len(weight)]
            start += len(weight)
            assert not weight[~keep].any()
            assert not momentum[~keep].any()
            assert momentum[keep].any()
        epochs.append(1.0 - float(tensors["keep"].double().mean()))

    run(snapshot=tmp_path / "run", progress=look)
    assert epochs == pytest.approx([0.5, 0.85, 0.9, 0.9], abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 5}, r"epochs 4 \(here 5\)"),
        ({"seed": 1}, r"seed 0 \(here 1\)"),
        ({"options": FEW | {"damping": 0.1}}, r"options.damping 0.01 \(here 0.1\)"),
        ({"options": FEW | {"method": "magnitude"}}, r"options.method .*, options.update .* \(here \"none\"\)"),
        ({"schedule": GradualSchedule(final=0.8, initial=0.5, end_epoch=3)}, r"schedule.final 0.9 \(here 0.8\)"),
        ({"tuning": FineTuning(learning_rate=0.02, momentum=0.5)}, r"tuning.momentum 0.9 \(here 0.5\)"),
        ({"exclude": ["fc2"]}, r"exclude \[\] \(here \[\"fc2\"\]\)"),
        ({"evaluate": digits()[0]}, r"evaluation samples [^,]* \(here [^,]*\)"),
        ({"train": digits()[1]}, r"training samples [^,]* \(here [^,]*\)"),
        ({"loss": nn.functional.multi_margin_loss}, r"loss \"cross_entropy\" \(here \"multi_margin_loss\"\)"),
    ],
)
def test_snapshot_of_another_run(tmp_path, changes, named):
    """Refused with the settings that differ and only these; the file stays as it is."""
    with pytest.raises(Stop):
        run(snapshot=tmp_path / "run", progress=stopping_after(1))
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(InputError, match=rf"run was made by another run: {named}\. Use its settings"):
        run(snapshot=tmp_path / "run", **changes)
    assert (tmp_path / "run").read_bytes() == before


def test_snapshot_of_other_weights(tmp_path):
    """The starting weights are named by their hash."""
    with pytest.raises(Stop):
        run(snapshot=tmp_path / "run", progress=stopping_after(1))
    model = run().applied_to(trained("digits-mlp"))
    with pytest.raises(InputError, match=r"another run: starting weights \"[0-9a-f]{15}… \(here "):
        run(model, snapshot=tmp_path / "run")


def test_damaged_and_impossible_snapshots(tmp_path):
    """A truncated file, a folder, weights: refused before any work, and left as they are."""

    def never(network):
        raise AssertionError("evaluated")

    write_snapshot(tmp_path / "run", {"x": torch.zeros(100)}, {})
    cut = (tmp_path / "run").read_bytes()[:-50]
    (tmp_path / "cut").write_bytes(cut)
    with pytest.raises(InputError, match=r"cut is truncated .* Remove the file to start afresh"):
        run(snapshot=tmp_path / "cut", evaluate=never)
    assert (tmp_path / "cut").read_bytes() == cut
    with pytest.raises(InputError, match="is truncated or no snapshot"):
        run(snapshot=tmp_path, evaluate=never)
    with pytest.raises(InputError, match="snapshot: cannot write"):
        run(snapshot=tmp_path / "cut" / "run")


KILLER = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from test_gradual_run import killed_run

path, draw = sys.argv[1], random.Random(0)
for _ in range(4):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        killed_run(path, lambda record: os.write(writing, b"."))
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    start = time.monotonic()
    os.read(reading, 1)
    time.sleep(draw.random() * (time.monotonic() - start))  # up to the time of an epoch
    os.kill(child, signal.SIGKILL)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


def killed_run(snapshot, progress=None):
    """Eighteen epochs of the digits MLP, six pruning steps."""
    return run(
        schedule=GradualSchedule(final=0.9, initial=0.2, end_epoch=15, frequency=3),
        epochs=18,
        tuning=FineTuning(optimizer="adam", learning_rate=1e-3, batch_size=8, augment=True),
        snapshot=snapshot,
        progress=progress,
    )


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
def test_killed_at_random_moments(tmp_path):
    """Four times SIGKILL at any moment, in the middle of a step or of writing; then the result is the undisturbed one."""
    path = tmp_path / "run"
    environment = dict(os.environ, PYTHONPATH=str(TESTS), OMP_NUM_THREADS="1")
    command = [sys.executable, "-c", KILLER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS)
    assert done.stdout.split() == ["9"] * 4, done.stderr
    assert 8 <= len(read_snapshot(path)[1]["records"]) < 18
    assert set(os.listdir(tmp_path)) <= {"run", "run.part"}
    continued = killed_run(path)
    assert equal(continued, killed_run(None))
    assert continued.last.epoch == 18
    assert os.listdir(tmp_path) == ["run"]
