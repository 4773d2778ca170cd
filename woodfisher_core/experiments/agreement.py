"""How well predictions agree with measurements: by rank, by size, and up to where."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

# How far off a prediction may be and still be trusted.
FACTOR = 2.0
# Loss changes below this many nats are too small to matter, and too small to judge a prediction by.
MATTERS = 1e-3


@dataclass(frozen=True)
class Agreement:
    """``rank`` is Spearman's correlation; ``ratio`` the median of measured over predicted where both have one sign; ``within``
    the share of predictions off by less than ``FACTOR``, ``wrong_sign`` that of the wrong sign. NaN where nothing can be said.
    """

    rank: float
    ratio: float
    within: float
    wrong_sign: float


def agreement(predicted: Sequence[float], measured: Sequence[float]) -> Agreement:
    """How well ``predicted`` (k,) agrees with ``measured`` (k,); pairs that are both zero count for the rank alone."""
    foreseen, found = (np.asarray(values, dtype=float) for values in (predicted, measured))
    told = (foreseen != 0) & (found != 0)
    ratios = found[told] / foreseen[told]
    same = ratios > 0
    within = np.abs(np.log(ratios[same])) <= np.log(FACTOR)
    judged = max(1, int(((foreseen != 0) | (found != 0)).sum()))
    return Agreement(
        spearman(foreseen, found),
        float(np.median(ratios[same])) if same.any() else np.nan,
        float(within.sum() / judged),
        float((~same).sum() / judged),
    )


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation; NaN where one of them never varies."""
    if len(first) < 2 or min(np.ptp(first), np.ptp(second)) == 0:
        return np.nan
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def trusted_until(
    where: Sequence[float], predicted: Sequence[float], measured: Sequence[float]
) -> tuple[float | None, float | None]:
    """(last place up to which all predictions are within ``FACTOR``, first place where one is not), each None if there is none.

    ``where`` rises. Places at which both changes are below ``MATTERS`` are not judged.
    """
    last = None
    for place, foreseen, found in zip(where, predicted, measured, strict=True):
        if max(abs(foreseen), abs(found)) < MATTERS:
            continue
        if not (foreseen * found > 0 and 1.0 / FACTOR <= found / foreseen <= FACTOR):
            return last, place
        last = place
    return last, None
