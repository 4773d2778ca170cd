"""How far two runs rank and keep the same weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.workspace import Workspace


@dataclass(frozen=True)
class Ranking:
    """What of a run is compared: its kept set (d,) bool, and the rank of each weight's statistic (d,).

    Ranks are kept as float32, which holds them and their halves exactly up to eight million weights.
    """

    keep: Tensor
    ranks: Tensor

    @property
    def nbytes(self) -> int:
        return self.keep.nbytes + self.ranks.nbytes


def ranking(workspace: Workspace, config: PruneConfig, progress: Progress | None = None) -> Ranking:
    """The kept set and the ranks of a resolved run; they stay when its weights leave the cache, being smaller."""

    def make() -> Ranking:
        outcome = workspace.outcome(config, progress=progress)
        return Ranking(outcome.mask.keep, ranks(outcome.saliency).float())

    return workspace.cache.get(("ranking", config), make, lambda made: made.nbytes)


def overlap(first: Tensor, second: Tensor) -> float:
    """Jaccard index of two kept sets: 1 where they are the same, 0 where they share nothing."""
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 1.0


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two vectors of ranks, which is Spearman's of what was ranked."""
    return float(torch.corrcoef(torch.stack([first, second]).double())[0, 1])


def ranks(values: Tensor) -> Tensor:
    """Rank of each value, smallest first, float64; equal values share their mean rank."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).to(torch.float64)
    return (last - (counts - 1) / 2.0)[place]


def chance_overlap(sparsity: float) -> float:
    """The Jaccard index of two sets that each keep the same share of the weights at random (of many weights)."""
    share = 1.0 - sparsity
    return share / (2.0 - share)
