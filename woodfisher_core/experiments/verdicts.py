"""Which of several methods is better than a baseline, and which is equal to it within the noise."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from woodfisher_core.evaluation import CONFIDENT, lead_by_luck
from woodfisher_core.experiments.trials import Trial

BETTER, WORSE, EQUAL, MISSING = "better", "worse", "equal within the noise", "no result"


def against(trials: Mapping[str, Sequence[Trial]], baseline: str) -> pd.DataFrame:
    """One row a line: how its accuracy differs from that of ``baseline``, on the same test images and the same seeds.

    Args:
        trials: By line, one trial a seed, in the same order of seeds.
        baseline: One of the lines.

    Returns:
        ``label``; ``accuracy``, the mean over the seeds in percent; ``error``, its standard error over them (NaN of one);
        ``difference`` from the baseline and its 95 % ``noise`` to either side, in points; ``verdict``; ``why`` there is none.
        Rows in the order of ``trials``.
    """
    return pd.DataFrame([{"label": label, **_against(own, trials[baseline])} for label, own in trials.items()])


def _against(own: Sequence[Trial], other: Sequence[Trial]) -> dict[str, object]:
    accuracies = np.array([trial.accuracy for trial in own])
    row = {"accuracy": accuracies.mean(), "error": standard_error(accuracies), "why": ""}
    failed = next((trial.why for trial in (*own, *other) if trial.why), "")
    if failed:
        return {**row, "difference": np.nan, "noise": np.nan, "verdict": MISSING, "why": failed}
    gap, margin = difference([trial.right for trial in own], [trial.right for trial in other])
    return {**row, "difference": gap, "noise": margin, "verdict": verdict(gap, margin)}


def verdict(gap: float, margin: float) -> str:
    """In words, whether ``gap`` is beyond ``margin``."""
    return EQUAL if abs(gap) <= margin else BETTER if gap > 0 else WORSE


def difference(own: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> tuple[float, float]:
    """(difference of mean accuracy, its 95 % noise to either side), in percentage points; both paired.

    Args:
        own: A seed each, (n,) bool: which of the n test images are answered rightly.
        other: The same of what it is held against, on the same images and seeds.

    Two sources of luck, taken as independent: which test images there are (the spread over the images of the difference
    averaged over the seeds; for one seed McNemar's exact test), and, from two seeds on, which seeds were drawn (Student's t, as
    few seeds know their spread badly).
    """
    gaps = 100.0 * (np.asarray(own, float) - np.asarray(other, float))  # (seeds, images)
    seeds, images = gaps.shape
    if seeds == 1:
        return float(gaps.mean()), 100.0 * lead_by_luck(np.count_nonzero(gaps)) / images
    from_images = CONFIDENT * float(np.sqrt(np.mean(gaps.mean(0) ** 2) / images))
    from_seeds = float(stdtrit(seeds - 1, 0.975)) * standard_error(gaps.mean(1))
    return float(gaps.mean()), float(np.hypot(from_images, from_seeds))


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of ``values``; NaN of a single one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan
