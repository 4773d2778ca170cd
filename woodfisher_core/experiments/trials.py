"""Runs to compare: each pruned once and measured on the test set image by image, and kept by exactly what it depends on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments.comparison import Series, summary, with_images
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import result_key
from woodfisher_core.experiments.results import CurvePoint
from woodfisher_core.experiments.tables import layer_table
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.methods import Outcome, get_method

# Told which line and seed is next, and how many of all runs are done.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """One pruned network: ``accuracy`` (percent) and ``loss`` (nats) on the test set, the weights ``kept`` and the
    ``layers``' sparsities.

    ``packed`` are the bits of :attr:`right`; ``why`` says in words what went wrong where there is no result (NaN then).
    """

    accuracy: float = np.nan
    loss: float = np.nan
    packed: bytes = b""
    images: int = 0
    kept: int = 0
    layers: tuple[float, ...] = ()
    why: str = ""

    @property
    def right(self) -> np.ndarray:
        """(images,) bool: which test images are answered rightly."""
        return np.unpackbits(np.frombuffer(self.packed, np.uint8), count=self.images).astype(bool)

    @property
    def nbytes(self) -> int:
        return 300 + len(self.packed) + 32 * len(self.layers) + len(self.why)


def tried(space: Workspace, config: PruneConfig, sparsities: Sequence[float]) -> tuple[Trial, ...]:
    """A trial at each of ``sparsities``, all else as in ``config``, which has no pattern; those kept cost nothing.

    A sparsity beyond the method's reach, or at which its model breaks down, gives a trial that says so.
    """
    config = space.resolve(config)
    keys = {sparsity: ("trial", *result_key(config.replace(sparsity=sparsity))) for sparsity in sparsities}
    found = {sparsity: space.results.peek(key) for sparsity, key in keys.items()}
    missing = tuple(sparsity for sparsity, trial in found.items() if trial is None)
    if missing:
        made = space.results.get(
            ("trials", *result_key(config.replace(sparsity=0.0)), missing),
            lambda: _made(space, config, missing),
            lambda _: 0,
        )
        for sparsity, trial in zip(missing, made, strict=True):
            found[sparsity] = trial
            space.results.put(keys[sparsity], trial, trial.nbytes)
    return tuple(found[sparsity] for sparsity in sparsities)


def has_trials(space: Workspace, config: PruneConfig, sparsities: Sequence[float]) -> bool:
    """Whether :func:`tried` costs nothing."""
    config = space.resolve(config)
    keys = (("trial", *result_key(config.replace(sparsity=sparsity))) for sparsity in sparsities)
    return all(space.results.peek(key) is not None for key in keys)


def curve_of(space: Workspace, config: PruneConfig, sparsities: Sequence[float]) -> tuple[CurvePoint, ...]:
    """The trials that have a result, as the points of a curve."""
    total = space.problem(config).parameters.num_prunable
    return tuple(
        CurvePoint(sparsity, 1.0 - trial.kept / total, trial.accuracy, trial.loss, trial.kept)
        for sparsity, trial in zip(sparsities, tried(space, config, sparsities), strict=True)
        if not trial.why
    )


def _made(space: Workspace, config: PruneConfig, sparsities: Sequence[float]) -> tuple[Trial, ...]:
    found: dict[float, Trial] = {}
    try:
        most = get_method(config.method).reach(space.context(config))
        beyond = Trial(why=f"it can remove at most {100 * most:.0f} % here")
        found = {sparsity: beyond for sparsity in sparsities if sparsity > most}
        within = [sparsity for sparsity in sparsities if sparsity <= most]
        for sparsity, outcome in zip(within, space.outcomes(config, within), strict=True):
            found[sparsity] = _trial(space, config, outcome)
    except WoodFisherError:
        # What one sparsity breaks must not take the others with it: each of those left is tried alone.
        for sparsity in sparsities:
            if sparsity not in found:
                found[sparsity] = _alone(space, config.replace(sparsity=sparsity))
    return tuple(found[sparsity] for sparsity in sparsities)


def _alone(space: Workspace, config: PruneConfig) -> Trial:
    try:
        return _trial(space, config, space.outcome(config))
    except WoodFisherError as error:
        return Trial(why=str(error))


def _trial(space: Workspace, config: PruneConfig, outcome: Outcome) -> Trial:
    problem = space.problem(config)
    result = problem.evaluate(outcome.weights, problem.test, outcome.tensors)
    right = (result.predictions == result.targets).numpy()
    layers = layer_table(problem.parameters, outcome.mask.keep)["sparsity"]
    bits = np.packbits(right).tobytes()
    return Trial(result.accuracy, result.loss, bits, len(right), outcome.mask.kept, tuple(layers))


def over_sparsities(
    space: Workspace,
    lines: Sequence[Series],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a line, seed and sparsity: ``label``, ``style``, ``seed``, ``sparsity``, ``accuracy``, ``loss``, ``why``.

    Seed after seed, so that the methods share a seed's gradients; ``progress`` may raise: what is done is kept.
    """
    rows = []
    for seed in seeds:
        for one in lines:
            if progress:
                progress(f"{one.label}, seed {seed}", len(rows), len(lines) * len(seeds) * len(sparsities))
            trials = tried(space, one.config.replace(seed=seed), sparsities)
            rows += [_row(one, seed, trial, sparsity=s) for s, trial in zip(sparsities, trials, strict=True)]
    return pd.DataFrame(rows)


def over_images(
    space: Workspace,
    lines: Sequence[Series],
    sparsity: float,
    counts: Sequence[int],
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The same with ``images`` in the place of ``sparsity``: only so many training images exist (see ``with_images``)."""
    rows = []
    for seed in seeds:
        for one in lines:
            for images in counts:
                if progress:
                    told = f"{one.label}, {images:,} images, seed {seed}"
                    progress(told, len(rows), len(lines) * len(seeds) * len(counts))
                config = with_images(one.config.replace(seed=seed), images)
                rows.append(_row(one, seed, tried(space, config, (sparsity,))[0], images=images))
    return pd.DataFrame(rows)


def at(
    space: Workspace, lines: Sequence[Series], sparsity: float, seeds: Sequence[int], progress: Progress | None = None
) -> dict[str, tuple[Trial, ...]]:
    """The trials of each line at one sparsity, one a seed, by the line's label."""
    found: dict[str, list[Trial]] = {one.label: [] for one in lines}
    for number, seed in enumerate(seeds):
        for place, one in enumerate(lines):
            if progress:
                progress(f"{one.label}, seed {seed}", number * len(lines) + place, len(seeds) * len(lines))
            found[one.label] += tried(space, one.config.replace(seed=seed), (sparsity,))
    return {label: tuple(trials) for label, trials in found.items()}


def layers_of(space: Workspace, lines: Sequence[Series], trials: Mapping[str, Sequence[Trial]]) -> pd.DataFrame:
    """One row a line and layer: ``label``, ``style``, ``layer``, ``total`` weights, ``sparsity``, the mean over the seeds.

    Lines without a result are left out.
    """
    rows = []
    for one in lines:
        known = [trial.layers for trial in trials[one.label] if not trial.why]
        if not known:
            continue
        layers = space.problem(one.config).parameters.layers
        for layer, sparsity in zip(layers, np.mean(known, axis=0), strict=True):
            own = {"layer": layer.module, "total": layer.numel, "sparsity": float(sparsity)}
            rows.append({"label": one.label, "style": one.style, **own})
    return pd.DataFrame(rows, columns=["label", "style", "layer", "total", "sparsity"])


def mean_points(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Over the seeds of what :func:`over_sparsities` or :func:`over_images` gave: ``label``, ``style``, ``by``, ``mean``
    (percent), its standard ``error`` (0 of one seed) and ``count``. Points at which a seed has no result are left out.
    """
    points = summary(table.assign(seconds=0.0), by).drop(columns="seconds")
    failed = table[table["accuracy"].isna()].groupby(["label", by]).size()
    whole = [(row.label, getattr(row, by)) not in failed.index for row in points.itertuples()]
    return points[whole].assign(style=points["label"].map(table.groupby("label")["style"].first()))


def _row(one: Series, seed: int, trial: Trial, **where: float) -> dict[str, object]:
    numbers = {"accuracy": trial.accuracy, "loss": trial.loss, "why": trial.why}
    return {"label": one.label, "style": one.style, "seed": seed, **where, **numbers}
