"""What a run will cost before it runs: seconds from this machine's own rates, bytes from the memory plan."""

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.options import Solver

PROBE_SAMPLES = 64
# Arithmetic of a symmetric eigendecomposition with vectors, of a Cholesky factorisation with its inverse, in n³.
EIGH_CUBES, CHOLESKY_CUBES = 20.0, 2.0


@dataclass(frozen=True)
class Cost:
    """Predicted ``seconds`` (gradients and inverse apart) and peak ``nbytes`` of what is not cached yet."""

    gradients: float
    inverse: float
    nbytes: int

    @property
    def seconds(self) -> float:
        return self.gradients + self.inverse


def predict(workspace: Workspace, config: PruneConfig) -> Cost:
    """Cost of the gradients and the inverse Fisher of ``config``, as if nothing were cached."""
    problem = workspace.problem(config)
    samples = config.num_samples * config.mini_batch
    per_sample = workspace.cache.get(
        ("seconds a sample", config.model, str(problem.device)),
        lambda: _seconds_a_sample(workspace, config),
        lambda _: 8,
    )
    operations = 0.0
    for run in workspace.blocks(config).runs:
        rows, size = config.num_samples, run.size
        dual = config.solver is Solver.DUAL or (config.solver is not Solver.PRIMAL and rows < size)
        small, large = (rows, size) if dual else (size, rows)
        spectral = config.solver is Solver.SPECTRAL
        products = 2.0 if dual else 1.0  # the Gram matrix, and the triangular or spectral product
        operations += run.count * (
            products * 2.0 * small * small * large + (EIGH_CUBES if spectral else CHOLESKY_CUBES) * small**3
        )
    rate = _float64_rate(str(problem.device))
    return Cost(samples * per_sample, operations / rate, workspace.memory_need(config).total)


def _seconds_a_sample(workspace: Workspace, config: PruneConfig) -> float:
    problem = workspace.problem(config)
    samples = problem.train_samples(range(min(PROBE_SAMPLES, len(problem.dataset.train))))
    timings = []
    for _ in range(2):  # the first call also pays for warming up
        start = time.perf_counter()
        gradient_matrix(problem.model, problem.parameters, samples.batches(PROBE_SAMPLES), len(samples))
        timings.append(time.perf_counter() - start)
    return min(timings) / len(samples)


@lru_cache(maxsize=4)
def _float64_rate(device: str) -> float:
    """Floating-point operations a second of a float64 product, measured once."""
    matrix = torch.ones(768, 768, dtype=torch.float64, device=device)
    timings = []
    for _ in range(3):
        start = time.perf_counter()
        float((matrix @ matrix).sum())  # reading the result waits for the device
        timings.append(time.perf_counter() - start)
    return 2.0 * 768**3 / min(timings)
