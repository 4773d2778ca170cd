"""Small sweeps on digits-mlp, what their parts say, and processes that run the real command line."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from woodfisher_core.experiments import Workspace
from woodfisher_core.jobs import Part, StoreQueue, Task
from woodfisher_core.models import MODELS
from woodfisher_core.store import Store
from woodfisher_core.store.owners import this_owner
from woodfisher_core.store.schema import parts, runs
from woodfisher_core.sweeps import Sweep, Values, sweep_request

BASE = {"model": "digits-mlp", "num_samples": 60, "solver": "spectral", "held_out": 0, "device": "cpu"}
# Forked from one that has loaded everything, so that they start at once.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["woodfisher_core.cli", "woodfisher_core.jobs.worker"])


def grid(base: Mapping[str, object] | None = None, **values: tuple) -> Sweep:
    """Every combination of ``values`` on digits-mlp."""
    vary = {name: Values(each) for name, each in values.items()}
    return Sweep(base=tuple({**BASE, **(base or {})}.items()), vary=tuple(vary.items()))


def begun(store: Store, sweep: Sweep, space: Workspace | None = None, stop: Callable[[], bool] = lambda: False) -> Task:
    """The task of ``sweep``, taken by this process."""
    queue = StoreQueue(store)
    job = queue.submit(sweep_request(sweep))
    return Task(queue, queue.take(this_owner(), job.number), space or Workspace(), stop)


def weights_file(path: Path, scale: float = 1.0) -> Path:
    """Weights of digits-mlp, those that come with it times ``scale``, at ``path``."""
    shipped = load_file(MODELS["digits-mlp"].shipped_weights())
    save_file({name: scale * tensor for name, tensor in shipped.items()}, path)
    return path


def shown(found: list[Part]) -> dict[int, dict[str, object]]:
    """What each part says but for times and numbers of runs."""
    left_out = ("seconds", "run", "reused")
    return {part.position: {n: v for n, v in part.value.items() if n not in left_out} for part in found}


def finished(store: Store) -> dict[tuple, float]:
    """When each run and each part was kept."""
    with store.reading() as connection:
        kept = {("part", row.job, row.position): row.created for row in connection.execute(parts.select())}
        return kept | {("run", row.id, row.key): row.created for row in connection.execute(runs.select())}


def command(arguments: tuple[str, ...]) -> None:
    from woodfisher_core import cli

    torch.set_num_threads(1)
    raise SystemExit(cli.main(list(arguments)))


def started(*arguments: str) -> multiprocessing.Process:
    """A process that runs this command line."""
    process = CONTEXT.Process(target=command, args=(arguments,))
    process.start()
    return process


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Waits for ``condition`` to hold; fails where it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
