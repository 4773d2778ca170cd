"""A plane's runs over several seeds, brought together: what they have in common, and how far they lie apart."""

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from woodfisher_core.evaluation import CONFIDENT
from woodfisher_core.experiments.verdicts import verdict

# What a plane says about each of its runs …
MEASURES = ("accuracy", "overlap", "rank_correlation", "predicted", "measured", "gain")
# … and about each run beside those of earlier seeds at the same setting.
BETWEEN = ("overlap_between", "rank_between")


def over_seeds(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row a setting (``column`` and ``damping``, in the order of the first seed) of a plane's ``runs``.

    Every measure has its mean over the seeds computed so far under its own name, and ``<measure>_spread`` (standard deviation
    over the seeds, n − 1), ``<measure>_low`` and ``<measure>_high`` beside it, NaN where fewer than two seeds are there.
    ``overlap_between`` and ``rank_between`` are means over all pairs of seeds. ``seeds`` counts those computed, ``noise`` is the
    test set's standard error of ``gain``, and ``verdict`` weighs the mean gain against the 95 % noise of both: the draws' share
    shrinks with their number (Student's t, as few seeds know their spread badly), the test set's does not, since all seeds are
    measured on the same images.
    """
    several = runs["seed"].nunique() > 1
    groups = runs.groupby([column, "damping"], sort=False)
    found = groups[list(MEASURES)].agg(["mean", "std", "min", "max", "count"])
    cells = found.xs("mean", axis=1, level=1)[list(MEASURES)]
    count = found["accuracy", "count"]
    for name in MEASURES:
        for end, statistic in (("spread", "std"), ("low", "min"), ("high", "max")):
            cells[f"{name}_{end}"] = found[name, statistic].where(found[name, "count"] > 1)
    # The i-th seed's mean is over its i − 1 predecessors: weighted so, each pair counts once.
    before = groups.cumcount()
    for name in BETWEEN:
        weights = before.where(runs[name].notna(), 0)
        sums = (runs[name].fillna(0.0) * weights).groupby([runs[column], runs["damping"]], sort=False).sum()
        pairs = weights.groupby([runs[column], runs["damping"]], sort=False).sum()
        cells[name] = sums / pairs.where(pairs > 0)
    cells["noise"], cells["seeds"] = groups["noise"].mean(), count
    cells["verdict"] = groups["verdict"].first()
    if several:
        drawn = (
            stdtrit((count - 1).clip(lower=1), 0.975) * cells["gain_spread"].fillna(0.0) / count.where(count > 0) ** 0.5
        )
        margin = np.hypot(drawn, CONFIDENT * cells["noise"])
        judged = [verdict(*pair) for pair in zip(cells["gain"], margin, strict=True)]
        cells["verdict"] = pd.Series(judged, cells.index, dtype=object).where(count > 0, None)
    return cells.reset_index()
