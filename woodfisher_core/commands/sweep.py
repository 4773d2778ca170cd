"""``sweep``: one network at many settings, from the command line; stopped or killed, the same command goes on."""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from tqdm import tqdm

from woodfisher_core.commands.flags import (
    add_method,
    add_network,
    add_store,
    choices,
    memory_budget,
    method_options,
    network_options,
)
from woodfisher_core.errors import InputError, StoreError, WoodFisherError
from woodfisher_core.experiments import Workspace
from woodfisher_core.jobs import Job, JobStatus, Part, StoreQueue
from woodfisher_core.jobs.kinds import submit
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.jobs.titles import counted
from woodfisher_core.options import Solver
from woodfisher_core.planning import Storage, parse_storage
from woodfisher_core.sampling import read_indices
from woodfisher_core.store import Store
from woodfisher_core.store.claims import heartbeat
from woodfisher_core.store.owners import this_owner
from woodfisher_core.sweeps import Sweep, WorkerPool, resolved, sweep_request, sweeps_on
from woodfisher_core.sweeps.axes import parse_axes

ORIGIN = "sweep"
# How often the bar moves.
LOOK_SECONDS = 0.3
# What a table says of each point after the fields that vary.
COLUMNS = {"accuracy": "{:.2f}", "loss": "{:.4f}", "sparsity": "{:.4f}", "seconds": "{:.2f}"}


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = (
        "Prunes one network at many settings, a grid or a random sample, sharing what they have in common. Every point is kept "
        "as a run as soon as it is done; one that is known already is not computed again. Stopped or killed, the same command "
        "goes on. The solver is spectral unless told otherwise: it serves every damping with one decomposition."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "what to vary (any setting of a run, by the name it has in `runs show`):\n"
        "  --vary damping=1e-5,1e-3,1e-1          these values\n"
        "  --vary damping=1e-6..1e-1:log:6        six values, evenly in the logarithm\n"
        "  --vary seed=0..4                       every whole number\n"
        "  --vary method=woodfisher,magnitude     words, too\n"
        "  --vary num_samples=10..1000:log        anything between, with --random"
    )
    what = parser.add_argument_group("sweep")
    what.add_argument(
        "--vary", action="append", default=[], metavar="FIELD=VALUES", help="a setting that varies; repeatable"
    )
    what.add_argument("--random", type=int, metavar="COUNT", help="so many random points (default: the whole grid)")
    what.add_argument("--sweep-seed", type=int, metavar="S", help="with --random, fixes the random points (default: 0)")
    add_network(parser)
    add_method(parser, solver=Solver.SPECTRAL)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--held-out", type=int, default=0, metavar="N", help="other samples to check each point's loss on (default: 0)"
    )
    run.add_argument("--seed", type=int, default=0, metavar="K", help="fixes the order of the samples (default: 0)")
    run.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps (default: auto)")
    run.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="K",
        help="processes, of one thread each if several (default: 1, this one)",
    )
    run.add_argument(
        "--memory-budget", type=float, metavar="GIB", help="GiB the sweep may take (default: 70 %% of the free)"
    )
    run.add_argument(
        "--storage", default="auto", metavar="WHERE", help=f"auto; {choices(Storage, None)} (default: auto)"
    )
    run.add_argument("--scratch", metavar="DIR", help="folder for a scratch file (default: the system's)")
    add_store(run)
    run.add_argument("--detach", action="store_true", help="only put it into the queue of jobs, for a worker to run")
    run.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    parser.set_defaults(run=_sweep)


def _sweep(options: argparse.Namespace, memory_at_start: int) -> int:
    if not options.vary:
        raise InputError("sweep: nothing varies. Give --vary FIELD=VALUES, such as --vary damping=1e-5..1e-1:log:5.")
    if options.workers < 1:
        raise InputError(f"--workers: expected at least 1, got {options.workers}.")
    vary = parse_axes(options.vary, random=options.random is not None)
    _check_used(options, [name for name, _ in vary])
    indices = None if options.sample_indices is None else tuple(read_indices(options.sample_indices).tolist())
    base = {"sample_indices": indices, "held_out": options.held_out}
    sweep = Sweep(
        base=tuple({**base, **network_options(options), **method_options(options)}.items()),
        vary=vary,
        count=options.random,
        seed=options.sweep_seed or 0,
    )
    space = Workspace(
        memory_budget=memory_budget(options.memory_budget),
        storage=parse_storage(options.storage),
        scratch=options.scratch,
    )
    sweep = resolved(sweep, space)
    queue = StoreQueue(Store(options.store))
    queue.revive()
    job = submit(queue, sweep_request(sweep, ORIGIN))
    if options.detach:
        print(json.dumps({"job": job.number}) if options.json else _detached(job))
        return 0
    job = _to_its_end(queue, job, space, options.workers)
    points = [_point(part) for part in queue.parts(job.number)]
    if job.status is not JobStatus.DONE:
        raise WoodFisherError(
            f"job {job.number} is {job.status.label.lower()} with {len(points):,} of {sweep.total:,} points"
            + (f": {job.error}" if job.error else ". The same command goes on.")
        )
    failed = [point for point in points if point["error"]]
    names = [name for name, _ in sweep.vary]
    if options.json:
        print(json.dumps({"job": job.number, "points": points, "sweep": sweep.to_dict()}))
    else:
        print(_table(points, names))
    if len(failed) == len(points):
        raise WoodFisherError(f"sweep: every point failed, the first one with: {failed[0]['error']}")
    return 0


def _check_used(options: argparse.Namespace, varied: Sequence[str]) -> None:
    """Refuses settings that would change nothing."""
    parser = argparse.ArgumentParser()
    add_sweep(parser)
    given = {name for name, value in vars(parser.parse_args([])).items() if value != getattr(options, name)}
    for name in varied:
        flag = "fixed_samples" if name == "fresh_samples" else name
        if flag in given:
            raise InputError(f"{_flag(flag)}: --vary {name} sets it at every point. Leave one of the two out.")
    if options.sweep_seed is not None and options.random is None:
        raise InputError(
            "--sweep-seed: a grid has no random points. Leave it out, or say how many with --random COUNT."
        )
    if options.detach:
        local = [name for name in ("workers", "memory_budget", "storage", "scratch") if name in given]
        if local:
            raise InputError(f"{_flag(local[0])}: with --detach a worker runs the job, its own way. Leave it out.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _detached(job: Job) -> str:
    if job.over:
        return f"job {job.number} is {job.status.label.lower()} already: jobs show {job.number}"
    return (
        f"job {job.number} waits for a worker: the app starts one, or: jobs work. How far it is: jobs show {job.number}"
    )


def _to_its_end(queue: StoreQueue, job: Job, space: Workspace, workers: int) -> Job:
    """Runs the job here, or follows the process that runs it and takes over should that one die; returns it as it ends."""
    followed = False
    with _bar(queue, job):
        while not job.over:
            mine = queue.take(this_owner(), job.number)  # which puts a dead process's job back first
            if mine is None:
                if not followed and queue.get(job.number).status is JobStatus.RUNNING:
                    followed = True
                    tqdm.write(
                        f"job {job.number} runs in another process: followed here, with the workers and the memory it has there",
                        file=sys.stderr,
                    )
                time.sleep(LOOK_SECONDS)
            else:
                _run(queue, mine, space, workers)
            job = queue.get(job.number)
    return job


def _run(queue: StoreQueue, job: Job, space: Workspace, workers: int) -> None:
    try:
        with ExitStack() as stack:
            stack.enter_context(heartbeat(queue.store))
            if workers > 1:
                pool = stack.enter_context(WorkerPool(workers))
                stack.enter_context(sweeps_on(pool, workers))
            with _between_steps() as told:
                run_job(queue, job, space, stop=told.is_set)
            if told.is_set():
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        queue.cancel(job.number)  # else a worker would go on with it
        done = counted(len(queue.parts(job.number)), "point")
        print(f"job {job.number}: kept {done}; the same command goes on with the others", file=sys.stderr)
        raise


@contextmanager
def _between_steps() -> Iterator[threading.Event]:
    """Within the block Ctrl-C sets this event; the second one interrupts at once.

    Striking anywhere, within a transaction for one, it could leave the store locked against this very process.
    """
    told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            signal.default_int_handler(number, frame)
        told.set()

    if threading.current_thread() is not threading.main_thread():  # which alone hears of signals
        yield told
        return
    before = signal.signal(signal.SIGINT, tell)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(queue: StoreQueue, job: Job) -> Iterator[None]:
    """A bar on standard error while the block runs; points that were there count for nothing in the time left."""
    stop = threading.Event()

    def follow(bar: tqdm) -> None:
        seen: set[int] = set()
        while not bar.disable:
            last = stop.wait(LOOK_SECONDS)
            with suppress(StoreError):  # whoever computes will say what is wrong
                look(bar, seen)
            if last:
                return

    def look(bar: tqdm, seen: set[int]) -> None:
        found = queue.parts(job.number)
        fresh = [part for part in found if part.position not in seen]
        bar.initial += sum(part.position in before or bool(part.value.get("reused")) for part in fresh)
        seen |= {part.position for part in fresh}
        now = queue.get(job.number)
        bar.total = now.total or None
        best = max((part.value["accuracy"] for part in found if part.error is None), default=None)
        bar.set_postfix_str(now.message if best is None else f"best {best:.2f} %", refresh=False)
        bar.update(len(fresh))

    before = {part.position for part in queue.parts(job.number)}
    with tqdm(desc=f"job {job.number}", unit="point", leave=False, disable=None) as bar:
        thread = threading.Thread(target=follow, args=(bar,), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _point(part: Part) -> dict[str, object]:
    return {"position": part.position, **part.value, "key": part.key, "error": part.error}


def _table(points: Sequence[dict], names: Sequence[str]) -> str:
    """The best first: the fields that vary, then what came out; below it the points that failed."""
    fine = sorted((point for point in points if not point["error"]), key=lambda p: (-p["accuracy"], p["position"]))
    shown = [name for name in names if len({str(point["changes"][name]) for point in points}) > 1] or list(names)
    results = [name for name in COLUMNS if name not in shown]
    rows = [
        [_word(point["changes"][name]) for name in shown] + [_number(point[name], COLUMNS[name]) for name in results]
        for point in fine
    ]
    lines = _aligned([[*shown, *results], *rows]) if rows else []
    # Points may be equal: drawn twice, or the same by two names, as device auto and cpu.
    computed = {point["key"] for point in fine if not point["reused"]}
    reused = [point["key"] in computed for point in fine if point["reused"]]
    of = f"of {counted(len(points), 'point')}"
    if known := reused.count(False):
        lines.append(f"{known:,} {of} {'was' if known == 1 else 'were'} in the store already")
    if equal := reused.count(True):
        lines.append(f"{equal:,} {of} {'is' if equal == 1 else 'are'} equal to others here: computed once")
    failed = [point for point in points if point["error"]]
    if failed:
        lines.append(f"{len(failed):,} {of} failed:")
        lines += [
            "  " + ", ".join(f"{name} {_word(point['changes'][name])}" for name in shown) + f": {point['error']}"
            for point in failed
        ]
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _word(value: object) -> str:
    if isinstance(value, list):
        return "+".join(str(item) for item in value) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "default" if value is None else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
