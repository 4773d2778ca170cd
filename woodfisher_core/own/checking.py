"""Does a network know this data? Its answers against guessing, and against the same classes in another order."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from woodfisher_core.evaluation import CONFIDENT, Evaluation

# Renamed classes must explain this many points more before it is said that they are.
CLEARLY = 20.0
# What a network answers that tells more classes apart than the data has.
NONE_OF_THEM = "none of these"


@dataclass(frozen=True)
class Verdict:
    """``guess`` is the accuracy of always answering the most frequent class; ``renamed`` that under the renaming of classes
    that each class's most frequent answer suggests, where this is one to one and clearly better; all in percent."""

    accuracy: float
    noise: float
    guess: float
    renamed: float | None
    renaming: tuple[int, ...] = ()

    @property
    def near_chance(self) -> bool:
        return self.accuracy - self.noise <= self.guess


def verdict(dense: Evaluation, classes: int) -> Verdict:
    """What the dense network's answers say."""
    counts = _counts(dense, classes)
    right, total = counts.diagonal().sum(), counts.sum()
    answers = counts[:, :classes].argmax(1)
    seen = counts.sum(1) > 0
    better = counts[torch.arange(classes), answers].sum()
    one_to_one = len(set(answers[seen].tolist())) == int(seen.sum())
    swapped = one_to_one and 100.0 * float(better - right) / float(total) > CLEARLY
    return Verdict(
        dense.accuracy,
        CONFIDENT * dense.standard_error,
        100.0 * float(counts.sum(1).max()) / float(total),
        100.0 * float(better) / float(total) if swapped else None,
        tuple(answers.tolist()) if swapped else (),
    )


def confusion_table(dense: Evaluation, classes: Sequence[str]) -> pd.DataFrame:
    """One row a pair of classes: ``truth``, ``answer``, ``count`` of test images, ``share`` of the truth's in percent.

    Where the network gave answers that are no class of the data, they are one more: :data:`NONE_OF_THEM`.
    """
    counts, known = _counts(dense, len(classes)), len(classes)
    totals = counts.sum(1, keepdim=True)
    answers = list(classes)
    if counts.shape[1] > known and bool(counts[:, known:].any()):
        other = NONE_OF_THEM
        while other in classes:
            other = f"({other})"
        answers.append(other)
        counts = torch.cat([counts[:, :known], counts[:, known:].sum(1, keepdim=True)], 1)
    shares = (100.0 * counts / totals).tolist()
    return pd.DataFrame(
        [
            (truth, answer, int(counts[i, j]), shares[i][j])
            for i, truth in enumerate(classes)
            for j, answer in enumerate(answers)
        ],
        columns=["truth", "answer", "count", "share"],
    )


def _counts(dense: Evaluation, classes: int) -> torch.Tensor:
    """(classes, answers) test images. A network may tell more classes apart than the data has: further columns, all wrong."""
    outputs = max(classes, int(dense.predictions.max()) + 1)
    flat = dense.targets * outputs + dense.predictions
    return torch.bincount(flat, minlength=classes * outputs).reshape(classes, outputs)
