"""Times taken in turns: a clock that only the calls move makes every number known beforehand."""

import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom

from woodfisher_core.experiments import latency
from woodfisher_core.experiments.latency import clock_for, in_turns, interval_rank, summary, threads


class Calls:
    """Calls of known length, noted in their order."""

    def __init__(self, **seconds: float):
        self.now, self.order = 0.0, []
        self.all = {name: lambda name=name, s=s: self._run(name, s) for name, s in seconds.items()}

    def _run(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.order.append(name)

    def clock(self) -> float:
        return self.now


def test_every_round_reads_every_call_beginning_with_another():
    """None always comes after the same one."""
    calls = Calls(a=0.5, b=1.0, c=2.0)
    found = in_turns(calls.all, seconds=0.0, clock=calls.clock)
    assert len(found) == latency.FEWEST_ROUNDS
    assert found.to_numpy() == pytest.approx(np.tile([0.5, 1.0, 2.0], (len(found), 1)))
    rounds = "".join(calls.order)[-3 * len(found) :]
    assert [rounds[i : i + 3] for i in range(0, 9, 3)] == ["abc", "bca", "cab"]


def test_short_calls_are_read_many_at_once():
    """As many as last a reading, and the time is still that of one."""
    calls = Calls(short=latency.READING_SECONDS / 50, long=1.0)
    found = in_turns(calls.all, seconds=0.0, clock=calls.clock)
    assert found["short"].to_numpy() == pytest.approx(latency.READING_SECONDS / 50)
    assert calls.order.count("short") >= 50 * len(found)
    assert calls.order.count("long") == 3 + len(found)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, "fewest"), (1e9, "most"), (12.5, 12)])
def test_as_many_rounds_as_the_time_allows(seconds, rounds):
    calls = Calls(one=1.0)
    wanted = {"fewest": latency.FEWEST_ROUNDS, "most": latency.MOST_ROUNDS}.get(rounds, rounds)
    assert len(in_turns(calls.all, seconds, clock=calls.clock)) == wanted


def test_summary_holds_medians_quartiles_and_paired_ratios():
    """A machine that slows down by the round does so for all: the ratio does not notice."""
    slower = np.linspace(1.0, 3.0, 9)
    rounds = pd.DataFrame({"dense": slower, "other": 2.0 * slower})
    found = summary(rounds, "dense")
    assert found.loc["dense", ["seconds", "low", "high"]].tolist() == [2.0, 1.5, 2.5]
    assert found.loc["other", ["ratio", "ratio_low", "ratio_high"]].tolist() == [2.0, 2.0, 2.0]
    assert found["rounds"].tolist() == [9, 9]


@pytest.mark.parametrize("count", [6, 7, 9, 12, 15, 25, 41])
def test_the_interval_holds_the_median_in_95_percent(count):
    """The narrowest pair of order statistics that does, by SciPy's binomial distribution."""
    rank = interval_rank(count)
    outside = lambda r: 2 * binom.cdf(r, count, 0.5)  # noqa: E731
    assert outside(rank) <= 0.05 < outside(rank + 1)


def test_the_interval_is_taken_from_the_ordered_ratios():
    values = np.random.default_rng(0).permutation(25) + 1.0
    found = summary(pd.DataFrame({"dense": np.ones(25), "other": values}), "dense").loc["other"]
    rank = int(binom.ppf(0.025, 25, 0.5)) - 1  # the usual table: the 8th smallest and largest of 25
    assert (found["ratio_low"], found["ratio_high"]) == (rank + 1.0, 25.0 - rank)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with suppress(KeyError), threads(before + 1) as used:
        assert used == torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
    with threads(None) as used:
        assert used == before


def test_one_thread_has_a_clock_of_its_own():
    """Waiting, as while other programs run, does not count on one CPU thread; on more, or on a GPU, only the wall tells."""
    assert clock_for(torch.device("cpu"), 1) is time.thread_time
    assert clock_for(torch.device("cpu"), 2) is time.perf_counter
    assert clock_for(torch.device("cuda"), 1) is time.perf_counter
