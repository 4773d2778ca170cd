"""What runs will cost before they run: seconds from this machine's own rates, bytes from the memory plan."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.options import Solver, Update

PROBE_SAMPLES = 64
# Arithmetic of a symmetric eigendecomposition with vectors, of a Cholesky factorisation with its inverse, in n³.
EIGH_CUBES, CHOLESKY_CUBES = 20.0, 2.0


@dataclass(frozen=True)
class Cost:
    """Predicted seconds of what is not kept yet, by phase, and peak ``nbytes`` of the largest run."""

    gradients: float = 0.0
    inverse: float = 0.0
    joint: float = 0.0
    nbytes: int = 0

    @property
    def seconds(self) -> float:
        return self.gradients + self.inverse + self.joint


def predict(workspace: Workspace, configs: Sequence[PruneConfig], sparsities: Sequence[float] = ()) -> Cost:
    """Cost of ``configs``, which differ in method and update alone, and of a curve over ``sparsities`` for each."""
    missing = [workspace.missing(config) for config in configs]
    gradients = inverse = joint = 0.0
    config = configs[0]
    if any(rows for rows, _ in missing):
        key = ("seconds a sample", config.model, str(workspace.problem(config).device))
        per_sample = workspace.cache.get(key, lambda: _seconds_a_sample(workspace, config), lambda _: 8)
        gradients = config.num_samples * config.mini_batch * per_sample
    rate = _float64_rate(str(workspace.problem(config).device))
    if any(needed for _, needed in missing):
        inverse = _inverse_operations(workspace, config) / rate
    for one in configs:
        if one.update is Update.JOINT and not workspace.has_curve(one, sparsities):
            joint += _joint_operations(workspace, one, len(sparsities) + 1) / rate
    uses = any(one.uses_gradients for one in configs)
    return Cost(gradients, inverse, joint, workspace.memory_need(config).total if uses else 0)


def _inverse_operations(workspace: Workspace, config: PruneConfig) -> float:
    operations = 0.0
    for run in workspace.blocks(config).runs:
        rows, size = config.num_samples, run.size
        dual = config.solver is Solver.DUAL or (config.solver is not Solver.PRIMAL and rows < size)
        small, large = (rows, size) if dual else (size, rows)
        products = 3.0 if dual else 2.0  # half the symmetric Gram matrix, then the spectral or triangular product
        cubes = EIGH_CUBES if config.solver is Solver.SPECTRAL else CHOLESKY_CUBES
        operations += run.count * (products * small * small * large + cubes * small**3)
    return operations


def _joint_operations(workspace: Workspace, config: PruneConfig, levels: int) -> float:
    """One Gram matrix grown over the levels, and a factorisation each."""
    operations = 0.0
    for run in workspace.blocks(config).runs:
        side = min(config.num_samples, run.size)
        operations += run.count * (2.0 * side * side * max(config.num_samples, run.size) + levels * side**3)
    return operations


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
