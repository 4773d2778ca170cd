"""Sweeps: one config at many settings, a grid or a random sample, computed once and kept as runs."""

from woodfisher_core.sweeps.executors import InProcess, WorkerPool, sweeps_on
from woodfisher_core.sweeps.run import resolved, run_sweep, run_sweep_job, sweep_request
from woodfisher_core.sweeps.spec import Between, Point, Source, Sweep, Values

__all__ = [
    "Between",
    "InProcess",
    "Point",
    "Source",
    "Sweep",
    "Values",
    "WorkerPool",
    "resolved",
    "run_sweep",
    "run_sweep_job",
    "sweep_request",
    "sweeps_on",
]
