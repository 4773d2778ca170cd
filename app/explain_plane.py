"""The sentences of the Sensitivity page: every number in them comes from the runs on the page."""

from collections.abc import Sequence

import pandas as pd

from app import charts
from app.explain import percent
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import computed
from woodfisher_core.options import Axis, DampingScale


def damping_words(damping: float, config: PruneConfig) -> str:
    """``λ = 1e-03``, with what it is a multiple of where it is relative."""
    relative = config.damping_scale is DampingScale.RELATIVE
    return f"λ = {damping:.0e}" + (" mean Fⱼⱼ" if relative else "")


def line_sentence(points: pd.DataFrame, config: PruneConfig, magnitude: float) -> str:
    """What the damping slider shows."""
    best, worst = points.loc[points["accuracy"].idxmax()], points.loc[points["accuracy"].idxmin()]
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
    if len(values) == 1:
        return f"Only m = 1 fits: {rows} rows of two images are more than the {total:,} there are. Choose fewer rows on the left."
    return (
        f"Fixed: {rows} gradient rows, block size {config.block_size}. Each row averages m images, so the columns use "
        f"{config.num_samples * values[0]:,} to {config.num_samples * values[-1]:,} of the {total:,} training images."
    )


def held_out_sentence(axis: Axis, values: Sequence, config: PruneConfig, space: Workspace) -> str:
    """On how many images the losses are predicted and measured."""
    counts = {len(space.samples(config.replace(**{axis.field: value}))[1]) for value in values}
    few, many = min(counts), max(counts)
    if few == many:
        return f"Losses are those on {many:,} other training images."
    return (
        f"Losses are those on other training images: {many:,} of them, but only {few:,} in the column that uses most, so "
        "compare the columns with care."
    )


def plane_sentence(
    table: pd.DataFrame, axis: charts.Axis, config: PruneConfig, magnitude: float, outlined: bool
) -> str:
    """What the heat-map shows; ``outlined``: whether the setting on the left is one of its cells."""
    done = computed(table)
    if done.empty:
        return f"0 of {len(table)} settings computed."
    best = done.loc[done["accuracy"].idxmax()]
    counts = done["verdict"].value_counts()
    many = (
        f"Of {len(table)} settings,"
        if len(done) == len(table)
        else f"{len(done)} of {len(table)} settings computed, the others are blank. Of those computed,"
    )
    return (
        f"{many} {counts.get('better', 0)} beat magnitude ({percent(magnitude, 1)}) beyond the noise of the test set, "
        f"{counts.get('worse', 0)} are worse (marked ×), {counts.get('equal', 0)} are equal within it. Best: "
        f"{percent(best['accuracy'], 1)} at {axis.name(best[axis.column])}, {damping_words(best['damping'], config)}, chosen "
        "on the test set here, so expect a little less elsewhere." + (" Outlined: your setting." if outlined else "")
    )


def slice_sentence(table: pd.DataFrame, axis: charts.Axis, measure: charts.Measure) -> str:
    """What the slices show."""
    known = table[table[measure.column].notna()]
    lines = known.groupby(axis.column, sort=False)[measure.column].agg(["size", "min", "max"])
    lines = lines[lines["size"] > 1]
    if lines.empty:
        return "No line has two points yet."
    spread = (lines["max"] - lines["min"]).iloc[[0, -1]]
    parts = [f"{value:.3g} at {axis.name(name)}" for name, value in spread.items()]
    return (
        "Over the dampings drawn the values spread by "
        + " and by ".join(dict.fromkeys(parts))
        + ": where the line is flat, "
        "the damping does not matter."
    )
