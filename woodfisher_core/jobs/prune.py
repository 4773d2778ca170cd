"""One pruning run as a job: a single part, the run in the store."""

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.remember import remembered
from woodfisher_core.jobs.job import JobRequest, Part
from woodfisher_core.jobs.task import Task
from woodfisher_core.jobs.titles import network_words

KIND = "prune"


def prune_request(config: PruneConfig, origin: str = "") -> JobRequest:
    """The job that keeps the run of ``config``."""
    title = f"{config.method} on {network_words(config.model, config.dataset)} at sparsity {config.sparsity:g}"
    return JobRequest(kind=KIND, request=config.to_dict(), title=title, origin=origin)


def run_prune_job(task: Task) -> None:
    """Computes the config of the task's request, unless its run is there; the part's value names it (``run``, ``reused``)."""
    config = PruneConfig.from_dict(task.request)
    task.expect(1)
    number, reused = remembered(
        task.store, task.workspace, config, origin=task.job.origin, progress=task.progress, waiting=task.check
    )
    task.keep(Part(0, {"run": number, "reused": reused}, key=task.store.get(number).key))
