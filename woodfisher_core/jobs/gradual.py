"""A gradual run as a job: an epoch is a part. A snapshot beside the store lets a killed one go on where it was, bit for bit."""

import time
from pathlib import Path

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_record import NETWORK, epoch_values, epochs_of, gradual_record, network_file
from woodfisher_core.experiments.remember import begun
from woodfisher_core.gradual_run import EpochRecord, records_in
from woodfisher_core.jobs.queue import JobRequest, Part
from woodfisher_core.jobs.task import Task
from woodfisher_core.jobs.titles import counted, network_words
from woodfisher_core.methods import get_method
from woodfisher_core.store import Store, artefacts
from woodfisher_core.store.places import data_folder

KIND = GradualConfig.kind


def gradual_request(config: GradualConfig, origin: str = "") -> JobRequest:
    """The job that runs ``config``, which must be resolved: its key then names the result."""
    prune = config.prune
    network, steps = network_words(prune.model, prune.dataset), counted(len(config.schedule.levels), "step")
    title = (
        f"{get_method(prune.method).label} on {network}: to sparsity {prune.sparsity:g} in {steps}, "
        f"{counted(config.epochs, 'epoch')}"
    )
    return JobRequest(kind=KIND, request=config.to_dict(), title=title, origin=origin)


def snapshot_file(store: Store, config: GradualConfig) -> Path:
    """Where a run of the resolved ``config`` that is under way keeps its state."""
    name = f"{config.key[:16]}.safetensors"
    if store.url.get_backend_name() == "sqlite":
        return Path(f"{store.url.database}.snapshots") / name
    return data_folder() / "snapshots" / name


def run_gradual_job(task: Task) -> None:
    """Runs the config of the task's request, and keeps it in the store; one that is there already is only told again."""
    config = GradualConfig.from_dict(task.request).resolved(task.workspace)
    waiting = lambda: task.say("another process is computing this run")  # noqa: E731
    with begun(task.store, config.key, waiting) as known:
        if known is None:
            _run(task, config)
        else:
            records = epochs_of(config, task.store.get(known))
            missing = [record for record in records if record.epoch not in task.before]
            task.expect(config.epochs, config.epochs - len(missing))
            for record in missing:
                task.keep(_part(config, record))


def _run(task: Task, config: GradualConfig) -> None:
    file = snapshot_file(task.store, config)
    taken = {epoch: float(part.value.get("seconds") or 0.0) for epoch, part in task.before.items()}

    def part(record: EpochRecord) -> Part:
        return _part(config, record, taken.get(record.epoch, 0.0))

    def next_one(done: int) -> None:
        doing = "pruning and training" if done + 1 in config.schedule.levels else "training"
        task.say(f"{doing}, epoch {done + 1} of {config.epochs}")

    # The last epoch's part is kept together with the run.
    before = [record for record in _records_in(file) if record.epoch < config.epochs]
    missing = [record for record in before if record.epoch not in task.before]
    task.expect(config.epochs, len(before) - len(missing))
    for record in missing:  # its process died between the two
        task.keep(part(record))
    next_one(min(len(before), config.epochs - 1))
    since = time.perf_counter()

    def progress(record: EpochRecord) -> None:
        nonlocal since
        now = time.perf_counter()
        taken[record.epoch], since = now - since, now
        if record.epoch < config.epochs:
            task.keep(part(record))
            next_one(record.epoch)

    _, result = run_gradual(config, file, progress, space=task.workspace, check=task.check)
    seconds = sum(taken.get(record.epoch, 0.0) for record in result.records)
    network = {NETWORK: artefacts.put(task.store.folder, network_file(result))}
    try:
        task.keep(part(result.last), gradual_record(config, result, seconds, task.job.origin, network))
    finally:
        if task.store.find(config.key) is not None:
            file.unlink(missing_ok=True)


def _part(config: GradualConfig, record: EpochRecord, seconds: float = 0.0) -> Part:
    """The last one is there only with the run, and names it."""
    key = config.key if record.epoch == config.epochs else None
    return Part(record.epoch, {**epoch_values(record), "seconds": seconds}, key)


def _records_in(file: Path) -> tuple[EpochRecord, ...]:
    """The epochs in a snapshot; none where there is none. One damaged on the disk goes: the numbers come out the same."""
    if not file.exists():
        return ()
    try:
        return records_in(file)
    except InputError:
        file.unlink()
        return ()
