"""The sentences around single weights, around a layer's picture, and around a pinned setting."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from app.words import gap_words, listed, number
from woodfisher_core.evaluation import CONFIDENT, Evaluation, paired_standard_error
from woodfisher_core.experiments.layer_pictures import InputViews, Picture
from woodfisher_core.experiments.weights import MOST_PICKED, Numbers, Pick, contested
from woodfisher_core.parameters import Layer

# Of words that say nothing so many are repeated, and so much of each.
MOST_QUOTED, LONGEST_WORD = 5, 20


def scatter_sentence(
    table: pd.DataFrame, drawn: pd.DataFrame, method: str, rival: str, curved: bool, everything: bool
) -> str:
    """What size says about the statistic; ``curved``: the statistic is ½w² over [F⁻¹]_jj."""
    both = pd.DataFrame({"size": table["before"].abs(), "statistic": table["statistic"]})
    correlation = both.corr(method="spearman").iloc[0, 1]
    where = "" if everything else " in this layer"
    if not math.isfinite(correlation):
        words = [f"{len(table):,} weights{where}."]
    elif math.isclose(correlation, 1.0):
        words = [f"{method} ranks the {len(table):,} weights{where} by their size."]
    else:
        ranked = number(correlation, ".2f" if correlation < 0.995 else ".4f")
        words = [f"Ranked by size and by {method}, the {len(table):,} weights{where} correlate at {ranked}."]
    if "rival" in table:
        differ = contested(table)
        saved, lost = int(differ["kept"].sum()), int((~differ["kept"]).sum())
        if saved or lost:
            words.append(f"{saved:,} are saved that {rival} removes; {lost:,} are given up that {rival} keeps.")
        else:
            words.append(f"{method} and {rival} keep the very same ones.")
    if curved:
        words.append("All weights of one curvature lie on one line; what lies higher cannot be made up for by others.")
    if len(drawn) < len(table):
        blank = int(((table["before"] == 0) | (table["statistic"] <= 0)).sum())
        words.append(
            f"{len(drawn):,} of {len(table):,} are drawn" + (f" ({blank:,} have no logarithm)." if blank else ".")
        )
    words.append("A double click shows the smallest, too.")
    return " ".join(words)


def pick_sentence(pick: Pick | None, found: pd.DataFrame, method: str, rival: str, where: str) -> str:
    """Which weights are chosen, and why there may be none; ``pick`` is None where they were chosen by hand."""
    count = f"{len(found):,} weight{'' if len(found) == 1 else 's'}"
    if pick is None:
        return f"**{count}**, chosen by number or in the chart."
    if found.empty:
        return {
            Pick.SAVED: f"None is kept {where} that {rival} would remove."
            if rival
            else "Nothing to hold it against: compare with another method in the sidebar.",
            Pick.GIVEN_UP: f"None is removed {where} that {rival} would keep."
            if rival
            else "Nothing to hold it against: compare with another method in the sidebar.",
            Pick.MOVED: f"No weight that stays {where} was changed: the update is none, or nothing was removed.",
            Pick.NEAR: f"There is no threshold {where}: nothing is removed, a pattern decides, or the method chooses by itself.",
        }[pick]
    size = found["before"].abs().mean()
    return {
        Pick.SAVED: f"**{count}** {where} that {rival} would remove and {method} keeps; their mean size is {size:.3f}.",
        Pick.GIVEN_UP: f"**{count}** {where} that {rival} would keep and {method} removes; their mean size is {size:.3f}.",
        Pick.MOVED: f"**{count}** {where}: the update changed them most, by {found['change'].abs().mean():.3f} on average.",
        Pick.NEAR: f"**{count}** {where} closest to the line; {int(found['kept'].sum())} of them stay.",
    }[pick]


def passed_sentence(numbers: Numbers, total: int, elsewhere: Sequence[int] = (), layer: str | None = None) -> str:
    """Which words of the numbers' field choose no weight, and why; ``elsewhere`` are weights outside the chosen ``layer``."""
    parts = []
    if numbers.words:
        parts.append(f"{_quoted(numbers.words)} (no whole number from 0 on)")
    if numbers.beyond:
        parts.append(f"{_quoted(numbers.beyond)} (the network's weights have the numbers 0 to {total - 1})")
    if elsewhere:
        parts.append(
            f"{_quoted([str(position) for position in elsewhere])} (not in {layer}: choose all layers to see them)"
        )
    if numbers.more:
        parts.append(f"the last {numbers.more:,} (more than {MOST_PICKED} are not shown)")
    return f" Passed over: {'; '.join(parts)}." if parts else ""


def _quoted(words: Sequence[str]) -> str:
    """The first few, as code: they may come from a link, and are no Markdown."""
    shown = [f"`{word[:LONGEST_WORD].replace('`', '')}`" for word in words[:MOST_QUOTED]]
    rest = len(words) - len(shown)
    return listed([*shown, f"{rest:,} more"] if rest else shown)


def moves_sentence(found: pd.DataFrame) -> str:
    """What the update did to the chosen weights."""
    kept, gone = found[found["kept"]], found[~found["kept"]]
    words = []
    if len(kept) and (kept["change"] != 0).any():
        most = kept.loc[kept["change"].abs().idxmax()]
        words.append(
            f"Those kept move by {kept['change'].abs().mean():.3f} on average, to make up for what went; most moves "
            f"{most['name']}, from {number(most['before'], '.3f')} to {number(most['after'], '.3f')}."
        )
    elif len(kept):
        words.append("Those kept stay where they were: there is no update.")
    if len(gone):
        words.append(f"{len(gone):,} removed go{'es' if len(gone) == 1 else ''} to zero.")
    return " ".join(words)


def picture_sentence(picture: Picture, mask: pd.DataFrame, layer: Layer, kept: int, chosen: int) -> str:
    """What the mask of a layer shows."""
    out, into = layer.shape[:2]
    kernel = "" if len(layer.shape) == 2 else ", kernels of " + "×".join(str(n) for n in layer.shape[2:])
    words = [
        f"{layer.module}: {_counted(out, 'output')} by {_counted(into, 'input')}{kernel}; {kept:,} of {layer.numel:,} weights "
        "stay."
    ]
    if picture.weights_a_cell > 1:
        words.append(
            f"Up to {picture.weights_a_cell:,} weights share a cell: it has the colour of the largest, and the share of them "
            "that stays."
        )
    elif len(layer.shape) == 2:
        idle, deaf = int((mask == 0).all(axis=0).sum()), int((mask == 0).all(axis=1).sum())
        words.append(
            f"{_counted(idle, 'input')} feed{'s' if idle == 1 else ''} nothing any more, {_counted(deaf, 'output')} "
            f"get{'s' if deaf == 1 else ''} nothing."
        )
    if chosen:
        words.append(f"Rings: the {chosen:,} chosen of this layer.")
    return " ".join(words)


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def views_sentence(views: InputViews, layer: Layer, unread: int, pixels: int) -> str:
    """What a first layer's neurons look at; ``unread`` of the input's ``pixels`` no neuron reads."""
    most, least = views.neurons.iloc[0], views.neurons.iloc[-1]
    words = f"Neuron {most['neuron']} of {layer.module} keeps most, {most['kept']:,} of {most['total']:,}"
    words += f"; number {least['neuron']} the fewest drawn, {least['kept']:,}."
    if pixels:
        words += f" {unread:,} of the {pixels:,} pixels are read by no neuron of the layer."
    return words + (f" {views.left_out:,} neurons that keep fewer are not drawn." if views.left_out else "")


def pair_sentence(pruned: Evaluation, pinned: Evaluation, differing: Mapping[str, tuple[str, str]]) -> str:
    """Which of two settings is better, beyond the noise of the test images they share."""
    gap, noise = pruned.accuracy - pinned.accuracy, paired_standard_error(pruned, pinned)
    settings = "; ".join(f"{name} {theirs} in A, {own} here" for name, (theirs, own) in differing.items())
    verdict = gap_words(gap, noise, more="better than A", less="worse than A")
    return f"They differ in: {settings}. This setting is {verdict} (noise ± {CONFIDENT * noise:.2f} points, image by image)."


def masks_sentence(only: int, only_pinned: int, shared: float) -> str:
    """How far two masks differ."""
    if only == only_pinned == 0:
        return "They keep the very same weights."
    share = f"{100 * shared:.1f}\u00a0%"
    return f"{only:,} weights stay only here, {only_pinned:,} only in A; of all that either keeps, {share} are shared."
