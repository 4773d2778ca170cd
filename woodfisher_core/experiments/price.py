"""What methods cost beside what they keep: seconds of one run from nothing, and which of them nobody beats in both."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import cost
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import result_key, source_key
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.options import Solver
from woodfisher_core.timing import best_seconds

# A run is timed again, for about so many seconds and so often at most: the fastest counts, as the others were disturbed.
AGAIN_SECONDS = 0.2
AGAIN = 10


def alone(space: Workspace, config: PruneConfig) -> Workspace:
    """A workspace that knows the network and its data and nothing else."""
    config = space.resolve(config)
    # One network, so one set of turns: whoever runs it with other weights has them in it meanwhile.
    turns = space.cache.computing
    empty = Workspace(space.cache.max_bytes, space.memory_budget, space.storage, space.scratch, computing=turns)
    empty.cache.put(("problem", *source_key(config)), space.problem(config), 0)
    return empty


def run_seconds(space: Workspace, config: PruneConfig) -> float:
    """Seconds to prune once from nothing: gradients, curvature, mask and update; not loading, not evaluation.

    Measured now, with the solver that is quickest for a single run, nothing shared, and nothing else computed by this process
    meanwhile; then kept. NaN where the run fails.
    """
    config = _single(space, config)
    return space.results.get(_key(config), lambda: _timed(space, config), lambda _: 100)


def known_seconds(space: Workspace, config: PruneConfig) -> float | None:
    """:func:`run_seconds` where it was measured before."""
    return space.results.peek(_key(_single(space, config)))


def predicted(space: Workspace, configs: Sequence[PruneConfig]) -> cost.Cost:
    """Cost of measuring those of ``configs``, runs on the same network, whose seconds are not known yet."""
    unknown = [_single(space, config) for config in configs if known_seconds(space, config) is None]
    if not unknown:
        return cost.Cost()
    empty = alone(space, unknown[0])
    prices = [cost.predict(empty, [config]) for config in unknown]
    return sum((price.times(1 + _again(price.seconds)) for price in prices), cost.Cost())


def _single(space: Workspace, config: PruneConfig) -> PruneConfig:
    return space.resolve(config).replace(solver=Solver.AUTO)


def _key(config: PruneConfig) -> tuple:
    return ("run seconds", *result_key(config))


def _timed(space: Workspace, config: PruneConfig) -> float:
    device = space.problem(config).device

    def once() -> None:
        alone(space, config).outcome(config)

    with space.cache.computing:
        try:
            seconds = best_seconds(once, 1, device)
            again = _again(seconds)
            return min(seconds, best_seconds(once, again, device)) if again else seconds
        except WoodFisherError:
            return np.nan


def _again(seconds: float) -> int:
    """How often a run that took so long is timed again."""
    return min(AGAIN, int(AGAIN_SECONDS / seconds)) if seconds > 0 else AGAIN


def with_front(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` by rising ``seconds``, with ``beaten_by``: the label of the most accurate one that is no slower and keeps no
    less ``accuracy``, and differs in one of them; empty on the front. Rows without both numbers are left out."""
    points = points.dropna(subset=["seconds", "accuracy"]).sort_values("seconds", kind="stable").reset_index(drop=True)
    return points.assign(beaten_by=[_beaten_by(points, row) for _, row in points.iterrows()])


def _beaten_by(points: pd.DataFrame, row: pd.Series) -> str:
    no_worse = points[(points["seconds"] <= row["seconds"]) & (points["accuracy"] >= row["accuracy"])]
    rivals = no_worse[(no_worse["seconds"] < row["seconds"]) | (no_worse["accuracy"] > row["accuracy"])]
    return "" if rivals.empty else rivals.loc[rivals["accuracy"].idxmax(), "label"]
