"""The order of a sweep's points: what shares gradients, then a Fisher, then its inverse, lies together."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import context_keys, fisher_key, rows_key, source_key

# Smaller groups are not split: loading a network and making gradients again would cost more than a second worker saves.
LEAST_GROUP = 4


@dataclass(frozen=True)
class Item:
    """A point to compute: its place in the sweep, what it alone sets, and its resolved config."""

    position: int
    changes: dict[str, object]
    config: PruneConfig


def in_groups(items: Sequence[Item], workers: int) -> list[list[Item]]:
    """``items`` in the best order, cut into at least ``workers`` groups where they share little; the largest groups first.

    The most samples come first: fewer are a view of the same gradients.
    """
    shared = [_shares(item.config) for item in items]
    ranks = [_ranks(column) for column in zip(*shared, strict=True)]
    place = lambda i: (ranks[0][i], -_rows(items[i].config), ranks[1][i], ranks[2][i], items[i].position)  # noqa: E731
    order = sorted(range(len(items)), key=place)
    if workers == 1:
        return [[items[i] for i in order]] if items else []
    groups: dict[tuple[int, int], list[Item]] = {}
    for i in order:
        groups.setdefault((ranks[0][i], ranks[1][i]), []).append(items[i])
    found = sorted(groups.values(), key=len, reverse=True)
    while found and len(found) < workers and len(found[0]) >= 2 * LEAST_GROUP:
        largest = found.pop(0)
        half = len(largest) // 2
        found = sorted([*found, largest[:half], largest[half:]], key=len, reverse=True)
    return found


def _shares(config: PruneConfig) -> tuple[Hashable, Hashable, Hashable]:
    """What points may share, from the outside in."""
    kept = context_keys(config)
    if not config.uses_gradients:
        return source_key(config), kept["curvature"], kept["saliency"]
    return rows_key(config), fisher_key(config), (kept["inverse"], kept["saliency"])


def _rows(config: PruneConfig) -> int:
    return config.num_samples if config.uses_gradients else 0


def _ranks(values: Sequence[Hashable]) -> list[int]:
    """The place at which each value came first."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(value, len(first)) for value in values]
