"""The words of ``--vary``: what they mean, and what the errors say."""

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.sweeps.axes import parse_axes, parse_axis
from woodfisher_core.sweeps.spec import Between, Values


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("damping=1e-5,1e-3,.1", "damping", (1e-5, 1e-3, 0.1)),
        ("damping=1e-6..1e-1:log:6", "damping", (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        ("sparsity=0.5..0.9:5", "sparsity", (0.5, 0.6, 0.7, 0.8, 0.9)),
        ("num-samples=10..1000:log:3", "num_samples", (10, 100, 1000)),
        ("num_samples=100, 2e2", "num_samples", (100, 200)),
        ("seed=2..5", "seed", (2, 3, 4, 5)),
        ("seed=0..8:3", "seed", (0, 4, 8)),
        ("method=woodfisher,magnitude", "method", ("woodfisher", "magnitude")),
        ("update=none,joint,default", "update", ("none", "joint", None)),
        ("pattern=none,2:4", "pattern", (None, "2:4")),
        ("images=default,50", "images", (None, 50)),
        ("block_size=layer,16,network", "block_size", ("layer", 16, "network")),
        ("fresh_samples=true,no", "fresh_samples", (True, False)),
        ("exclude=fc1+fc2,fc3", "exclude", (("fc1", "fc2"), ("fc3",))),
        ("sample_indices=1+2,3+4", "sample_indices", ((1, 2), (3, 4))),
    ],
)
def test_values(text, name, values):
    found = parse_axis(text, random=False)
    assert found == (name, Values(values))
    assert [type(value) for value in found[1].values] == [type(value) for value in values]


def test_ranges_of_a_random_sample():
    assert parse_axis("num_samples=10..1000:log", random=True)[1] == Between(10, 1000, log=True, whole=True)
    assert parse_axis("sparsity=.5...9", random=True)[1] == Between(0.5, 0.9)
    assert parse_axis("seed=0..4", random=True)[1] == Between(0, 4, whole=True)
    assert parse_axis("damping=1e-3..1e-1:3:log", random=True)[1] == Values((1e-3, 1e-2, 1e-1))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["dumping=1"], "unknown field dumping"),
        (["damping"], "expected damping=A,B,C"),
        (["damping="], "expected damping=A,B,C"),
        (["damping=much"], "expected numbers, got 'much'"),
        (["damping=1,,2"], "expected numbers"),
        (["damping=nan"], "expected numbers"),
        (["damping=1..2"], "how many steps"),
        (["damping=1..2:1"], "2 to 20,000 steps"),
        (["damping=1..2:log:6:7"], "A..B:log:STEPS"),
        (["damping=2..1:3"], "--vary damping=2..1:3: range: expected the lower number first"),
        (["seed=1.5"], "whole numbers, got '1.5'"),
        (["method=woodfish"], "method: expected one of"),
        (["model=lenet"], "lenet"),
        (["update=some"], "--vary update: expected one of"),
        (["fresh_samples=2"], "true or false"),
        (["seed=1", "seed=2"], "given twice"),
    ],
)
def test_refused(texts, words):
    with pytest.raises(InputError, match=words):
        parse_axes(texts, random=False)


def test_what_may_vary_is_listed():
    """But for the engine's version, which nobody chooses."""
    with pytest.raises(InputError, match=r"unknown field N; expected among .*num_samples") as refused:
        parse_axis("N=3", random=False)
    assert "engine_version" not in str(refused.value)
