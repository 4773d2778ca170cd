"""What sharing is worth: points a second of an N × λ × sparsity sweep, beside each point computed from nothing."""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.jobs import StoreQueue, Task
from woodfisher_core.store import Store
from woodfisher_core.store.owners import this_owner
from woodfisher_core.sweeps import Sweep, Values, resolved, run_sweep, sweep_request
from woodfisher_core.sweeps.axes import parse_axis

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
COUNTS, DAMPINGS = "num_samples=32..1024:log:6", "damping=1e-6..1e-2:log:9"

Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``sweeps``."""
    parser.description = (
        "Runs a sweep over 6 numbers of samples × 9 dampings × 5 sparsities into an empty store, then some of its points again "
        "from nothing, each with a workspace of its own that loads network and data and makes its gradients and spectra."
    )
    parser.add_argument("--model", default="digits-mlp", metavar="NAME", help="(default: digits-mlp)")
    parser.add_argument("--weights", default=SHIPPED, metavar="FILE", help="weights (default: the ones that ship)")
    parser.add_argument("--num-samples", default=COUNTS.partition("=")[2], metavar="VALUES", help="as sweep's --vary")
    parser.add_argument("--dampings", default=DAMPINGS.partition("=")[2], metavar="VALUES", help="as sweep's --vary")
    parser.add_argument("--sparsities", type=float, nargs="+", default=list(SPARSITIES), metavar="S")
    parser.add_argument("--update", metavar="RULE", help="none, independent or joint (default: WoodFisher's own)")
    parser.add_argument(
        "--again", type=int, default=20, metavar="K", help="points computed from nothing, any K of them (default: 20)"
    )


def run(options: argparse.Namespace, say: Say) -> dict[str, object]:
    """Both paces, as plain JSON values."""
    if options.again < 1:
        raise InputError(f"again: expected at least 1 point, got {options.again}.")
    own = ("model", "data_dir", "weights", "device", "update")
    base = {**{name: getattr(options, name) for name in own}, "solver": "spectral", "held_out": 0}
    vary = (
        parse_axis(f"num_samples={options.num_samples}", random=False),
        parse_axis(f"damping={options.dampings}", random=False),
        ("sparsity", Values(tuple(options.sparsities))),
    )
    space = Workspace()
    sweep = resolved(Sweep(base=tuple(base.items()), vary=vary), space)
    points = list(sweep.points())
    say(f"sweep of {len(points)} points")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs.sqlite")
        queue = StoreQueue(store)
        job = queue.submit(sweep_request(sweep, "benchmark"))
        task = Task(queue, queue.take(this_owner(), job.number), space)
        space.forget()
        start = time.perf_counter()
        run_sweep(task)
        swept = time.perf_counter() - start
        found = {part.position: part for part in queue.parts(job.number)}
        store.close()
    fine = [point for point in points if found[point.position].error is None]
    again = random.Random(0).sample(fine, min(options.again, len(fine)))
    seconds = []
    for number, point in enumerate(again, start=1):
        say(f"from nothing: {number} of {len(again)}")
        start = time.perf_counter()
        report = Workspace().report(point.config)
        seconds.append(time.perf_counter() - start)
        if report.pruned.accuracy != found[point.position].value["accuracy"]:
            raise AssertionError(f"the sweep gave another accuracy at {dict(point.changes)}")
    return {
        "benchmark": "sweeps",
        "machine": machine(options.device),
        "model": options.model,
        "points": len(points),
        "failed": sum(part.error is not None for part in found.values()),
        "threads": torch.get_num_threads(),
        "sweep_seconds": swept,
        "sweep_points_per_second": len(points) / swept,
        "from_nothing": seconds,
        "from_nothing_points_per_second": len(seconds) / sum(seconds),
    }


def to_markdown(result: dict) -> str:
    """One line each."""
    fast, slow = result["sweep_points_per_second"], result["from_nothing_points_per_second"]
    return "\n".join(
        (
            f"**{result['model']}**, {result['threads']} threads: N × λ × sparsity, {result['points']} points",
            "",
            "| | points a second | all of them |",
            "|---|---:|---:|",
            f"| sweep, each point kept in the store | {fast:.2f} | {result['sweep_seconds']:.1f} s |",
            f"| each point from nothing ({len(result['from_nothing'])} of them timed) | {slow:.2f} | "
            f"about {result['points'] / slow:.0f} s |",
            f"| ratio | {fast / slow:.1f} × | |",
        )
    )
