"""A plane as a job: its points are the job's parts, by their place among the plane's points."""

import math
from collections.abc import Mapping

from woodfisher_core.evaluation import CONFIDENT
from woodfisher_core.experiments.plane import Plane, keep_rows, plane_rows
from woodfisher_core.experiments.verdicts import verdict
from woodfisher_core.jobs.queue import JobRequest, Part
from woodfisher_core.jobs.task import Task
from woodfisher_core.jobs.titles import network_words

KIND = "plane"


def plane_request(wanted: Plane, origin: str = "") -> JobRequest:
    """The job that fills ``wanted``, whose config must be resolved: its key then names the numbers."""
    config = wanted.config
    title = (
        f"{len(wanted.values)} × {len(wanted.dampings)} settings of {config.method} on "
        f"{network_words(config.model, config.dataset)}: "
        f"{wanted.axis} against damping" + (f", {len(wanted.seeds)} seeds" if wanted.seeds else "")
    )
    return JobRequest(kind=KIND, request=wanted.to_dict(), title=title, origin=origin)


def run_plane_job(task: Task) -> None:
    """Computes the plane of the task's request; each point is kept as a part when it is done."""
    wanted = Plane.from_dict(task.request)
    keep_rows(task.workspace, wanted, {place: row_of(part) for place, part in task.before.items()})
    task.expect(wanted.total, len(task.before))
    for place, row in plane_rows(task.workspace, wanted, task.progress):
        if place not in task.before:
            task.keep(Part(place, _plain(row)))
            task.say(f"{task.done:,} of {task.total:,} {'runs' if wanted.seeds else 'settings'}")


def row_of(part: Part) -> dict[str, object]:
    """The numbers of a point from its part, as :func:`plane_rows` gave them."""
    row = {name: math.nan if value is None and name != "verdict" else value for name, value in part.value.items()}
    if row["verdict"] is not None:  # an older version kept it in other words
        row["verdict"] = verdict(row["gain"], CONFIDENT * row["noise"])
    return row


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """JSON has no NaN."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
