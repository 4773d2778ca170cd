"""Seconds from nothing, and the front of those whom nobody beats in both."""

import itertools
import math

import pandas as pd
import pytest

from woodfisher_core.experiments import PruneConfig, Workspace, price
from woodfisher_core.options import Solver

CONFIG = PruneConfig(model="digits-mlp", num_samples=60, held_out=0, device="cpu", damping=1e-2, solver="spectral")


def test_seconds_are_those_of_a_run_from_nothing(monkeypatch):
    """Every timed run makes its gradients anew with the single run's solver; what others have kept stays."""
    space, seen = Workspace(), []
    rows = space.context(CONFIG).fisher()
    before = space.cache.nbytes
    real = Workspace.outcome

    def recorded(self, config, *rest):
        assert self is not space
        seen.append((self.missing(config)[0], config.solver))
        return real(self, config, *rest)

    monkeypatch.setattr(Workspace, "outcome", recorded)
    assert price.known_seconds(space, CONFIG) is None
    seconds = price.run_seconds(space, CONFIG)
    assert 0 < seconds < 60
    assert len(seen) > 1
    assert set(seen) == {(True, Solver.AUTO)}
    assert price.known_seconds(space, CONFIG) == seconds == price.run_seconds(space, CONFIG)
    assert space.cache.nbytes == before
    assert space.context(CONFIG).fisher() is rows


def test_what_fails_has_no_seconds():
    space = Workspace()
    broken = CONFIG.replace(method="exact-obs", update=None, damping=1e-9)
    assert math.isnan(price.run_seconds(space, broken))
    assert price.predicted(space, [broken]).seconds == 0.0  # known by now


def test_the_price_is_of_what_is_not_known_yet():
    space = Workspace()
    both = [CONFIG, CONFIG.replace(method="kfac", update=None)]
    assert price.predicted(space, both).seconds > 0
    price.run_seconds(space, CONFIG)
    assert price.predicted(space, both).seconds > 0
    assert price.predicted(space, [CONFIG]).seconds == 0


def test_a_price_waits_for_its_turn():
    """The empty workspace runs the same network: no other thread computes meanwhile, whichever of both it asks."""
    space = Workspace()
    empty = price.alone(space, CONFIG)
    assert empty.problem(CONFIG) is space.problem(CONFIG)
    with space.cache.computing:
        assert empty.cache.computing.mine
        assert empty.results.computing.mine


def test_the_front():
    """Against every pair: beaten is who has one no slower and no worse, and better in one."""
    points = pd.DataFrame(
        {
            "label": list("abcdefg"),
            "seconds": [1.0, 2.0, 2.0, 3.0, 0.5, 4.0, float("nan")],
            "accuracy": [90.0, 95.0, 95.0, 94.0, 80.0, float("nan"), 99.0],
        }
    )
    found = price.with_front(points).set_index("label")["beaten_by"]
    known = points.dropna()
    for own, other in itertools.permutations(known.itertuples(), 2):
        no_worse = other.seconds <= own.seconds and other.accuracy >= own.accuracy
        if no_worse and (other.seconds, other.accuracy) != (own.seconds, own.accuracy):
            assert found[own.label] != ""
    assert found.to_dict() == {"e": "", "a": "", "b": "", "c": "", "d": "b"}
    assert price.with_front(points.iloc[5:]).empty


@pytest.mark.parametrize(("seconds", "again"), [(2.0, 0), (0.07, 2), (1e-4, price.AGAIN), (0.0, price.AGAIN)])
def test_quick_runs_are_timed_again(seconds, again):
    assert price._again(seconds) == again
