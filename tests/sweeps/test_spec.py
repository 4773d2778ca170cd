"""What a sweep is: its points, its JSON, what is refused, and that random points are the same for ever."""

import dataclasses
import itertools
import json
import math

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.sweeps.spec import MOST_POINTS, Between, Source, Sweep, Values

BASE = {"model": "digits-mlp", "num_samples": 100, "solver": "spectral"}
DAMPINGS, LEVELS = (1e-4, 1e-2), (0.5, 0.8, 0.9)


def sweep(vary: dict, count: int | None = None, seed: int = 0, **base) -> Sweep:
    return Sweep(base=tuple({**BASE, **base}.items()), vary=tuple(vary.items()), count=count, seed=seed)


GRID = sweep({"sparsity": Values(LEVELS), "damping": Values(DAMPINGS)})
RANDOM = sweep(
    {
        "damping": Between(1e-6, 1e-1, log=True),
        "num_samples": Between(10, 1000, log=True, whole=True),
        "sparsity": Between(0.5, 0.99),
        "seed": Between(0, 9, whole=True),
        "method": Values(("woodfisher", "magnitude")),
    },
    count=200,
)


def test_grid_is_every_combination_in_the_order_of_names():
    points = list(GRID.points())
    expected = [{"damping": d, "sparsity": s} for d, s in itertools.product(DAMPINGS, LEVELS)]
    assert [dict(point.changes) for point in points] == expected
    assert [point.position for point in points] == list(range(6))
    assert GRID.total == 6
    for point in points:
        assert point.config == PruneConfig(**BASE, **point.changes)


@pytest.mark.parametrize("one", [GRID, RANDOM], ids=["grid", "random"])
def test_json_both_ways(one):
    again = Sweep.from_dict(json.loads(json.dumps(one.to_dict())))
    assert again == one
    assert hash(again) == hash(one)
    assert [p.config for p in again.points()] == [p.config for p in one.points()]


def test_equal_sweeps_are_equal():
    """Neither the order of fields, nor a default that is spelt out, nor a base field that varies anyway makes another sweep."""
    turned = sweep({"damping": Values(DAMPINGS), "sparsity": Values(LEVELS)}, seed=0, damping=0.5, held_out=1000)
    assert turned == GRID
    assert sweep({"damping": Values((*DAMPINGS, DAMPINGS[0])), "sparsity": Values(LEVELS)}) == GRID
    assert sweep({"damping": Values(DAMPINGS[::-1]), "sparsity": Values(LEVELS)}) != GRID


def test_random_points_do_not_depend_on_the_rest():
    """A field's values come from a stream of its own: other fields, their order and a larger count change nothing."""
    drawn = [point.changes for point in RANDOM.points()]
    alone = sweep({"damping": Between(1e-6, 1e-1, log=True)}, count=50)
    assert [point.changes["damping"] for point in alone.points()] == [changes["damping"] for changes in drawn[:50]]
    turned = Sweep(base=RANDOM.base, vary=RANDOM.vary[::-1], count=200)
    assert [point.changes for point in turned.points()] == drawn
    other = Sweep(base=RANDOM.base, vary=RANDOM.vary, count=200, seed=1)
    assert all(a.changes["damping"] != b["damping"] for a, b in zip(other.points(), drawn, strict=True))


def test_random_points_are_frozen():
    """These very numbers, on every machine and version."""
    first = next(iter(RANDOM.points())).changes
    assert first == {
        "damping": 0.00179223311245,
        "method": "woodfisher",
        "num_samples": 305,
        "seed": 8,
        "sparsity": 0.53893236504,
    }


def test_random_points_fill_their_ranges():
    drawn = [point.changes for point in RANDOM.points()]
    logs = sorted(math.log10(changes["damping"]) for changes in drawn)
    assert -6 <= logs[0] < -5.9
    assert -1.1 < logs[-1] <= -1
    assert abs(sum(logs) / len(logs) + 3.5) < 0.3
    counts = [changes["num_samples"] for changes in drawn]
    assert all(isinstance(n, int) and 10 <= n <= 1000 for n in counts)
    assert 60 < sum(n < 100 for n in counts) < 140
    assert {changes["seed"] for changes in drawn} == set(range(10))
    assert 70 < sum(changes["method"] == "magnitude" for changes in drawn) < 130
    assert all(point.config is not None for point in RANDOM.points())


def test_sources_fill_in_what_points_are_about():
    """By the values of the fields that name it; one that could not be loaded, or is not named, is an error of its points."""
    several = sweep({"weights": Values(("a", "b", "c")), "damping": Values(DAMPINGS)})
    found = {"weights_hash": "1" * 64, "data_hash": "2" * 64, "device": "cpu"}
    sources = (Source(of=(("weights", "a"),), **found), Source(of=(("weights", "b"),), error="b is missing"))
    several = dataclasses.replace(several, sources=sources)
    again = Sweep.from_dict(json.loads(json.dumps(several.to_dict())))
    assert again == several
    points = {(p.changes["weights"], p.changes["damping"]): p for p in again.points()}
    assert points["a", 1e-4].config == PruneConfig(**BASE, weights="a", damping=1e-4, **found)
    assert [points["b", damping].error for damping in DAMPINGS] == ["b is missing"] * 2
    assert "Ask anew" in points["c", 1e-2].error
    repaired = sweep({"seed": Values((0, 1)), "damping": Values(DAMPINGS)}, repair_batchnorm=50)
    assert (repaired.source_fields, GRID.source_fields) == (("seed",), ())


def test_impossible_points_say_why():
    """A combination that cannot be is a point with an error; the others are fine."""
    wanted = sweep(
        {"update": Values(("joint", "none")), "update_scale": Values((1.0, 0.5)), "sparsity": Values((0.5, 2))}
    )
    points = list(wanted.points())
    assert [point.config is None for point in points] == [False, True, False, True, True, True, True, True]
    assert "only the independent update" in points[1].error
    assert "sparsity" in points[4].error
    odd = list(sweep({"damping": Values(("much", None, 0.1, (1, 2)))}).points())
    assert [point.config is None for point in odd] == [True, True, False, True]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sweep({"dumping": Values((1,))}), "unknown field dumping"),
        (lambda: sweep({"damping": Values((1,))}, colour=3), "unknown field colour"),
        (lambda: sweep({"engine_version": Values((1,))}), "unknown field engine_version"),
        (lambda: sweep({}), "at least one field"),
        (lambda: sweep({"damping": Between(1e-3, 1e-1)}), "values of damping"),
        (lambda: sweep({"damping": Values(())}), "at least one value"),
        (lambda: sweep({"damping": Values((math.nan,))}), "plain values"),
        (lambda: sweep({"damping": Values(({"a": 1},))}), "plain values"),
        (lambda: sweep({"damping": Values((1,))}, count=0), "number of random points"),
        (lambda: sweep({"damping": Values((1,))}, count=1, seed=-1), "sweep seed"),
        (lambda: sweep({"damping": Values((1,))}, count=MOST_POINTS + 1), "at most 20,000 points"),
        (lambda: sweep({n: Values(tuple(range(1000))) for n in ("seed", "probes", "images")}), "at most"),
        (lambda: Between(1, 1), "lower number first"),
        (lambda: Between(0, 1, log=True), "above zero"),
        (lambda: Between(0.5, 2, whole=True), "whole numbers"),
        (lambda: Between(0, math.inf), "finite"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "colour": 1}), "unknown field colour"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "engine_version": 1}), "engine version"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "vary": {"damping": {"values": "abc"}}}), "list of values"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "vary": {"damping": {"low": 1}}}), "low and high"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "vary": {"damping": {"values": [1], "x": 1}}}), "unknown field x"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "vary": {"damping": 3}}), "either values"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "vary": [1]}), "fields by name"),
        (
            lambda: Sweep.from_dict({**GRID.to_dict(), "vary": {"damping": {"low": 2, "high": 1}}}),
            "vary damping: range",
        ),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "sources": "abc"}), "list of values"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "sources": [3]}), "fields by name in sources"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "sources": [{"colour": 1}]}), "unknown field colour"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "sources": [{"device": 1}]}), "text as device"),
        (lambda: Sweep.from_dict({**GRID.to_dict(), "base": {"model": {"a": 1}}}), "plain values"),
    ],
)
def test_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
