"""How long a call takes against others: in turns, so that what slows the machine slows all alike, and with its noise."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch

from woodfisher_core.timing import wait

# One reading is of as many calls as this takes, so that the clock's own grain does not matter.
READING_SECONDS = 2e-4
FEWEST_ROUNDS, MOST_ROUNDS = 7, 15
Call = Callable[[], object]
Clock = Callable[[], float]


def clock_for(device: torch.device | None, count: int) -> Clock:
    """The clock to read: on one CPU thread its own processor time, which other programs do not lengthen; else wall-clock."""
    on_cpu = device is None or device.type == "cpu"
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time if on_cpu and count == 1 and fine else time.perf_counter


@contextmanager
def threads(count: int | None) -> Iterator[int]:
    """``count`` threads (None: as they are) for the CPU products of this thread; yields how many there are."""
    before = torch.get_num_threads()
    try:
        if count is not None and count != before:
            torch.set_num_threads(count)
        yield torch.get_num_threads()
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def in_turns(
    calls: Mapping[str, Call], seconds: float, device: torch.device | None = None, clock: Clock = time.perf_counter
) -> pd.DataFrame:
    """Seconds by ``clock`` a call of each of ``calls``, one column each, one row a round.

    A round reads each of them once, beginning with another one each time: none always comes after the same one. Two unread
    rounds warm up and say how many calls make a reading. There are as many rounds as ``seconds`` allow, ``FEWEST_ROUNDS`` to
    ``MOST_ROUNDS``.
    """
    reading: dict[str, int] = {}
    cost = 0.0
    for _ in range(2):
        for name, call in calls.items():
            taken = _reading(call, 1, device, clock)
            reading[name] = max(1, min(1000, math.ceil(READING_SECONDS / max(taken, 1e-7))))
    for name, call in calls.items():
        cost += _reading(call, reading[name], device, clock) * reading[name]
    rounds = int(min(MOST_ROUNDS, max(FEWEST_ROUNDS, seconds / max(cost, 1e-9))))
    names, found = list(calls), []
    for turn in range(rounds):
        first = turn % len(names)
        order = names[first:] + names[:first]
        found.append({name: _reading(calls[name], reading[name], device, clock) for name in order})
    return pd.DataFrame(found, columns=names)


def _reading(call: Call, times: int, device: torch.device | None, clock: Clock) -> float:
    """Seconds a call, over ``times`` calls."""
    wait(device)
    start = clock()
    for _ in range(times):
        call()
    wait(device)
    return (clock() - start) / times


def summary(rounds: pd.DataFrame, against: str) -> pd.DataFrame:
    """A row for each column of ``rounds`` (see :func:`in_turns`), indexed by its name.

    Columns: ``seconds``, the median; ``low`` and ``high``, its quartiles; ``ratio``, the median over the rounds of its time
    over that of ``against`` in the same round; ``ratio_low`` and ``ratio_high``, that median's 95 % confidence interval (of
    order statistics, Hahn & Meeker 1991; the extremes below 6 rounds); ``rounds``.
    """
    ratios = rounds.div(rounds[against], axis=0)
    count = len(rounds)
    rank = interval_rank(count)
    ordered = np.sort(ratios.to_numpy(), axis=0)
    return pd.DataFrame(
        {
            "seconds": rounds.median(),
            "low": rounds.quantile(0.25),
            "high": rounds.quantile(0.75),
            "ratio": ratios.median(),
            "ratio_low": pd.Series(ordered[rank], rounds.columns),
            "ratio_high": pd.Series(ordered[count - 1 - rank], rounds.columns),
            "rounds": count,
        }
    )


def interval_rank(count: int) -> int:
    """The largest r from which the r-th smallest and the r-th largest (from 0) of ``count`` values enclose the median in 95 %."""
    tail, rank = 0.0, 0
    for smaller in range(count // 2):
        tail += math.comb(count, smaller) / 2.0**count
        if 2.0 * tail > 0.05:
            break
        rank = smaller
    return rank
