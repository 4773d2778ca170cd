"""Sensitivity: what the Fisher's settings change, over a plane of one of them against the damping, and along a line of λ."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import paired_standard_error
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.tables import saliency_table
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Axis

# Differences beyond this many standard errors count as real (95 %, two-sided).
CONFIDENT = 1.96
# A request for more points than this is a mistake.
MOST_POINTS = 10_000
# What one row of numbers takes in the cache, its configs included; generous.
ROW_BYTES = 2000
# What a plane says about each of its points, and how a point not computed yet reads.
MEASURES = ("accuracy", "overlap", "rank_correlation", "predicted", "measured", "gain")
BLANK = {name: np.nan for name in MEASURES} | {"verdict": None}


@dataclass(frozen=True)
class Plane:
    """Which plane: around which run, what varies, over which of its values and which λ (as given to the config)."""

    config: PruneConfig
    axis: Axis
    values: tuple[int | str, ...]
    dampings: tuple[float, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        own = {"axis": self.axis.value, "values": list(self.values), "dampings": list(self.dampings)}
        return {"config": self.config.to_dict(), **own}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Plane":
        """The plane ``to_dict`` described; whatever is missing, unknown or too much is refused."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise InputError(f"plane: expected the fields {', '.join(sorted(known))}, got {', '.join(sorted(values))}.")
        given, dampings = tuple(values["values"]), tuple(float(damping) for damping in values["dampings"])
        if not 0 < len(given) * len(dampings) <= MOST_POINTS:
            raise InputError(
                f"plane: expected 1 to {MOST_POINTS:,} points, got {len(given)} × {len(dampings)}. Take fewer values."
            )
        made = cls(PruneConfig.from_dict(values["config"]), Axis.parse(values["axis"], "axis"), given, dampings)
        list(made.points(made.config))
        return made

    def points(self, base: PruneConfig) -> Iterator[PruneConfig]:
        """The configs of its points around ``base``, value after value."""
        for value in self.values:
            for damping in self.dampings:
                yield base.replace(**{self.axis.field: value, "damping": damping})


def plane(workspace: Workspace, wanted: Plane, progress: Progress | None = None) -> pd.DataFrame:
    """One row a pair (value of the axis, λ), all else as in the plane's config, which masks and scores are held against.

    Columns: the axis's field (``num_samples``, ``block_size`` or ``mini_batch``; blocks as text); ``damping`` as given to
    the config; ``accuracy`` (percent, test set); ``overlap``, the kept weights shared with the reference over those kept by
    either (Jaccard); ``rank_correlation`` of the statistic with the reference's (Spearman); ``predicted`` and ``measured``
    loss change in nats on held-out samples (NaN where none are left); ``gain``, points of accuracy over magnitude at the
    same sparsity, and ``verdict``: better, worse or equal within the test set's noise (paired).

    Every point is an ordinary run of the workspace: kept, shared, and repeated by its own config. Column after column is
    filled, and ``progress("plane", done, total)`` is called after every point, when it is already kept: raising from there
    stops the work and loses none of it (:func:`kept_plane` gives what there is).
    """
    rows = {}
    for place, row in plane_rows(workspace, wanted, progress):
        rows[place] = row
        if progress:
            progress("plane", len(rows), len(wanted.values) * len(wanted.dampings))
    return _table(wanted, rows)


def plane_rows(
    workspace: Workspace, wanted: Plane, progress: Progress | None = None
) -> Iterator[tuple[int, dict[str, object]]]:
    """(place among :meth:`Plane.points`, its numbers), one after the other in the order that shares most work."""
    base = workspace.resolve(wanted.config)
    for place, point in _in_working_order(base, wanted):
        row = workspace.results.get(
            _key(point, base), lambda point=point: _row(workspace, point, base, progress), lambda _: ROW_BYTES
        )
        yield place, row


def keep_row(workspace: Workspace, wanted: Plane, place: int, row: Mapping[str, object]) -> None:
    """Keeps the numbers of a point that were computed elsewhere, as :func:`plane_rows` gave them there."""
    base = workspace.resolve(wanted.config)
    point = next(itertools.islice(wanted.points(base), place, None))
    workspace.results.put(_key(point, base), dict(row), ROW_BYTES)


def kept_plane(workspace: Workspace, wanted: Plane) -> pd.DataFrame:
    """The same table from what is kept: points not computed yet have NaN for numbers. Costs next to nothing."""
    base = workspace.resolve(wanted.config)
    found = {place: workspace.results.peek(_key(point, base)) for place, point in enumerate(wanted.points(base))}
    return _table(wanted, {place: row for place, row in found.items() if row is not None})


def missing_points(workspace: Workspace, wanted: Plane) -> list[PruneConfig]:
    """The configs :func:`plane` would still have to run, in the order in which it would."""
    base = workspace.resolve(wanted.config)
    return [point for _, point in _in_working_order(base, wanted) if workspace.results.peek(_key(point, base)) is None]


def computed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a plane that have been computed."""
    return table[table["accuracy"].notna()]


def _in_working_order(base: PruneConfig, wanted: Plane) -> list[tuple[int, PruneConfig]]:
    """All dampings of a value together: they share a Fisher. The gradients of fewer samples are a prefix of those of more."""
    placed = list(enumerate(wanted.points(base)))
    return sorted(placed, key=lambda p: -p[1].num_samples) if wanted.axis is Axis.SAMPLES else placed


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


def _table(wanted: Plane, rows: Mapping[int, Mapping[str, object]]) -> pd.DataFrame:
    places = [(value, damping) for value in wanted.values for damping in wanted.dampings]
    written = str if wanted.axis is Axis.BLOCK else int  # numbers and names in one column would have no common type
    return pd.DataFrame(
        [
            {wanted.axis.field: written(value), "damping": damping, **rows.get(place, BLANK)}
            for place, (value, damping) in enumerate(places)
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
