"""A run's results as the JSON object of the command line."""

import math
from dataclasses import asdict

from torch import nn

from woodfisher_core import memory
from woodfisher_core.experiments.results import LossChange, RunReport
from woodfisher_core.experiments.tables import layer_table
from woodfisher_core.loss_change import QuadraticTerms
from woodfisher_core.methods import get_method
from woodfisher_core.structured import EXAMPLES, sizes

PHASES = ("plan", "gradients", "curvature", "inverse", "score", "update", "BatchNorm", "evaluate")


def smaller_network(report: RunReport) -> nn.Module | None:
    """The pruned network without the channels that went; None where the method does not remove channels."""
    if not get_method(report.config.method).removes_channels:
        return None
    return report.problem.shrunk(report.outcome.weights, report.outcome.tensors)


def to_json(report: RunReport, memory_at_start: int | None, smaller: nn.Module | None) -> dict[str, object]:
    """The documented JSON object; non-finite numbers become null.

    ``memory_at_start`` in bytes of resident memory, None where nobody looked; phases that were not run, because their result
    was known, have null seconds. ``smaller`` from :func:`smaller_network`, its counts beside the dense one's.
    """
    change, mask = report.loss_change, report.outcome.mask
    result = {
        "dense_accuracy": report.problem.dense.accuracy,
        "accuracy": report.pruned.accuracy,
        "accuracy_standard_error": report.pruned.standard_error,
        "dense_loss": report.problem.dense.loss,
        "loss": report.pruned.loss,
        "sparsity": mask.sparsity,
        "kept": mask.kept,
        "num_prunable": report.problem.parameters.num_prunable,
        "ties_at_threshold": mask.ties,
        "layers": layer_table(report.problem.parameters, mask.keep).to_dict("records"),
        "predicted_loss_change": _predicted(change),
        "loss_change": {
            "fisher_samples": change.measured_fisher_samples,
            "held_out": change.measured_held_out,
        },
        "num_held_out": change.num_held_out,
        "smaller": None if smaller is None else _sizes(report, smaller),
        "effective_damping": report.damping,
        "seconds": {phase: report.seconds.get(phase) for phase in PHASES},
        "peak_memory_bytes": None
        if memory_at_start is None
        else max(0, memory.peak_resident_bytes() - memory_at_start),
        "config": report.config.to_dict(),
        "config_key": report.config.key,
    }
    return _finite(result)


def _sizes(report: RunReport, smaller: nn.Module) -> dict[str, int]:
    return asdict(sizes(report.problem.model, smaller, report.problem.test.inputs[:EXAMPLES]))


def _predicted(change: LossChange) -> dict[str, object] | None:
    if change.predicted_fisher_samples is None:
        return None
    terms = lambda found: None if found is None else {**asdict(found), "total": found.total}  # noqa: E731
    held_out: QuadraticTerms | None = change.predicted_held_out
    return {
        "held_out": terms(held_out),
        "fisher_samples": terms(change.predicted_fisher_samples),
        "damping_penalty": change.damping_penalty,
    }


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
