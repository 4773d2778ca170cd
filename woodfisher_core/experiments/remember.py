"""Runs remembered: a report as the store keeps it, and equal configs computed once, by whichever process comes first."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache

import sqlalchemy as sa
import torch

from woodfisher_core.environment import machine
from woodfisher_core.errors import StoreError, WoodFisherError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.results import CurvePoint, LossChange, RunReport
from woodfisher_core.experiments.tables import layer_table
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.loss_change import QuadraticTerms
from woodfisher_core.store import Metric, RunRecord, Status, Store
from woodfisher_core.store.claims import claim, heartbeat, release
from woodfisher_core.store.schema import runs

KIND = "prune"
# How often a run that another process computes is looked for: at first, and at most.
FIRST_LOOK, LONGEST_LOOK = 0.05, 1.0
LAYER_COLUMNS = ("layer", "shape", "kept", "total")

# What threads of this process compute right now, by (store, key): a store's claims tell processes apart, not threads.
_computing: set[tuple[str, str]] = set()
_computing_lock = threading.Lock()


def record_of(report: RunReport, *, origin: str = "", label: str = "", curve: Sequence[CurvePoint] = ()) -> RunRecord:
    """``report`` as a store keeps it; ``curve``, points of its accuracy against sparsity, at steps from 1.

    Metrics at step 0: ``accuracy``, ``standard_error`` (percent), ``loss``, ``dense_loss`` (nats), ``kept``; loss changes in
    nats, ``measured_fisher_samples``, ``predicted_fisher_samples`` with its ``_first_order`` and ``_second_order``, the same for
    ``held_out`` with ``num_held_out``, ``damping_penalty``; ``effective_damping``. What there is not is left out.
    """
    config, mask, problem = report.config, report.outcome.mask, report.problem
    numbers = {
        "accuracy": report.pruned.accuracy,
        "standard_error": report.pruned.standard_error,
        "loss": report.pruned.loss,
        "dense_loss": problem.dense.loss,
        "kept": mask.kept,
        "effective_damping": report.damping,
        **_changes(report.loss_change),
    }
    metrics = [Metric(name, float(value), mask.sparsity) for name, value in numbers.items() if value is not None]
    for step, point in enumerate(curve, start=1):
        metrics += [Metric(name, float(getattr(point, name)), point.removed, step) for name in _ALONG_A_CURVE]
    return RunRecord(
        kind=KIND,
        key=config.key,
        config=config.to_dict(),
        about=_about(config),
        headline={
            "sparsity": mask.sparsity,
            "accuracy": report.pruned.accuracy,
            "dense_accuracy": problem.dense.accuracy,
            "loss": report.pruned.loss,
        },
        metrics=tuple(metrics),
        layers=tuple(
            {name: row[name] for name in LAYER_COLUMNS}
            for row in layer_table(problem.parameters, mask.keep).to_dict("records")
        ),
        seconds=dict(report.seconds),
        environment=_machine(config.device, torch.get_num_threads()),
        origin=origin,
        label=label,
    )


_ALONG_A_CURVE = ("accuracy", "loss", "kept")


def _changes(change: LossChange) -> dict[str, float | None]:
    found = {"measured_fisher_samples": change.measured_fisher_samples, "damping_penalty": change.damping_penalty}
    found |= _terms("predicted_fisher_samples", change.predicted_fisher_samples)
    if change.num_held_out:
        found |= {"measured_held_out": change.measured_held_out, "num_held_out": change.num_held_out}
        found |= _terms("predicted_held_out", change.predicted_held_out)
    return found


def _terms(name: str, terms: QuadraticTerms | None) -> dict[str, float]:
    if terms is None:
        return {}
    return {name: terms.total} | {f"{name}_{part}": value for part, value in asdict(terms).items()}


def _about(config: PruneConfig) -> dict[str, str]:
    return {name: getattr(config, name) for name in ("model", "dataset", "method")}


def failed_record(config: PruneConfig, error: BaseException, *, seconds: float = 0.0, origin: str = "") -> RunRecord:
    """A run of the resolved ``config`` that ended in ``error``, ``seconds`` after it was begun."""
    return RunRecord(
        kind=KIND,
        key=config.key,
        config=config.to_dict(),
        about=_about(config),
        status=Status.FAILED,
        error=said(error),
        headline={"sparsity": config.sparsity},
        seconds={"until the error": seconds},
        environment=_machine(config.device, torch.get_num_threads()),
        origin=origin,
    )


@lru_cache(maxsize=4)
def _machine(device: str, threads: int) -> dict[str, object]:
    """Asked once, but for what may change while a process runs."""
    return machine(device)


def is_expected(error: BaseException) -> bool:
    """Whether ``error`` says something of the run itself (a bad value, no memory), not of the store or of a bug."""
    if isinstance(error, StoreError):
        return False
    return isinstance(error, (WoodFisherError, MemoryError, torch.OutOfMemoryError)) or _allocation_failed(error)


def said(error: BaseException) -> str:
    """``error`` in words."""
    if isinstance(error, WoodFisherError):
        return str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _allocation_failed(error):
        return (
            f"out of memory: {str(error) or 'the system gave no more'}. Lower num_samples, or prune a smaller network."
        )
    return f"{type(error).__name__}: {error}"


def _allocation_failed(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def begin(store: Store, key: str) -> bool:
    """Takes the computing of ``key`` for this thread; False where another thread or living process is at it."""
    here = (store.place, key)
    with _computing_lock:
        if here in _computing:
            return False
        _computing.add(here)
    taken = False
    try:
        taken = claim(store, key)
        return taken
    finally:
        if not taken:
            forget(store, key)


def end(store: Store, key: str) -> None:
    """Gives back what :func:`begin` took."""
    try:
        release(store, key)
    finally:
        forget(store, key)


def forget(store: Store, key: str) -> None:
    """As :func:`end`, where the claim in the store has been deleted already."""
    with _computing_lock:
        _computing.discard((store.place, key))


def remembered(
    store: Store,
    space: Workspace,
    config: PruneConfig,
    *,
    origin: str = "",
    label: str = "",
    progress: Progress | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> tuple[int, bool]:
    """(number of the run of ``config`` in ``store``, whether it was there): computed here unless someone has done so.

    Where another process computes it at this moment, this waits for it, calling ``waiting`` now and then; should that process
    die, this one takes over. An error of the run itself is kept as a failed run, and raised.
    """
    config = space.resolve(config)
    with begun(store, config.key, waiting) as known:
        if known is not None:
            return known, True
        started = time.perf_counter()
        try:
            with heartbeat(store):
                report = space.report(config, progress)
        except Exception as error:
            if is_expected(error):
                store.save(failed_record(config, error, seconds=time.perf_counter() - started, origin=origin))
            raise
        return store.save(record_of(report, origin=origin, label=label)), False


@contextmanager
def begun(store: Store, key: str, waiting: Callable[[], None]) -> Iterator[int | None]:
    """Until the block ends the computing of ``key`` is this thread's; or gives the number of its run, which is there, or comes
    back where it was deleted.

    Where another thread or process is at it, this waits, calling ``waiting`` now and then.
    """
    pause = FIRST_LOOK
    while (known := _there(store, key)) is None and not begin(store, key):
        waiting()
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_LOOK)
    if known is not None:
        yield known
        return
    try:
        yield _there(store, key)  # whoever had it a moment ago may have just saved it
    finally:
        end(store, key)


def _there(store: Store, key: str) -> int | None:
    """The number of the finished run of ``key``, which comes back where it was deleted; None where there is none."""
    chosen = sa.select(runs.c.id, runs.c.deleted).where(runs.c.key == key, runs.c.status == Status.DONE.value)
    with store.reading() as connection:
        found = connection.execute(chosen).first()
    if found is None:
        return None
    if found.deleted is not None:
        store.restore([found.id])
    return found.id
