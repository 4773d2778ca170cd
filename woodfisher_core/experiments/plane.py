"""Sensitivity: what the Fisher's settings change, over a plane of one of them against the damping, and along a line of λ."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import CONFIDENT, paired_standard_error
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.rankings import overlap, rank_correlation, ranking
from woodfisher_core.experiments.spread import BETWEEN, MEASURES
from woodfisher_core.experiments.tables import saliency_table
from woodfisher_core.experiments.verdicts import verdict
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Axis

# A request for more points than this is a mistake.
MOST_POINTS = 10_000
# What one row of numbers takes in the cache, its configs included; generous.
ROW_BYTES = 2000
# How a point not computed yet reads.
BLANK = {name: np.nan for name in (*MEASURES, *BETWEEN, "noise")} | {"verdict": None}


@dataclass(frozen=True)
class Plane:
    """Which plane: around which run, what varies, over which of its values and which λ (as given to the config).

    ``seeds`` repeats all of it with each of them in place of the config's own; left empty, that one alone.
    """

    config: PruneConfig
    axis: Axis
    values: tuple[int | float | str, ...]
    dampings: tuple[float, ...]
    seeds: tuple[int, ...] = ()

    def __post_init__(self):
        if self.seeds == (self.config.seed,):
            object.__setattr__(self, "seeds", ())  # the same plane, so the same job

    @property
    def draws(self) -> tuple[int, ...]:
        """The seeds, also where there is only the config's own."""
        return self.seeds or (self.config.seed,)

    @property
    def cells(self) -> int:
        """The number of settings, each of which every seed runs once."""
        return len(self.values) * len(self.dampings)

    @property
    def total(self) -> int:
        """The number of runs."""
        return self.cells * len(self.draws)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; a plane of one seed is written as before there were several."""
        own = {"axis": self.axis.value, "values": list(self.values), "dampings": list(self.dampings)}
        return {"config": self.config.to_dict(), **own, **({"seeds": list(self.seeds)} if self.seeds else {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Plane":
        """The plane ``to_dict`` described; whatever is missing, unknown or too much is refused."""
        known = {field.name for field in fields(cls)}
        if set(values) | {"seeds"} != known:
            raise InputError(f"plane: expected the fields {', '.join(sorted(known))}, got {', '.join(sorted(values))}.")
        given, dampings = tuple(values["values"]), tuple(float(damping) for damping in values["dampings"])
        seeds = tuple(values.get("seeds", ()))
        if not 0 < len(given) * len(dampings) * max(1, len(seeds)) <= MOST_POINTS:
            counts = f"{len(given)} × {len(dampings)}" + (f" × {len(seeds)}" if seeds else "")
            raise InputError(f"plane: expected 1 to {MOST_POINTS:,} points, got {counts}. Take fewer values.")
        if len(set(seeds)) < len(seeds):
            raise InputError(f"plane: expected each seed once, got {', '.join(map(str, seeds))}.")
        config = PruneConfig.from_dict(values["config"])
        made = cls(config, Axis.parse(values["axis"], "axis"), given, dampings, seeds)
        list(made.points(made.config))
        return made

    def points(self, base: PruneConfig) -> Iterator[PruneConfig]:
        """The configs of its points around ``base``: seed after seed, and for each value after value."""
        for seed in self.draws:
            for value in self.values:
                for damping in self.dampings:
                    yield varied(base.replace(seed=seed), self.axis, value).replace(damping=damping)

    def grids(self, base: PruneConfig) -> list[tuple[PruneConfig, dict[str, tuple]]]:
        """The same points as grids over fields of a config: (what the points of one share, the values of the fields that vary).

        Only where other fields must follow the axis (fewer samples where fewer images exist) is there more than one.
        """
        shared: dict[PruneConfig, list] = {}
        for value in self.values:
            follows = varied(base, self.axis, value).replace(**{self.axis.field: getattr(base, self.axis.field)})
            shared.setdefault(follows, []).append(value)
        rest = {"damping": self.dampings} | ({"seed": self.seeds} if self.seeds else {})
        return [(config, {self.axis.field: tuple(values), **rest}) for config, values in shared.items()]


def varied(config: PruneConfig, axis: Axis, value: int | float | str) -> PruneConfig:
    """``config`` with ``axis`` at ``value``. Where only so many images exist, no more of them are asked for than that."""
    changes: dict[str, object] = {axis.field: value}
    if axis is Axis.IMAGES:
        changes["num_samples"] = min(config.num_samples, max(1, int(value) // config.mini_batch))
        for name in ("batchnorm_images", "repair_batchnorm"):
            changes[name] = min(getattr(config, name), value)
    return config.replace(**changes)


def plane(workspace: Workspace, wanted: Plane, progress: Progress | None = None) -> pd.DataFrame:
    """One row a run: a seed, a value of the axis and a λ; all else as in the plane's config.

    Columns: the axis's field (blocks as text), ``damping`` as given to the config, ``seed``, and then

    - ``accuracy`` (percent, test set);
    - ``overlap`` of the kept weights with those of the plane's own config (at the same seed), over those kept by either
      (Jaccard), and ``rank_correlation`` of the statistic with its (Spearman);
    - ``predicted`` and ``measured`` loss change in nats on held-out samples (NaN where none are left);
    - ``gain``, points of accuracy over magnitude at the same sparsity, its ``noise``, the standard error that the test set
      gives it (paired), and ``verdict``: better, worse or equal within that;
    - ``overlap_between`` and ``rank_between``: means of the same two with the *earlier seeds* at the very same setting (NaN for
      the first).

    Every point is an ordinary run of the workspace: kept, shared, and repeated by its own config. Seed after seed, column
    after column is filled, and ``progress("plane", done, total)`` is called after every point, when it is already kept: raising
    from there stops the work and loses none of it (:func:`kept_plane` gives what there is).
    """
    rows = {}
    for place, row in plane_rows(workspace, wanted, progress):
        rows[place] = row
        if progress:
            progress("plane", len(rows), wanted.total)
    return _table(wanted, rows)


def plane_rows(
    workspace: Workspace, wanted: Plane, progress: Progress | None = None
) -> Iterator[tuple[int, dict[str, object]]]:
    """(place among :meth:`Plane.points`, its numbers), one after the other in the order that shares most work."""
    base = workspace.resolve(wanted.config)
    points = list(wanted.points(base))
    for place, point in _in_working_order(base, wanted):
        own = workspace.results.get(
            _key(point, base), lambda point=point: _row(workspace, point, base, progress), lambda _: ROW_BYTES
        )
        earlier = _earlier(wanted, points, place)
        if earlier:
            between = workspace.results.get(
                _between_key(point, earlier),
                lambda point=point, earlier=earlier: _between(workspace, point, earlier, progress),
                lambda _: ROW_BYTES,
            )
        else:
            between = dict.fromkeys(BETWEEN, np.nan)
        yield place, {**own, **between}


def keep_rows(workspace: Workspace, wanted: Plane, rows: Mapping[int, Mapping[str, object]]) -> None:
    """Keeps the numbers of points that were computed elsewhere, by place, as :func:`plane_rows` gave them there."""
    base = workspace.resolve(wanted.config)
    points = list(wanted.points(base))
    for place, row in rows.items():
        own = {name: value for name, value in row.items() if name not in BETWEEN}
        workspace.results.put(_key(points[place], base), own, ROW_BYTES)
        if earlier := _earlier(wanted, points, place):
            between = {name: row[name] for name in BETWEEN}
            workspace.results.put(_between_key(points[place], earlier), between, ROW_BYTES)


def kept_plane(workspace: Workspace, wanted: Plane) -> pd.DataFrame:
    """The same table from what is kept: points not computed yet have NaN for numbers. Costs next to nothing."""
    base = workspace.resolve(wanted.config)
    return _table(wanted, _kept_rows(workspace, wanted, base))


def missing_points(workspace: Workspace, wanted: Plane) -> list[PruneConfig]:
    """The configs :func:`plane` would still have to run, in the order in which it would."""
    base = workspace.resolve(wanted.config)
    kept = _kept_rows(workspace, wanted, base)
    return [point for place, point in _in_working_order(base, wanted) if place not in kept]


def computed(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a plane that have been computed."""
    return table[table["accuracy"].notna()]


def _kept_rows(workspace: Workspace, wanted: Plane, base: PruneConfig) -> dict[int, dict[str, object]]:
    """The numbers of the points that are kept whole, by place."""
    points, found = list(wanted.points(base)), {}
    for place, point in enumerate(points):
        own, earlier = workspace.results.peek(_key(point, base)), _earlier(wanted, points, place)
        between = workspace.results.peek(_between_key(point, earlier)) if earlier else dict.fromkeys(BETWEEN, np.nan)
        if own is not None and between is not None:
            found[place] = {**own, **between}
    return found


def _in_working_order(base: PruneConfig, wanted: Plane) -> list[tuple[int, PruneConfig]]:
    """A seed's points together: they share gradients, of which those of fewer samples are a prefix; and all dampings of a value:
    they share a Fisher."""
    placed = list(enumerate(wanted.points(base)))
    if wanted.axis not in (Axis.SAMPLES, Axis.IMAGES):
        return placed
    return sorted(placed, key=lambda p: (p[0] // wanted.cells, -p[1].num_samples))


def _earlier(wanted: Plane, points: Sequence[PruneConfig], place: int) -> tuple[PruneConfig, ...]:
    """The same setting with the seeds before that of ``place``."""
    return tuple(points[place % wanted.cells : place : wanted.cells])


def _key(point: PruneConfig, base: PruneConfig) -> tuple:
    # Resolved configs name their weights and data by hash, so they name their results too.
    return ("plane", point, base.replace(seed=point.seed))


def _between_key(point: PruneConfig, earlier: Sequence[PruneConfig]) -> tuple:
    return ("plane between", point, tuple(other.seed for other in earlier))


def _row(workspace: Workspace, point: PruneConfig, base: PruneConfig, progress: Progress | None) -> dict[str, object]:
    # Held against the same draw of images: what differs is the setting alone.
    base = base.replace(seed=point.seed)
    magnitude = workspace.evaluation(base.replace(method="magnitude", update=None, update_scale=1.0))
    reference, own = (ranking(workspace, config, progress) for config in (base, point))
    result = workspace.evaluation(point)
    predicted, measured = workspace.held_out_change(point)
    gain, noise = result.accuracy - magnitude.accuracy, paired_standard_error(result, magnitude)
    return {
        "accuracy": result.accuracy,
        "overlap": overlap(own.keep, reference.keep),
        "rank_correlation": rank_correlation(own.ranks, reference.ranks),
        "predicted": np.nan if predicted is None else predicted.total,
        "measured": np.nan if measured is None else measured,
        "gain": gain,
        "noise": noise,
        "verdict": verdict(gain, CONFIDENT * noise),
    }


def _between(
    workspace: Workspace, point: PruneConfig, earlier: Sequence[PruneConfig], progress: Progress | None
) -> dict[str, object]:
    own = ranking(workspace, point, progress)
    others = [ranking(workspace, other, progress) for other in earlier]
    return {
        "overlap_between": float(np.mean([overlap(own.keep, other.keep) for other in others])),
        "rank_between": float(np.mean([rank_correlation(own.ranks, other.ranks) for other in others])),
    }


def _table(wanted: Plane, rows: Mapping[int, Mapping[str, object]]) -> pd.DataFrame:
    places = itertools.product(wanted.draws, wanted.values, wanted.dampings)
    # Numbers and names in one column would have no common type.
    written = {Axis.BLOCK: str, Axis.UPDATE_SCALE: float}.get(wanted.axis, int)
    return pd.DataFrame(
        [
            {wanted.axis.field: written(value), "damping": damping, "seed": seed, **BLANK, **rows.get(place, {})}
            for place, (seed, value, damping) in enumerate(places)
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
