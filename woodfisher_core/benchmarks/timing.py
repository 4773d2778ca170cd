"""Fair timing: contestants take turns (A B A B …) in one process, so that what slows the machine slows them alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import psutil
import torch

Contestant = Callable[[], object]


def interleaved(
    contestants: Mapping[str, Contestant],
    repeats: int = 5,
    device: torch.device | None = None,
    tick: Callable[[], None] = lambda: None,
    rarely: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Seconds of every run of every contestant, (repeats,) each, after one unmeasured round.

    Each result is dropped and garbage collected before the next run starts; ``tick`` is called after every run. A
    contestant in ``rarely`` runs in that many of the first measured turns only, and not in the unmeasured one.
    """
    rarely = rarely or {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, contestant in contestants.items():
            if name in rarely and not 1 <= turn <= rarely[name]:
                continue
            gc.collect()
            _wait(device)
            start = time.perf_counter()
            result = contestant()
            _wait(device)
            elapsed = time.perf_counter() - start
            del result
            if turn:
                seconds[name].append(elapsed)
            tick()
    return seconds


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class GemmRate:
    """What the machine gives a square matrix product, in 10⁹ floating-point operations a second."""

    size: int
    float32: float
    float64: float


def gemm_rate(device: torch.device, size: int = 2048, repeats: int = 5) -> GemmRate:
    """Median rate of ``size``³ products (2·size³ operations) in both precisions."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(size, size, generator=generator).to(device)
    wide = factor.double()
    seconds = interleaved({"float32": lambda: factor @ factor, "float64": lambda: wide @ wide}, repeats, device)
    return GemmRate(size, **{name: 2 * size**3 / median(runs) / 1e9 for name, runs in seconds.items()})


class OtherLoad:
    """How busy other processes keep the CPUs from now on: times taken meanwhile are longer than they need be."""

    def __init__(self):
        self._start = self._look()

    def share(self) -> float:
        """Their CPU seconds over all CPU seconds there were, 0 to 1."""
        wall, busy, own = (now - then for now, then in zip(self._look(), self._start, strict=True))
        return min(1.0, max(0.0, busy - own) / (wall * psutil.cpu_count()))

    def _look(self) -> tuple[float, float, float]:
        """Seconds: of the clock, of work on all CPUs, of our work."""
        everyone, own = psutil.cpu_times(), psutil.Process().cpu_times()
        # A virtual machine's stolen time is work of others too.
        kinds = ("user", "nice", "system", "irq", "softirq", "steal")
        busy = sum(getattr(everyone, kind, 0.0) for kind in kinds)
        return time.perf_counter(), busy, own.user + own.system
