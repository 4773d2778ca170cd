"""Sensitivity: what the Fisher's settings change, over a plane of one of them against the damping, and along a line of λ."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.evaluation import paired_standard_error
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.tables import saliency_table
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Axis

# Differences beyond this many standard errors count as real (95 %, two-sided).
CONFIDENT = 1.96
# What one row of numbers takes in the cache, its configs included; generous.
ROW_BYTES = 2000
# What a plane says about each of its points, and how a point not computed yet reads.
MEASURES = ("accuracy", "overlap", "rank_correlation", "predicted", "measured", "gain")
BLANK = {name: np.nan for name in MEASURES} | {"verdict": None}


def plane(
    workspace: Workspace,
    reference: PruneConfig,
    axis: Axis,
    values: Sequence[int | str],
    dampings: Sequence[float],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a pair (value of ``axis``, λ), all else as in ``reference``, which masks and scores are held against.

    Columns: the axis's field (``num_samples``, ``block_size`` or ``mini_batch``; blocks as text); ``damping`` as given to
    the config; ``accuracy`` (percent, test set); ``overlap``, the kept weights shared with the reference over those kept by
    either (Jaccard); ``rank_correlation`` of the statistic with the reference's (Spearman); ``predicted`` and ``measured``
    loss change in nats on held-out samples (NaN where none are left); ``gain``, points of accuracy over magnitude at the
    same sparsity, and ``verdict``: better, worse or equal within the test set's noise (paired).

    Every point is an ordinary run of the workspace: kept, shared, and repeated by its own config. Column after column is
    filled, and ``progress("plane", done, total)`` is called after every point, when it is already kept: raising from there
    stops the work and loses none of it (:func:`kept_plane` gives what there is).
    """
    base = workspace.resolve(reference)
    rows = {}
    for point in _in_working_order(base, axis, values, dampings):
        rows[point] = workspace.results.get(
            _key(point, base), lambda point=point: _row(workspace, point, base, progress), lambda _: ROW_BYTES
        )
        if progress:
            progress("plane", len(rows), len(values) * len(dampings))
    return _table(base, axis, values, dampings, rows)


def kept_plane(
    workspace: Workspace, reference: PruneConfig, axis: Axis, values: Sequence[int | str], dampings: Sequence[float]
) -> pd.DataFrame:
    """The same table from what is kept: points not computed yet have NaN for numbers. Costs next to nothing."""
    base = workspace.resolve(reference)
    found = {point: workspace.results.peek(_key(point, base)) for point in _points(base, axis, values, dampings)}
    return _table(base, axis, values, dampings, {point: row for point, row in found.items() if row is not None})


def missing_points(
    workspace: Workspace, reference: PruneConfig, axis: Axis, values: Sequence[int | str], dampings: Sequence[float]
) -> list[PruneConfig]:
    """The configs :func:`plane` would still have to run, in the order in which it would."""
    base = workspace.resolve(reference)
    points = _in_working_order(base, axis, values, dampings)
    return [point for point in points if workspace.results.peek(_key(point, base)) is None]


def computed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a plane that have been computed."""
    return table[table["accuracy"].notna()]


def _points(base: PruneConfig, axis: Axis, values: Sequence, dampings: Sequence[float]) -> Iterator[PruneConfig]:
    for value in values:
        for damping in dampings:
            yield base.replace(**{axis.field: value, "damping": damping})


def _in_working_order(base: PruneConfig, axis: Axis, values: Sequence, dampings: Sequence) -> Iterator[PruneConfig]:
    """All dampings of a value together: they share a Fisher. The gradients of fewer samples are a prefix of those of more."""
    ordered = sorted(values, reverse=True) if axis is Axis.SAMPLES else values
    return _points(base, axis, ordered, dampings)


def _key(point: PruneConfig, base: PruneConfig) -> tuple:
    # Resolved configs name their weights and data by hash, so they name their results too.
    return ("plane", point, base)


def _row(workspace: Workspace, point: PruneConfig, base: PruneConfig, progress: Progress | None) -> dict[str, object]:
    magnitude = workspace.evaluation(base.replace(method="magnitude", update=None, update_scale=1.0))
    reference = workspace.outcome(base, progress=progress)
    reference_ranks = workspace.cache.get(("ranks", base), lambda: ranks(reference.saliency), lambda r: r.nbytes)
    outcome, result = workspace.outcome(point, progress=progress), workspace.evaluation(point)
    both_ranks = torch.stack([ranks(outcome.saliency), reference_ranks])
    predicted, measured = workspace.held_out_change(point)
    gain, noise = result.accuracy - magnitude.accuracy, paired_standard_error(result, magnitude)
    return {
        "accuracy": result.accuracy,
        "overlap": overlap(outcome.mask.keep, reference.mask.keep),
        "rank_correlation": float(torch.corrcoef(both_ranks)[0, 1]),
        "predicted": np.nan if predicted is None else predicted.total,
        "measured": np.nan if measured is None else measured,
        "gain": gain,
        "verdict": "equal" if abs(gain) <= CONFIDENT * noise else "better" if gain > 0 else "worse",
    }


def _table(base: PruneConfig, axis: Axis, values: Sequence, dampings: Sequence[float], rows: dict) -> pd.DataFrame:
    places = [(value, damping) for value in values for damping in dampings]
    written = str if axis is Axis.BLOCK else int  # numbers and names in one column would have no common type
    return pd.DataFrame(
        [
            {axis.field: written(value), "damping": damping, **rows.get(point, BLANK)}
            for (value, damping), point in zip(places, _points(base, axis, values, dampings), strict=True)
        ]
    )


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
