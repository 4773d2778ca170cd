"""Sweeps run: known points taken from the store, the others ordered, shared out and computed once; a job like any other."""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool

import sqlalchemy as sa
import torch

from woodfisher_core import memory
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.remember import is_expected, said
from woodfisher_core.jobs.job import JobRequest, Part
from woodfisher_core.jobs.queue import owns
from woodfisher_core.jobs.task import TELL_SECONDS, Cancelled, Task
from woodfisher_core.jobs.titles import counted, network_words
from woodfisher_core.store.schema import parts
from woodfisher_core.sweeps.executors import InProcess, chosen_executor
from woodfisher_core.sweeps.group import Order, Site, impossible_part, known_runs, part_of, run_group
from woodfisher_core.sweeps.order import Item, in_groups
from woodfisher_core.sweeps.spec import Point, Source, Sweep

KIND = "sweep"


def sweep_request(sweep: Sweep, origin: str = "") -> JobRequest:
    """The job that computes ``sweep``; see :func:`resolved` for what its request should say."""
    base = dict(sweep.base)
    model = base.get("model") or PruneConfig().model
    fields = " × ".join(name for name, _ in sweep.vary)
    network = network_words(model, base.get("dataset"))
    title = f"{network}: {fields}, {counted(sweep.total, 'point' if sweep.count is None else 'random point')}"
    return JobRequest(kind=KIND, request=sweep.to_dict(), title=title[:300], origin=origin)


def resolved(sweep: Sweep, space: Workspace) -> Sweep:
    """``sweep`` with the device and the hashes of weights and data of every network that it is about: other weights in the same
    file, or a file that was missing, are another sweep then.

    Raises:
        InputError: No point can be run at all.
    """
    sources: dict[tuple, Source] = {}
    error = None
    for point in sweep.points():
        of = sweep.source_of(point)
        if point.config is not None and of not in sources:
            sources[of] = _source(of, point.config, space)
        error = error or point.error or sources[of].error
    if all(source.error for source in sources.values()):
        raise InputError(f"sweep: none of its points can be run. The first one says: {error}")
    return dataclasses.replace(sweep, sources=tuple(sources.values()))


def _source(of: tuple[tuple[str, object], ...], config: PruneConfig, space: Workspace) -> Source:
    try:
        problem = space.problem(config)
    except InputError as error:
        return Source(of=of, error=str(error))
    return Source(of=of, weights_hash=problem.weights_hash, data_hash=problem.dataset.hash, device=str(problem.device))


def run_sweep_job(task: Task) -> None:
    """Computes the sweep of the task's request, on what :func:`sweeps_on` says, else in this process.

    A part a point: ``changes`` are the fields it alone sets, ``run`` the number of its run, ``reused`` whether that was there.
    """
    run_sweep(task, *chosen_executor())


def run_sweep(task: Task, executor: Executor | None = None, workers: int = 1) -> None:
    """Computes the task's sweep on ``executor`` (this process by default), in groups for so many ``workers``.

    On any executor points are kept by whoever computes them. Where this ends early (cancelled, interrupted, an error that is a
    bug), groups elsewhere end with the point in hand.

    Raises:
        Cancelled: Someone wants the job to stop, or the process must end.
        WoodFisherError: A worker process died, or weights or data are others than when the sweep was asked for.
    """
    sweep = Sweep.from_dict(task.request)
    task.expect(sweep.total, len(task.before))
    task.say("looking for points that are known")
    items = _unknown(task, sweep, [point for point in sweep.points() if point.position not in task.before])
    groups = in_groups(items, workers)
    task.say("")

    def kept(part: Part) -> None:
        # Counted anew: on other executors this is said by several threads, and points of other processes are said by none.
        task.done = _count(task)
        if task.done != task.total:
            task.check()

    site = Site(_order(task, items, workers), task.store, task.workspace, task.check, task.progress, kept)
    executor = executor or InProcess()
    waiting = set()
    try:
        for group in groups:
            waiting.add(executor.submit(run_group, site, group))
            waiting = _looked_at(task, waiting, 0.0)
        while waiting:
            waiting = _looked_at(task, waiting, TELL_SECONDS)
    except BrokenProcessPool:
        raise WoodFisherError(
            "sweep: a worker process ended without a word (out of memory, perhaps). What was done is kept; ask again with fewer "
            "workers to go on."
        ) from None
    finally:
        for future in waiting:
            future.cancel()
    task.done = _count(task)


def _looked_at(task: Task, waiting: set[Future], seconds: float) -> set[Future]:
    """Those of ``waiting`` that are not done within ``seconds``; raises what went wrong in the others, or that we should stop."""
    done, left = wait(waiting, timeout=seconds, return_when=FIRST_COMPLETED)
    task.done = _count(task)
    for future in done:
        future.result()
    if left:
        task.check()
    return left


def _order(task: Task, items: Sequence[Item], workers: int) -> Order:
    """What each of ``workers`` processes may take, where groups go to other ones."""
    space = task.workspace
    most = space.memory_budget
    if workers > 1 and items:
        most = memory.budget(most, torch.device(items[0].config.device)) // workers
    return Order(
        place=task.store.place,
        job=task.job.number,
        owner=task.job.owner,
        origin=task.job.origin,
        cache_bytes=space.cache.max_bytes // workers,
        memory_budget=most,
        storage=space.storage,
        scratch=space.scratch,
    )


def _unknown(task: Task, sweep: Sweep, points: Sequence[Point]) -> list[Item]:
    """The points that must be computed; those that are known, and those that cannot be run, are kept as parts at once."""
    items, parts_now = [], []
    for point in points:
        config, error = point.config, point.error
        if config is not None:
            try:
                config = task.workspace.resolve(config)
            except Exception as raised:
                if not is_expected(raised):
                    raise
                _check_source(task, sweep, point)
                error = said(raised)
        if error is None:
            items.append(Item(point.position, dict(point.changes), config))
        else:
            parts_now.append((impossible_part(point.position, point.changes, error), time.time()))
        task.check()
    known = known_runs(task.store, [item.config.key for item in items])
    for item in items:
        if (row := known.get(item.config.key)) is not None:
            # As old as its run: no time of this attempt went into it.
            parts_now.append((part_of(item.position, item.changes, row), row["created"]))
    _keep(task, parts_now)
    return [item for item in items if item.config.key not in known]


def _check_source(task: Task, sweep: Sweep, point: Point) -> None:
    """Weights that changed since are no result of a point: the sweep is over, and goes on should they be back."""
    of = sweep.source_of(point)
    if any(source.of == of and source != _source(of, point.config, task.workspace) for source in sweep.sources):
        config = point.config
        raise InputError(
            f"sweep: the weights ({config.weights}) or the data of {config.model} are others than when it was asked for. "
            "Ask for it again as they are now."
        )


def _keep(task: Task, found: Sequence[tuple[Part, float]]) -> None:
    """Keeps parts with the times they were made, all of them or none."""
    rows = [
        {
            "job": task.job.number,
            "position": part.position,
            "key": part.key,
            "value": dict(part.value),
            "error": part.error,
            "created": created,
        }
        for part, created in found
    ]
    if not rows:
        return
    with task.store.writing() as connection:
        if not owns(connection, task.job.number, task.job.owner):
            raise Cancelled
        there = set(connection.execute(sa.select(parts.c.position).where(parts.c.job == task.job.number)).scalars())
        rows = [row for row in rows if row["position"] not in there]
        if rows:
            connection.execute(parts.insert(), rows)


def _count(task: Task) -> int:
    """How many parts the task's job has."""
    with task.store.reading() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(parts).where(parts.c.job == task.job.number)
        ).scalar()
