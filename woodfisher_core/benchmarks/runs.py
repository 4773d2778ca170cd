"""The run store filled with ten thousand runs: saves a second, and how long lists, filters and single runs take."""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pandas as pd

from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.store import Metric, RunRecord, Store
from woodfisher_core.store.places import shown

METRICS, LAYERS = 12, 3
_DAMPINGS = tuple(10.0 ** (-i / 4) for i in range(40))
_SAMPLES = (10, 20, 50, 100, 200, 500)
_METHODS = ("woodfisher", "magnitude", "diagonal-fisher", "taylor")
_REPEATS = 5
_ORIGIN = "benchmark"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The benchmark's own flags."""
    parser.description = (
        "Fills an empty store with runs of 12 metrics and 3 layers and times saving, listing, filtering and opening. What it "
        "wrote is removed again."
    )
    parser.add_argument("--runs", type=int, default=10_000, metavar="K", help="how many (default: 10000)")
    parser.add_argument(
        "--store", metavar="PLACE", help="an empty file or PostgreSQL URL (default: a file in a temporary folder)"
    )
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads (default: as torch chooses)")
    parser.add_argument("--json", metavar="FILE", help="also write everything, each single measurement, to this file")


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, object]:
    """Seconds by task, each one measured several times, but for saving."""
    if options.runs < 10:
        raise InputError(f"runs: expected at least 10, got {options.runs}.")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(options.store or Path(folder) / "runs.sqlite")
        try:
            if len(store.runs(configurations=False)) or len(store.runs(configurations=False, deleted=True)):
                raise InputError(f"--store: expected an empty store, {shown(store.url)} has runs. Choose another.")
            try:
                return _measured(store, options.runs, say)
            finally:
                mine = store.runs(configurations=False)
                store.delete(list(mine.loc[mine["origin"] == _ORIGIN, "id"]))
                store.purge()
        finally:
            store.close()


def _measured(store: Store, count: int, say: Callable[[str], None]) -> dict[str, object]:
    records = list(itertools.islice(_records(), count))
    started = time.perf_counter()
    for i, record in enumerate(records, start=1):
        store.save(record)
        if 10 * i % count < 10:
            say(f"{i:,} of {count:,} runs")
    saving = time.perf_counter() - started
    number = int(store.runs(configurations=False)["id"].iloc[count // 2])
    tasks = {
        "list, with every field of the configs": store.runs,
        "list, own columns only": lambda: store.runs(configurations=False),
        "list and filter by method and sparsity": lambda: _filtered(store.runs()),
        "open one run": lambda: store.get(number),
        "find a key": lambda: store.find(records[count // 2].key),
        "find every key": lambda: store.keys([record.key for record in records]),
        "metrics of 100 runs": lambda: store.metrics(range(number, number + 100)),
        "open the store": lambda: Store(store.place).close(),
    }
    seconds = {name: [_seconds(task) for _ in range(_REPEATS)] for name, task in tasks.items()}
    found = _filtered(store.runs())
    return {
        "benchmark": "runs",
        "machine": machine("cpu"),
        "store": store.url.get_backend_name(),
        "runs": count,
        "bytes": _size(store),
        "saves_per_second": count / saving,
        "seconds": seconds,
        "filtered": len(found),
    }


def _records() -> Iterator[RunRecord]:
    base = PruneConfig(model="digits-mlp", held_out=100, device="cpu")
    for seed in itertools.count():
        for method, samples, damping in itertools.product(_METHODS, _SAMPLES, _DAMPINGS):
            sparsity = 0.5 + 0.49 * (samples * damping % 1)
            config = base.replace(
                method=method, update=None, num_samples=samples, damping=damping, sparsity=sparsity, seed=seed
            )
            yield RunRecord(
                kind="prune",
                key=config.key,
                config=config.to_dict(),
                about={"model": config.model, "dataset": config.dataset, "method": config.method},
                headline={
                    "sparsity": sparsity,
                    "accuracy": 97 - 20 * sparsity,
                    "dense_accuracy": 97.0,
                    "loss": sparsity,
                },
                metrics=tuple(Metric("accuracy", 97 - step / 3, step / METRICS, step) for step in range(METRICS)),
                layers=tuple(
                    {"layer": f"fc{i}", "shape": "40×64", "kept": 100 * i, "total": 2560} for i in range(LAYERS)
                ),
                seconds={"gradients": 0.1, "inverse": 0.2, "evaluate": damping},
                environment={"cpu": "benchmark"},
                origin=_ORIGIN,
            )


def _filtered(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["method"] == "woodfisher") & table["sparsity"].between(0.6, 0.8)]


def _seconds(task: Callable[[], object]) -> float:
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def _size(store: Store) -> int | None:
    """Bytes of a SQLite file and its log."""
    if store.url.get_backend_name() != "sqlite":
        return None
    return sum(path.stat().st_size for path in Path(store.place).parent.glob(f"{Path(store.place).name}*"))


def to_markdown(result: dict) -> str:
    """One row a task."""
    where, size = result["machine"], result["bytes"]
    lines = [
        f"### {result['runs']:,} runs on {result['store']}, {METRICS} metrics and {LAYERS} layers each",
        "",
        f"{where['cpu']}, {where['cpus']} CPUs. {result['saves_per_second']:,.0f} runs saved a second in one process, a "
        f"transaction each{'' if size is None else f'; {size / 1e6:,.0f} MB'}. The filter leaves {result['filtered']:,}.",
        "",
        "| task | seconds, median | least | most |",
        "|---|---:|---:|---:|",
    ]
    for task, took in result["seconds"].items():
        lines.append(f"| {task} | {median(took):.4f} | {min(took):.4f} | {max(took):.4f} |")
    return "\n".join(lines)
