"""What may be asked: anything else is refused in words before it waits."""

import dataclasses
import math

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.jobs import JobRequest, kinds
from woodfisher_core.jobs.gradual import gradual_request
from woodfisher_core.jobs.prune import prune_request
from woodfisher_core.own import bring_data, sample_data
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.sweeps import Sweep, Values, sweep_request

GOOD = PruneConfig(model="digits-mlp").to_dict()


@pytest.fixture
def place(tmp_path):
    """A file: what is tested here is the same on every backend."""
    return str(tmp_path / "runs.sqlite")


@pytest.mark.parametrize(
    ("kind", "request_", "expected"),
    [
        ("no such", {}, "kind of job: expected one of prune, .*got 'no such'"),
        ("prune", {**GOOD, "colour": "red"}, "unknown field colour"),
        ("prune", {**GOOD, "sparsity": "much"}, "sparsity"),
        ("prune", {**GOOD, "exclude": 7}, "prune job: the request cannot be read"),
        ("prune", {**GOOD, "num_samples": 0}, "samples"),
        ("prune", {**GOOD, "damping": math.nan}, "plain JSON"),
        ("prune", {**GOOD, "weights": {1, 2}}, "plain JSON"),
        ("prune", {**GOOD, "sample_indices": list(range(1_000_000))}, "at most 1,048,576 bytes, got"),
        ("sweep", {"vary": {"damping": {"values": list(range(30_000))}}}, "at most 20,000 points, got 30,000"),
        ("sweep", {"vary": {"colour": {"values": [1]}}}, "unknown field colour"),
        ("sweep", {"vary": [1]}, "expected fields by name in vary"),
        ("gradual", {"surplus": 1}, "surplus"),
        ("plane", {"surplus": 1}, "plane: expected the fields"),
        (
            "plane",
            {"axis": "samples", "config": GOOD, "values": [10], "dampings": [0.1] * 20_000},
            "1 to 10,000 points",
        ),
    ],
)
def test_refused_in_words(queue, kind, request_, expected):
    with pytest.raises(InputError, match=expected):
        kinds.submit(queue, JobRequest(kind=kind, request=request_, title="bad"))
    assert queue.jobs() == []


@pytest.mark.parametrize("name", ["title", "origin"])
def test_long_texts_are_refused(queue, name):
    texts = {"title": "t", "origin": "o"} | {name: "x" * 1000}
    with pytest.raises(InputError, match=f"expected a {name} of at most"):
        kinds.submit(queue, JobRequest(kind="prune", request=GOOD, **texts))
    assert queue.jobs() == []


def test_a_good_request_waits(queue):
    job = kinds.submit(queue, prune_request(PruneConfig(model="digits-mlp"), "page"))
    assert PruneConfig.from_dict(job.request) == PruneConfig(model="digits-mlp")
    assert job.title == "woodfisher on digits-mlp at sparsity 0.95"
    assert [kind.name for kind in kinds.KINDS.values()] == list(kinds.KINDS)
    assert all(kind.label and kind.help for kind in kinds.KINDS.values())


def test_the_data_are_named_where_they_are_not_the_usual_ones(queue, tmp_path, monkeypatch):
    """What a user brought by the name that its user gave it; where it is not on this machine by its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = bring_data(sample_data("digits"), "my photos.npz").name
    usual, own = PruneConfig(model="digits-mlp"), PruneConfig(model="digits-mlp", dataset=data)
    sweep = {"vary": (("seed", Values((1, 2))),)}
    for asked, other in (
        (prune_request(usual), prune_request(own)),
        (gradual_request(gradual(usual)), gradual_request(gradual(own))),
        (
            sweep_request(Sweep(base=(("model", "digits-mlp"),), **sweep)),
            sweep_request(Sweep(base=(("dataset", data), ("model", "digits-mlp")), **sweep)),
        ),
    ):
        assert "with the data" not in asked.title
        assert other.title == asked.title.replace("digits-mlp", "digits-mlp with the data my photos")
    assert "steps" not in gradual_request(gradual(usual)).title
    assert "in 1 step, 3 epochs" in gradual_request(gradual(usual)).title
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert f"with the data {data}" in prune_request(own).title


def gradual(prune: PruneConfig) -> GradualConfig:
    schedule = GradualSchedule(final=prune.sparsity, initial=0.1, start_epoch=2, end_epoch=2)
    return GradualConfig(prune=prune, schedule=schedule, epochs=3)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("gradual", "2 of 3 epochs"), ("sweep", "2 of 3 points"), ("prune", "2 of 3 runs"), ("else", "2 of 3 parts")],
)
def test_parts_have_a_unit(queue, kind, words):
    job = queue.submit(JobRequest(kind=kind, request={}, title=""))
    assert kinds.parts_words(dataclasses.replace(job, done=2, total=3)) == words
