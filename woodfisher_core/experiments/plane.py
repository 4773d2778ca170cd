"""Sensitivity: what the number of Fisher samples N and the damping λ change, over a grid of both and along a line of λ."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.evaluation import paired_standard_error
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.tables import saliency_table
from woodfisher_core.experiments.workspace import Progress, Workspace

# Differences beyond this many standard errors count as real (95 %, two-sided).
CONFIDENT = 1.96


def plane(
    workspace: Workspace,
    reference: PruneConfig,
    sample_counts: Sequence[int],
    dampings: Sequence[float],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a pair (N, λ), everything else as in ``reference``, which is also what masks and scores are held against.

    Columns: ``samples``, ``damping``; ``accuracy`` (percent, test set); ``overlap``, the kept weights shared with the
    reference over those kept by either (Jaccard); ``rank_correlation`` of the statistic with the reference's (Spearman);
    ``predicted`` and ``measured`` loss change in nats on held-out samples; ``gain``, points of accuracy over magnitude at
    the same sparsity, and ``verdict``: better, worse or equal within the test set's noise (paired).

    Every point is an ordinary run of the workspace: kept, shared, and repeated by its own config.
    """
    magnitude = workspace.evaluation(reference.replace(method="magnitude", update=None, update_scale=1.0))
    base = workspace.outcome(reference, progress=progress)
    base_ranks = ranks(base.saliency)
    rows = []
    total = len(sample_counts) * len(dampings)
    for count in sorted(sample_counts, reverse=True):  # the gradients of fewer samples are a prefix of those of more
        for damping in dampings:
            point = reference.replace(num_samples=count, damping=damping)
            outcome, result = workspace.outcome(point), workspace.evaluation(point)
            change = workspace.loss_change(point)
            gain, noise = result.accuracy - magnitude.accuracy, paired_standard_error(result, magnitude)
            rows.append(
                {
                    "samples": count,
                    "damping": damping,
                    "accuracy": result.accuracy,
                    "overlap": overlap(outcome.mask.keep, base.mask.keep),
                    "rank_correlation": float(torch.corrcoef(torch.stack([ranks(outcome.saliency), base_ranks]))[0, 1]),
                    "predicted": change.predicted_held_out.total if change.predicted_held_out else None,
                    "measured": change.measured_held_out,
                    "gain": gain,
                    "verdict": "equal" if abs(gain) <= CONFIDENT * noise else "better" if gain > 0 else "worse",
                }
            )
            if progress:
                progress("plane", len(rows), total)
    return pd.DataFrame(rows).sort_values(["samples", "damping"], ignore_index=True)


def damping_line(
    workspace: Workspace, config: PruneConfig, dampings: Sequence[float], progress: Progress | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The statistic's histogram at every λ, and one row a λ with what it leads to.

    Returns ``bins`` (``damping``, ``layer``, ``left``, ``right``, ``kept``, ``pruned``) and ``points`` (``damping``,
    ``accuracy`` in percent, ``threshold`` of the statistic, the first layer's where there are several).
    """
    bins, points = [], []
    parameters = workspace.problem(config).parameters
    for damping in dampings:
        point = config.replace(damping=damping)
        outcome = workspace.outcome(point, progress=progress)
        bins.append(saliency_table(parameters, outcome.saliency, outcome.mask.keep).assign(damping=damping))
        accuracy = workspace.evaluation(point).accuracy
        points.append({"damping": damping, "accuracy": accuracy, "threshold": outcome.mask.thresholds[0]})
        if progress:
            progress("dampings", len(points), len(dampings))
    return pd.concat(bins, ignore_index=True), pd.DataFrame(points)


def overlap(first: Tensor, second: Tensor) -> float:
    """Jaccard index of two kept sets: 1 where they are the same, 0 where they share nothing."""
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 1.0


def ranks(values: Tensor) -> Tensor:
    """Rank of each value, smallest first, float64; equal values share their mean rank."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).to(torch.float64)
    return (last - (counts - 1) / 2.0)[place]
