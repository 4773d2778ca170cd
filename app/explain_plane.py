"""The sentences of the Sensitivity page: every number in them comes from the runs on the page."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from app import charts
from app.charts.damping import power
from app.words import number, percent, share
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import computed, varied
from woodfisher_core.experiments.verdicts import BETTER, EQUAL, WORSE
from woodfisher_core.options import Axis, DampingScale


@dataclass(frozen=True)
class Said:
    """A measure in sentences: ``what`` it is, the ``unit`` of its differences, what to make of it (``meaning``), and what is true
    where a line of it is ``flat``: "the damping …"."""

    what: str
    unit: str
    meaning: str
    flat: str


_NOT_ACCURACY = "of the accuracy that says nothing"
SAID = {
    "accuracy": Said("accuracy", " points", "", "does not matter for the accuracy"),
    "overlap": Said(
        "overlap of the kept weights with those of your setting",
        "",
        "1: the very same weights stay, which need not be the best ones.",
        f"leaves the agreement with your setting's mask as it is; {_NOT_ACCURACY}",
    ),
    "rank_correlation": Said(
        "rank correlation with your setting",
        "",
        "1: the very same order of the weights. The colours show how near to 1: each further nine is one step.",
        f"leaves the agreement with your setting's ranking as it is; {_NOT_ACCURACY}",
    ),
    "predicted": Said(
        "loss change that the quadratic model foresees",
        " nats",
        "Little foreseen is not little lost: hold it against the measured one.",
        "does not change the loss that the model foresees; of the measured one that says nothing",
    ),
    "measured": Said(
        "measured loss change",
        " nats",
        "Less is better.",
        "does not matter for the held-out loss",
    ),
    "overlap_between": Said(
        "share of the kept weights that two seeds have in common",
        "",
        "1: another draw of images keeps the very same weights.",
        f"does not change how far two draws agree; {_NOT_ACCURACY}",
    ),
    "rank_between": Said(
        "rank correlation of two seeds",
        "",
        "1: another draw of images ranks the weights the very same way. The colours show how near to 1: each further nine is one "
        "step.",
        f"does not change how far two draws agree; {_NOT_ACCURACY}",
    ),
}


def damping_words(damping: float, config: PruneConfig) -> str:
    """``λ = 10⁻³``, with what it is a multiple of where it is relative."""
    relative = config.damping_scale is DampingScale.RELATIVE
    return f"λ = {power(damping)}" + (" mean Fⱼⱼ" if relative else "")


def line_sentence(points: pd.DataFrame, config: PruneConfig, magnitude: float) -> str:
    """What the damping slider shows."""
    best, worst = points.loc[points["accuracy"].idxmax()], points.loc[points["accuracy"].idxmin()]
    if config.sparsity == 0.0:
        still = "At sparsity 0 nothing is removed: the slider reorders the weights, but none goes."
        return f"{still} Raise the sparsity in the sidebar."
    return (
        f"Drag the slider: with N = {config.num_samples:,} the accuracy at sparsity {config.sparsity:g} lies between "
        f"{percent(worst['accuracy'], 1)} ({damping_words(worst['damping'], config)}) and {percent(best['accuracy'], 1)} "
        f"({damping_words(best['damping'], config)}); magnitude reaches {percent(magnitude, 1)}. With ever more damping the "
        "ranking becomes that of magnitude."
    )


def fixed_sentence(axis: Axis, values: Sequence, config: PruneConfig, space: Workspace) -> str:
    """What stays the same from column to column."""
    total = len(space.problem(config).dataset.train)
    rows = f"N = {config.num_samples:,}"
    if axis is Axis.SAMPLES:
        return f"Fixed: block size {config.block_size}, single images (m = 1)."
    if axis is Axis.BLOCK:
        return f"Fixed: the same {rows} images in every column, one a gradient row (m = 1)."
    if axis is Axis.UPDATE_SCALE:
        return (
            f"Fixed: {rows}, block size {config.block_size}, and with them what is removed: only how far the survivors move "
            "differs from column to column."
        )
    if axis is Axis.IMAGES:
        fixed = f"Fixed: block size {config.block_size}, {rows} where there are as many images, else all there are."
        if images_matter(config):
            return fixed + " Later stages and BatchNorm statistics have no other images either."
        return f"{fixed} In one stage, without BatchNorm statistics, nothing looks at images beyond N: {values[-1]:,} say it all."
    if len(values) == 1:
        few = f"Only m = 1 fits: {rows} rows of two images are more than the {total:,} there are."
        return f"{few} Choose fewer rows in the sidebar."
    return (
        f"Fixed: {rows} gradient rows, block size {config.block_size}. Each row averages m images, so the columns use "
        f"{config.num_samples * values[0]:,} to {config.num_samples * values[-1]:,} of the {total:,} training images."
    )


def images_matter(config: PruneConfig) -> bool:
    """Whether a run looks at training images beyond its N Fisher samples, so that it matters whether they exist."""
    return config.stages > 1 or config.batchnorm_images > config.num_samples


def scale_sentence(config: PruneConfig) -> str:
    """Why there is no plane over the update scale here."""
    return (
        f"Only the independent update has a scale, and the update in the sidebar is '{config.update}': there is nothing to vary. "
        "Choose the independent update in the sidebar, or another axis."
    )


def held_out_sentence(axis: Axis, values: Sequence, config: PruneConfig, space: Workspace, seeds: int = 1) -> str:
    """On how many images the losses are predicted and measured."""
    counts = {len(space.samples(varied(config, axis, value))[1]) for value in values}
    few, many = min(counts), max(counts)
    own = " Each seed has its own, so their spread is in that of the losses too." if seeds > 1 else ""
    if few == many:
        return f"Losses are those on {many:,} other training images.{own}"
    return (
        f"Losses are those on other training images: {many:,} of them, but only {few:,} in the column that uses most, so "
        f"compare the columns with care.{own}"
    )


def plane_sentence(
    table: pd.DataFrame,
    axis: charts.Axis,
    config: PruneConfig,
    magnitude: float,
    outlined: bool,
    seeds: int = 1,
    measure: charts.Measure = charts.MEASURES["accuracy"],
) -> str:
    """What the heat-map of ``measure`` shows; ``outlined``: whether the sidebar's setting is one of its cells."""
    done = computed(table)
    if done.empty:
        return f"0 of {len(table)} settings computed."
    counts = done["verdict"].value_counts()
    many = (
        f"Of {len(table)} settings,"
        if len(done) == len(table)
        else f"{len(done)} of {len(table)} settings computed, the others are blank. Of those computed,"
    )
    yours = " Outlined: your setting." if outlined else ""
    noise = "the noise of the test set" if seeds == 1 else "the noise of the draw and of the test set together"
    if measure.column != "accuracy":
        worse = (
            f" × marks {counts[WORSE]} that are less accurate than magnitude beyond {noise}." if WORSE in counts else ""
        )
        return f"{many} {_range_words(done, axis, config, measure)}{worse}{yours}"
    best = done.loc[done["accuracy"].idxmax()]
    return (
        f"{many} {counts.get(BETTER, 0)} beat magnitude ({percent(magnitude, 1)}) beyond {noise}, "
        f"{counts.get(WORSE, 0)} are worse (marked ×), {counts.get(EQUAL, 0)} are equal within it. Best: "
        f"{percent(best['accuracy'], 1)} at {axis.name(best[axis.column])}, {damping_words(best['damping'], config)}, chosen "
        f"on the test set here, so expect a little less elsewhere.{yours}"
    )


def _range_words(done: pd.DataFrame, axis: charts.Axis, config: PruneConfig, measure: charts.Measure) -> str:
    """Where another measure than the accuracy is smallest and largest, and what to make of it."""
    said, known = SAID[measure.column], done[done[measure.column].notna()]
    if known.empty:
        return f"none has a {said.what}: there is nothing to take it from."
    ends = [known.loc[known[measure.column].idxmin()], known.loc[known[measure.column].idxmax()]]
    least, most = (
        f"{number(end[measure.column], measure.form.lstrip('#'))}{said.unit} ({axis.name(end[axis.column])}, "
        f"{damping_words(end['damping'], config)})"
        for end in ends
    )
    return (
        f"the {said.what} lies between {least} and {most}, at half of them at or above "
        f"{number(known[measure.column].median(), measure.form.lstrip('#'))}{said.unit}. {said.meaning}"
    )


def seeds_sentence(table: pd.DataFrame, axis: charts.Axis, config: PruneConfig, tests: int) -> str:
    """How far another draw of images moves the accuracy, beside what the test images can; empty where no two seeds are there."""
    known = table[table["accuracy_spread"].notna()]
    if known.empty:
        return ""
    fewest, most = int(known["seeds"].min()), int(known["seeds"].max())
    of = f"{most}" if fewest == most else f"{fewest} to {most}"
    widest = known.loc[known["accuracy_spread"].idxmax()]
    right = known["accuracy"] / 100.0
    test = 100.0 * (right * (1.0 - right) / tests).pow(0.5)
    above = int((known["accuracy_spread"] > test).sum())
    return (
        f"**Noise of the draw**: over {of} seeds the accuracy of a setting has a standard deviation of "
        f"{known['accuracy_spread'].median():.2f} points (median), most at {axis.name(widest[axis.column])}, "
        f"{damping_words(widest['damping'], config)}: {widest['accuracy_spread']:.1f} points, from "
        f"{percent(widest['accuracy_low'], 1)} to {percent(widest['accuracy_high'], 1)}. **Noise of the test set**: "
        f"its {tests:,} images alone leave ± {test.median():.2f} points; they are the same for every seed, so that more seeds "
        f"do not lessen it. The draw is the larger of the two at {above} of {len(known)} settings."
    )


def between_sentence(table: pd.DataFrame, axis: charts.Axis, config: PruneConfig, chance: float) -> str:
    """Whether another draw of images would keep the same weights; empty where no two seeds are there."""
    known = table[table["overlap_between"].notna()]
    if known.empty:
        return ""
    ends = [known.loc[known["overlap_between"].idxmin()], known.loc[known["overlap_between"].idxmax()]]
    least, most = (
        f"{share(end['overlap_between'], 1)} ({axis.name(end[axis.column])}, {damping_words(end['damping'], config)})"
        for end in ends
    )
    return (
        "**Would another draw of images keep the same weights?** Of the weights that either of two seeds keeps, both keep from "
        f"{least} to {most}; two masks at random would share {share(chance, 1)}. Seeds that agree more are not thereby right: "
        "with ever more damping all of them keep what magnitude keeps."
    )


def slice_sentence(
    table: pd.DataFrame, axis: charts.Axis, measure: charts.Measure, along: str = charts.ALONG[0], dots: bool = False
) -> str:
    """What the slices show."""
    over_damping = along == charts.ALONG[0]
    lines_of = axis.column if over_damping else "damping"
    known = table[table[measure.column].notna()]
    lines = known.groupby(lines_of, sort=False)[measure.column].agg(["size", "min", "max"])
    lines = lines[lines["size"] > 1]
    if lines.empty:
        return "No line has two points yet."
    spread = (lines["max"] - lines["min"]).iloc[[0, -1]]
    named = axis.name if over_damping else (lambda damping: f"λ = {power(damping)}")
    said = SAID[measure.column]
    parts = [f"{_amount(value)}{said.unit} at {named(name)}" for name, value in spread.items()]
    over, what = ("the dampings", "the damping") if over_damping else (f"the values of {axis.letter}", axis.letter)
    return (
        f"Over {over} drawn the values spread by "
        + " and by ".join(dict.fromkeys(parts))
        + f": where the line is flat, {what} {said.flat}."
        + (" Small dots: the seeds one by one; where they lie far apart, so does what one run says." if dots else "")
    )


def _amount(value: float) -> str:
    """A difference with at least one decimal: ``1.0``, ``0.28``, ``2.4·10⁻⁵``."""
    return number(value, ".1f" if value >= 0.95 else ".2g" if 0.0 < value < 1e-3 else "#.2g")
