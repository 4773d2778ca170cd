"""Single weights of one run: what each was and became, which ones tell a story, and how far two masks differ."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.methods import Need, Outcome, get_method
from woodfisher_core.options import Choice
from woodfisher_core.parameters import Layer, PrunableParameters

# Marks drawn at once; a table of single weights has at most so many rows.
MOST_DRAWN = 4000
MOST_PICKED = 50
# No position has more; Python refuses to read thousands of them.
MOST_DIGITS = 11


class Pick(Choice):
    """Which weights to look at one by one."""

    SAVED = ("saved", "Saved", "Kept, though the rival would remove them: the highest statistic first.")
    GIVEN_UP = ("given up", "Given up", "Removed, though the rival would keep them: the largest weights first.")
    MOVED = ("moved", "Moved most", "Kept weights that the update changed most.", r"|\delta_j|")
    NEAR = (
        "threshold",
        "Nearest the threshold",
        "On either side of the line, where a little noise in the samples decides.",
        r"|\log_{10}\rho_j-\log_{10}\rho^*|",
    )


def inverse_diagonal(workspace: Workspace, config: PruneConfig) -> Tensor | None:
    """(d,) float64 [F⁻¹]_jj of the method's own curvature over the prunable weights; None where it inverts none.

    None also for whole channels, whose Fisher is over more than the prunable weights.
    """
    method = get_method(config.method)
    if Need.INVERSE not in method.needs or method.removes_channels or config.stages > 1:
        return None
    return workspace.context(config).inverse_diagonal()


def weight_table(
    parameters: PrunableParameters,
    before: Tensor,
    outcome: Outcome,
    rival: Tensor | None = None,
    inverse: Tensor | None = None,
    layer: str | None = None,
) -> pd.DataFrame:
    """One row a prunable weight, in the order of the flat vector.

    Columns: ``position`` in that vector, ``layer``, ``before`` and ``after`` pruning, their difference ``change``,
    ``statistic`` in the method's unit, ``inverse`` ([F⁻¹]_jj, where given), ``kept``, and ``rival``: whether the other mask
    keeps it (where given).

    Args:
        parameters: The layers of the flat vector.
        before: (d,) weights of the dense network.
        outcome: The run.
        rival: (d,) bool, another mask to hold it against.
        inverse: (d,) diagonal of the inverse curvature.
        layer: Only the weights of the layer with this name.
    """
    chosen = [one for one in parameters.layers if layer in (None, one.module)]
    part = chosen[0].slice if layer is not None else slice(0, parameters.num_prunable)

    def column(values: Tensor) -> np.ndarray:
        return values[part].cpu().numpy()

    dense, pruned = column(before).astype(float), column(outcome.weights).astype(float)
    codes = np.repeat(np.arange(len(chosen)), [one.numel for one in chosen])
    table = {
        "position": np.arange(part.start, part.stop),
        "layer": pd.Categorical.from_codes(codes, [one.module for one in chosen]),
        "before": dense,
        "after": pruned,
        "change": pruned - dense,
        "statistic": column(outcome.saliency).astype(float),
    }
    if inverse is not None:
        table["inverse"] = column(inverse)
    table["kept"] = column(outcome.mask.keep)
    if rival is not None:
        table["rival"] = column(rival)
    return pd.DataFrame(table)


def picked(table: pd.DataFrame, pick: Pick, thresholds: Mapping[str, float], count: int) -> pd.DataFrame:
    """The first ``count`` rows of a :func:`weight_table` that ``pick`` means; none where it means nothing here.

    ``thresholds`` gives each layer's largest statistic that goes.
    """
    if pick is Pick.NEAR:
        line = table["layer"].map(dict(thresholds)).astype(float)
        usable = np.isfinite(line) & (line > 0) & (table["statistic"] > 0)
        distance = (np.log10(table["statistic"][usable]) - np.log10(line[usable])).abs()
        return table.loc[distance.sort_values(kind="stable").index[:count]]
    if pick is Pick.MOVED:
        moved = table[table["kept"] & (table["change"] != 0)]
        return moved.loc[moved["change"].abs().sort_values(ascending=False, kind="stable").index[:count]]
    if "rival" not in table:
        return table.iloc[:0]
    chosen = contested(table)
    if pick is Pick.SAVED:
        saved = chosen[chosen["kept"]]
        return saved.sort_values("statistic", ascending=False, kind="stable").head(count)
    gone = chosen[~chosen["kept"]]
    return gone.loc[gone["before"].abs().sort_values(ascending=False, kind="stable").index[:count]]


def contested(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a :func:`weight_table` that its two masks treat differently."""
    return table[table["kept"] != table["rival"]] if "rival" in table else table.iloc[:0]


def thinned(table: pd.DataFrame, always: Sequence[int] = (), most: int = MOST_DRAWN) -> pd.DataFrame:
    """At most ``most`` rows to draw: the positions ``always``, then contested ones, then an even sample of all statistics.

    What has no logarithm, a weight or a statistic of zero, is left out. In the order of the flat vector.
    """
    table = table[(table["before"] != 0) & (table["statistic"] > 0)]
    if len(table) <= most:
        return table
    first = table["position"].isin(list(always)).to_numpy()
    differ = table.index.isin(contested(table).index) & ~first
    chosen = np.flatnonzero(first)[:most]
    for rest in (np.flatnonzero(differ), np.flatnonzero(~first & ~differ)):
        room = min(most - len(chosen), len(rest))
        by_statistic = rest[np.argsort(table["statistic"].to_numpy()[rest], kind="stable")]
        even = np.linspace(0, len(rest) - 1, room).round().astype(int) if room > 0 else []
        chosen = np.concatenate([chosen, by_statistic[even]])
    return table.iloc[np.sort(chosen)]


def indexed(table: pd.DataFrame, parameters: PrunableParameters) -> pd.DataFrame:
    """``table`` with each weight's ``name``, ``out`` and ``in`` channel (from 0), and ``kernel`` position where any has one."""
    by_name = {layer.module: layer for layer in parameters.layers}
    places = [
        (by_name[name], indices(by_name[name], position))
        for name, position in zip(table["layer"], table["position"], strict=True)
    ]
    found = {
        "name": [_named(layer, place) for layer, place in places],
        "layer": table["layer"],
        "out": [place[0] for _, place in places],
        "in": [place[1] for _, place in places],
        "kernel": [", ".join(map(str, place[2:])) for _, place in places],
    }
    if not any(found["kernel"]):
        del found["kernel"]
    return pd.concat([pd.DataFrame(found, index=table.index), table.drop(columns="layer")], axis=1)


def indices(layer: Layer, position: int) -> tuple[int, ...]:
    """(out, in[, kernel …]) of the weight at ``position`` of the flat vector."""
    return tuple(int(i) for i in np.unravel_index(position - layer.offset, layer.shape))


def weight_name(parameters: PrunableParameters, position: int) -> str:
    """``fc1[3, 17]``: the layer, then the place in its tensor, outputs first."""
    layer = next(layer for layer in parameters.layers if position < layer.end)
    return _named(layer, indices(layer, position))


def _named(layer: Layer, place: tuple[int, ...]) -> str:
    return f"{layer.module}{list(place)}"


@dataclass(frozen=True)
class Numbers:
    """What a text of numbers says: ``positions`` of the flat vector, each once, at most MOST_PICKED; and the words passed over:
    those that are no whole number (``words``), those no weight has (``beyond``), and how many more there were (``more``)."""

    positions: tuple[int, ...]
    words: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    more: int = 0


def parse_positions(text: str, num_prunable: int) -> Numbers:
    """The whole numbers from 0 to below ``num_prunable`` in text such as ``12 45, 67``, which may come from a link."""
    positions, words, beyond = {}, {}, {}
    for word in filter(None, re.split(r"[\s,;]+", text)):
        if not re.fullmatch("[0-9]+", word):
            words[word] = None
        elif len(word) > MOST_DIGITS or int(word) >= num_prunable:
            beyond[word] = None
        else:
            positions[int(word)] = None
    kept = tuple(positions)[:MOST_PICKED]
    return Numbers(kept, tuple(words), tuple(beyond), len(positions) - len(kept))


def mask_difference(
    parameters: PrunableParameters, keep: Tensor, other_parameters: PrunableParameters, other: Tensor
) -> tuple[int, int, float]:
    """(weights only ``keep`` keeps, weights only ``other`` keeps, Jaccard index of the kept), over layers that both prune."""
    own, theirs = parameters.unflatten(keep), other_parameters.unflatten(other)
    only = only_other = both = 0
    for name in own.keys() & theirs.keys():
        first, second = own[name].cpu(), theirs[name].cpu()
        only += int((first & ~second).sum())
        only_other += int((second & ~first).sum())
        both += int((first & second).sum())
    either = both + only + only_other
    return only, only_other, both / either if either else math.nan
