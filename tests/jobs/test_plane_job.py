"""A plane filled by a job is the plane filled here; stopped, it goes on with what it had."""

import json
import math

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import Plane, keep_rows, kept_plane, missing_points, plane
from woodfisher_core.experiments.verdicts import BETTER, EQUAL, WORSE
from woodfisher_core.jobs import Cancelled, StoreQueue, Task
from woodfisher_core.jobs.plane import plane_request, row_of, run_plane_job
from woodfisher_core.jobs.queue import Part
from woodfisher_core.options import Axis
from woodfisher_core.store import Store

SETTING = PruneConfig(model="digits-mlp", num_samples=50, sparsity=0.8, solver="spectral", held_out=100)
ALL_IMAGES = 1297  # none are held out then: the losses are NaN


@pytest.fixture
def queue(tmp_path):
    return StoreQueue(Store(tmp_path / "runs.sqlite"))


def wanted_in(space: Workspace, values=(20, 50), **changes) -> Plane:
    return Plane(space.resolve(SETTING.replace(**changes)), Axis.SAMPLES, values, (1e-4, 1e-2))


def task_of(queue: StoreQueue, wanted: Plane) -> Task:
    job = queue.submit(plane_request(wanted))
    return Task(queue, queue.take("someone|1|1.0", job.number), Workspace())


@pytest.mark.parametrize("values", [(20, 50), (ALL_IMAGES, 20)], ids=str)
def test_the_parts_are_the_plane(queue, values):
    """Filled into another workspace they give the table that is computed there, NaN and all; nothing is missing."""
    space, page = Workspace(), Workspace()
    wanted = wanted_in(space, values)
    task = task_of(queue, wanted)
    run_plane_job(task)
    parts = queue.parts(task.job.number)
    assert [part.position for part in parts] == [0, 1, 2, 3]
    keep_rows(page, wanted, {part.position: row_of(part) for part in parts})
    assert missing_points(page, wanted) == []
    assert kept_plane(page, wanted).equals(plane(space, wanted))
    assert kept_plane(page, wanted)["measured"].isna().any() == (ALL_IMAGES in values)
    assert (task.done, task.total) == (4, 4)


@pytest.mark.parametrize(("gain", "said"), [(0.5, EQUAL), (2.0, BETTER), (-2.0, WORSE)])
def test_parts_of_an_older_version(gain, said):
    """Their verdicts were in other words; a point that failed has none."""
    row = row_of(Part(0, {"gain": gain, "noise": 0.5, "measured": None, "verdict": "equal"}))
    assert (row["verdict"], math.isnan(row["measured"])) == (said, True)
    assert row_of(Part(0, {"gain": None, "noise": None, "verdict": None}))["verdict"] is None


def test_a_stopped_plane_goes_on(queue, monkeypatch):
    """Parts that are there are not computed again, nor changed."""
    wanted = wanted_in(Workspace())
    task = task_of(queue, wanted)
    kept = task.keep

    def stop_after_two(*arguments):
        kept(*arguments)
        if task.done == 2:
            raise Cancelled

    monkeypatch.setattr(task, "keep", stop_after_two)
    with pytest.raises(Cancelled):
        run_plane_job(task)
    first = queue.parts(task.job.number)
    assert len(first) == 2
    again = Task(queue, queue.get(task.job.number), Workspace())
    added, again_keep = [], again.keep
    monkeypatch.setattr(again, "keep", lambda part: (added.append(part.position), again_keep(part)))
    run_plane_job(again)
    assert len(added) == 2
    assert not set(added) & {part.position for part in first}
    assert all(part in queue.parts(task.job.number) for part in first)


def test_equal_planes_are_one_request():
    """Through JSON and back; another λ is another one."""
    wanted = wanted_in(Workspace())
    again = Plane.from_dict(json.loads(json.dumps(wanted.to_dict())))
    assert again == wanted
    assert plane_request(again).key == plane_request(wanted).key
    other = Plane(wanted.config, wanted.axis, wanted.values, (1e-4, 1e-1))
    assert plane_request(other).key != plane_request(wanted).key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": []}, "1 to 10,000 points, got 0 × 2"),
        ({"dampings": [10.0**-n for n in range(6000)]}, "got 2 × 6000"),
        ({"dampings": [0.0]}, "damping: expected a positive number"),
        ({"values": [0]}, "num samples"),
        ({"surplus": 1}, "expected the fields axis, config, dampings, seeds, values, got"),
        ({"axis": "colour"}, "axis: expected one of samples, block, mini-batch, update scale, images, got 'colour'"),
        ({"config": {"model": "no such"}}, "no such"),
    ],
    ids=["empty", "many", "damping", "value", "surplus", "axis", "config"],
)
def test_a_bad_plane_is_refused(change, message):
    given = wanted_in(Workspace()).to_dict() | change
    with pytest.raises(InputError, match=message):
        Plane.from_dict(given)
