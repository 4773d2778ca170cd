"""What runs will cost before they run: seconds from this machine's own rates, bytes from the memory plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from woodfisher_core.devices import compute_device
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.methods import get_method
from woodfisher_core.options import Update
from woodfisher_core.planning import inverse_operations
from woodfisher_core.timing import best_seconds, float64_rate

# The best of so many: one unlucky moment of a busy machine must not make everything look long for good.
PROBES = 4
PROBE_SAMPLES = 64
PROBE_TESTS = 1000


@dataclass(frozen=True)
class Cost:
    """Predicted seconds of what is not kept yet, by phase, and peak ``nbytes`` of the largest run."""

    gradients: float = 0.0
    inverse: float = 0.0
    joint: float = 0.0
    networks: float = 0.0
    nbytes: int = 0

    @property
    def seconds(self) -> float:
        return self.pruning + self.networks

    @property
    def pruning(self) -> float:
        """Without the pruned networks' forward passes."""
        return self.gradients + self.inverse + self.joint

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other."""
        mine, its = ((c.gradients, c.inverse, c.joint, c.networks) for c in (self, other))
        return Cost(*(a + b for a, b in zip(mine, its, strict=True)), max(self.nbytes, other.nbytes))

    def times(self, count: int) -> "Cost":
        """The same ``count`` times, one after the other."""
        parts = (count * seconds for seconds in (self.gradients, self.inverse, self.joint, self.networks))
        return Cost(*parts, self.nbytes)


def predict(workspace: Workspace, configs: Sequence[PruneConfig], sparsities: Sequence[float] = ()) -> Cost:
    """Cost of ``configs``, which differ in method and update alone, and of a curve over ``sparsities`` for each."""
    missing = [workspace.missing(config) for config in configs]
    gradients = inverse = joint = 0.0
    config = configs[0]
    if any(rows for rows, _ in missing):
        gradients = config.num_samples * config.mini_batch * _seconds_a_sample(workspace, config)
    rate = float64_rate(compute_device(workspace.problem(config).device))
    if any(needed for _, needed in missing):
        inverse = inverse_operations(config.num_samples, workspace.blocks(config), config.solver) / rate
    for one in configs:
        if one.update is Update.JOINT and not workspace.has_curve(one, sparsities):
            joint += _joint_operations(workspace, one, len(sparsities) + 1) / rate
    for one in configs:
        if workspace.has_curve(one, sparsities):
            continue
        passes = _passes(workspace, one)
        if passes:
            images = config.num_samples * config.mini_batch
            gradients += (
                passes
                * images
                * _seconds_a_sample(workspace, one)
                * one.stages
                * (1 if one.stages == 1 else len(sparsities) + 1)
            )
        if one.stages > 1 and one.uses_gradients:
            # Each sparsity of a curve goes through stages of its own, and nothing of a later stage is kept.
            again = (one.stages - 1) * (len(sparsities) + 1)
            gradients += again * one.num_samples * one.mini_batch * _seconds_a_sample(workspace, one)
            inverse += again * inverse_operations(one.num_samples, workspace.blocks(one), one.solver) / rate
            joint += again * _joint_operations(workspace, one, 1) / rate
    drawn = sum(not workspace.has_curve(one, sparsities) for one in configs)
    networks = drawn * (len(sparsities) + 1) * seconds_a_test(workspace, config) if drawn else 0.0
    uses = any(one.uses_gradients for one in configs)
    return Cost(gradients, inverse, joint, networks, nbytes=workspace.memory_need(config).total if uses else 0)


def predict_points(workspace: Workspace, points: Sequence[PruneConfig]) -> Cost:
    """Cost of separate runs that need their inverse Fisher, as those of a plane: each is pruned, updated and evaluated.

    Gradients are counted once for the most rows of a mini-batch size, an inverse once for all its dampings.
    """
    if not points:
        return Cost()
    device = compute_device(workspace.problem(points[0]).device)
    rate, per_entry = float64_rate(device), _seconds_an_entry(device)
    fishers = {(p.num_samples, p.mini_batch, p.block_size): p for p in points}
    most: dict[int, PruneConfig] = {}
    inverse = 0.0
    for point in fishers.values():
        rows, made = workspace.missing(point)
        if rows and point.num_samples >= most.get(point.mini_batch, point).num_samples:
            most[point.mini_batch] = point
        inverse += inverse_operations(point.num_samples, workspace.blocks(point), point.solver) / rate if made else 0.0
    images = sum(point.num_samples * point.mini_batch for point in most.values())
    gradients = images * _seconds_a_sample(workspace, points[0]) if images else 0.0
    joint = networks = 0.0
    for point in points:
        problem, held_out = workspace.problem(point), len(workspace.samples(point)[1])
        if point.update is Update.JOINT:
            joint += _joint_operations(workspace, point, 1) / rate
        # The independent update goes over the gradients forth and back, the predicted loss once over the held-out ones.
        passes = 2 * point.num_samples * (point.update is Update.INDEPENDENT) + held_out
        networks += passes * problem.parameters.num_prunable * per_entry
        networks += seconds_a_test(workspace, point) * (1.0 + held_out / len(problem.test))
    largest = max(workspace.memory_need(point).total for point in fishers.values())
    return Cost(gradients, inverse, joint, networks, largest)


def _passes(workspace: Workspace, config: PruneConfig) -> float:
    """Gradient passes over each sample that the method's own statistic takes, beyond the Fisher's rows."""
    method = get_method(config.method)
    return method.passes(workspace.problem(config).parameters.num_prunable, config.probes)


def _joint_operations(workspace: Workspace, config: PruneConfig, levels: int) -> float:
    """One Gram matrix grown over the levels, and a factorisation each."""
    operations = 0.0
    for run in workspace.blocks(config).runs:
        side = min(config.num_samples, run.size)
        operations += run.count * (2.0 * side * side * max(config.num_samples, run.size) + levels * side**3)
    return operations


def _seconds_a_sample(workspace: Workspace, config: PruneConfig) -> float:
    """Seconds a gradient takes, measured once a network."""
    problem = workspace.problem(config)
    samples = problem.train_samples(range(min(PROBE_SAMPLES, len(problem.dataset.train))))
    make = lambda: gradient_matrix(  # noqa: E731 - timed below
        problem.model, problem.parameters, samples.batches(PROBE_SAMPLES), len(samples)
    )
    key = ("seconds a sample", config.model, str(problem.device))
    return workspace.cache.get(key, lambda: best_seconds(make, PROBES, problem.device) / len(samples), lambda _: 8)


def seconds_a_test(workspace: Workspace, config: PruneConfig) -> float:
    """Seconds an evaluation on the test set takes, measured once a network."""
    problem = workspace.problem(config)
    some = problem.test.first(PROBE_TESTS)
    evaluate = lambda: problem.evaluate(None, some)  # noqa: E731 - timed below
    key = ("seconds a test image", config.model, str(problem.device))
    an_image = workspace.cache.get(key, lambda: best_seconds(evaluate, PROBES, problem.device) / len(some), lambda _: 8)
    return an_image * len(problem.test)  # of which there are as many as the config says: no part of the key


@lru_cache(maxsize=4)
def _seconds_an_entry(device: torch.device) -> float:
    """Seconds an entry of G takes to be read, made float64 and multiplied with a vector, measured once."""
    rows = torch.ones(256, 1 << 15, device=device)
    vector = torch.ones(1 << 15, dtype=torch.float64, device=device)

    def once() -> None:
        for part in rows.split(32):  # chunks that stay in cache, as everywhere
            float((part.to(torch.float64) @ vector).sum())

    return best_seconds(once, 3, device) / rows.numel()
