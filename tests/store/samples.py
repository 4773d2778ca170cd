"""Runs to keep, and processes that keep them."""

import multiprocessing
from pathlib import Path

from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.store import Metric, RunRecord, Status, Store

# Imported once by a process that then begins each of the others, unlike the tests' own, which has threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["woodfisher_core.store", "woodfisher_core.experiments"])
BASE = PruneConfig(model="digits-mlp", num_samples=50, held_out=100)
METRICS, LAYERS = 12, 3


def sample(number: int, **changes) -> RunRecord:
    """The run of seed ``number``, all of whose numbers follow from it."""
    config = BASE.replace(seed=number)
    values = {
        "kind": "prune",
        "key": config.key,
        "config": config.to_dict(),
        "about": {"model": config.model, "dataset": config.dataset, "method": config.method},
        "headline": {"sparsity": 0.95, "accuracy": number / 7, "dense_accuracy": 97.5, "loss": 1 / (number + 3)},
        "metrics": tuple(Metric("accuracy", (number + step) / 3, step / METRICS, step) for step in range(METRICS)),
        "layers": tuple(
            {"layer": f"fc{i}", "shape": "40×64", "kept": number + i, "total": 2**33} for i in range(LAYERS)
        ),
        "seconds": {"gradients": 0.1, "evaluate": 0.2, "plan": number / 10},
        "environment": {"cpu": "a", "threads": 1},
        "origin": "test",
    }
    return RunRecord(**{**values, **changes})


def failed(number: int, error: str = "it broke") -> RunRecord:
    """The same run, failed."""
    return sample(number, status=Status.FAILED, error=error, headline={}, metrics=(), layers=())


def gradual(number: int, steps: int = 2, **changes) -> RunRecord:
    """A finished gradual run of three epochs with that seed, to sparsity 0.8 in the second; the dense network is the best."""
    schedule = GradualSchedule(final=0.8, initial=0.2, start_epoch=3 - steps, end_epoch=2)
    config = GradualConfig(prune=BASE.replace(sparsity=0.8, seed=number), schedule=schedule, epochs=3)
    metrics = []
    for epoch, (sparsity, accuracy) in enumerate(((0.0, 97.5), (0.2, 97.0), (0.8, 91.0), (0.8, 93.0))):
        names = ("accuracy", "loss") if epoch == 0 else ("accuracy", "loss", "training loss")
        names += ("accuracy before", "accuracy pruned", "loss pruned") if epoch in schedule.levels else ()
        metrics += [Metric(name, accuracy if name == "accuracy" else 0.5, sparsity, epoch) for name in names]
    own = {"kind": "gradual", "key": config.key, "config": config.to_dict(), "metrics": tuple(metrics)}
    headline = {"sparsity": 0.8, "accuracy": 93.0, "dense_accuracy": 97.5, "loss": 0.5}
    return sample(number, **{**own, "headline": headline, **changes})


def is_whole(store: Store, number: int, seed: int) -> bool:
    """Whether the run that ``store`` has under ``number`` is all of ``sample(seed)``."""
    return store.get(number) == sample(seed)


def save_many(place: str, seeds: range, barrier=None, log: str | None = None) -> None:
    """What a process does: opens the store and saves, and writes to ``log`` each seed and number that ``save`` returned."""
    if barrier is not None:
        barrier.wait()
    store = Store(place)
    for seed in seeds:
        number = store.save(sample(seed))
        if log is not None:
            with Path(log).open("a") as file:
                file.write(f"{seed} {number}\n")
    store.close()


def together(target, *arguments: tuple) -> list[int]:
    """Runs ``target`` in one process for each of ``arguments``, all beginning at once; returns their exit codes."""
    barrier = PROCESSES.Barrier(len(arguments))
    processes = [PROCESSES.Process(target=target, args=(*own, barrier)) for own in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]
