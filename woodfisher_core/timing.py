"""Seconds by phase, each moment charged to the innermost phase only; the fastest of some runs; a machine's rate."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch


class Stopwatch:
    """``with watch("score"): …``; ``watch.seconds["score"]`` afterwards. Nested phases do not count twice."""

    def __init__(self, device: torch.device | None = None):
        self.seconds: dict[str, float] = {}
        self._device = device
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._charge()
        self._open.append(phase)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        wait(self._device)
        now = time.perf_counter()
        if self._open:
            phase = self._open[-1]
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now


def best_seconds(run: Callable[[], object], repeats: int, device: torch.device | None = None) -> float:
    """The fastest of ``repeats`` runs; the first often also pays for warming up."""
    found = []
    for _ in range(repeats):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        found.append(time.perf_counter() - start)
    return min(found)


@lru_cache(maxsize=4)
def float64_rate(device: torch.device) -> float:
    """Floating-point operations a second of a float64 product on ``device``, measured once a process."""
    matrix = torch.ones(768, 768, dtype=torch.float64, device=device)
    return 2.0 * 768**3 / best_seconds(lambda: matrix @ matrix, 3, device)


def wait(device: torch.device | None) -> None:
    """Until ``device`` has done all it was given; a CPU already has."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
