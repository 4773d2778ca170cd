"""The sentences around the charts: every number in them comes from the run on the page."""

import math
from functools import partial

import pandas as pd
import streamlit as st

from app.state import Notes, View
from app.words import gap_words, number, percent, share
from woodfisher_core.evaluation import CONFIDENT, Evaluation, paired_standard_error
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.report import smaller_network
from woodfisher_core.experiments.results import LossChange, RunReport
from woodfisher_core.experiments.tables import HISTOGRAM_DECADES, zero_counts
from woodfisher_core.memory import gib
from woodfisher_core.methods import Outcome, get_method
from woodfisher_core.options import BLOCK_NETWORK, DampingScale, Scope
from woodfisher_core.structured import EXAMPLES, sizes

# How much accuracy a method may lose and still count as "as good".
ALLOWED_LOSS = 1.0


def early_sentence(problem: Problem, first: Evaluation) -> str:
    """The accuracy on some of the test images, while all are looked at."""
    return (
        f"On {first.num_samples:,} of the {len(problem.test):,} test images the pruned network is right on "
        f"**{percent(first.accuracy)}** (noise ± {CONFIDENT * first.standard_error:.1f} points; the dense one has "
        f"{percent(problem.dense.accuracy)} on all). All of them follow …"
    )


def headline(
    problem: Problem, config: PruneConfig, outcome: Outcome, pruned: Evaluation, rivals: dict[str, Evaluation]
) -> None:
    """One sentence and four numbers."""
    mask, total = outcome.mask, problem.parameters.num_prunable
    method = get_method(config.method).label
    dense = problem.dense
    if mask.keep.all():
        text = f"At sparsity 0 nothing is removed: all {total:,} weights stay, accuracy **{percent(dense.accuracy)}**."
    else:
        text = (
            f"Removing **{share(mask.sparsity, 1)}** of the network's {total:,} weights with **{method}** takes its accuracy "
            f"from **{percent(dense.accuracy)}** to **{percent(pruned.accuracy)}**."
        )
        if rivals:
            name, best = max(rivals.items(), key=lambda item: item[1].accuracy)
            gap, noise = pruned.accuracy - best.accuracy, paired_standard_error(pruned, best)
            verdict = gap_words(gap, noise, more="better than that", less="worse than that")
            text += f" The best of the others, {get_method(name).label}, keeps {percent(best.accuracy)}: yours is {verdict}."
    st.markdown(text)
    shown = partial(st.metric, border=True, height="stretch")
    with st.grid(4, min_column_width=165):
        shown(
            "Accuracy",
            percent(pruned.accuracy),
            _change(pruned.accuracy - dense.accuracy, ".2f"),
            help=f"On the {pruned.num_samples:,} test images, with the change against the dense network; noise "
            f"± {CONFIDENT * pruned.standard_error:.2f} points.",
        )
        magnitude = rivals.get("magnitude")
        if magnitude is not None:
            shown(
                "Over magnitude",
                number(pruned.accuracy - magnitude.accuracy, "+.2f"),
                f"it has {percent(magnitude.accuracy)}",
                delta_color="off",
                delta_arrow="off",
                help="Percentage points against the baseline that looks at no data, at the same sparsity.",
            )
        shown("Weights kept", f"{mask.kept:,}", f"of {total:,}", delta_color="off", delta_arrow="off")
        shown(
            "Test loss (nats)",
            format(pruned.loss, ".3f") if math.isfinite(pruned.loss) else "not finite",
            _change(pruned.loss - dense.loss, ".3f"),
            delta_color="inverse",
            help="Mean cross-entropy on the test images, with the change against the dense network.",
        )


def write_notes(notes: Notes, space: Workspace, view: View, outcome: Outcome) -> None:
    """The live numbers under the controls."""
    config = view.config
    problem = space.problem(config)
    dim, total = problem.parameters.num_prunable, len(problem.dataset.train)
    ties = (
        f" {outcome.mask.ties} share the threshold's exact value; earlier ones stay first." if outcome.mask.ties else ""
    )
    notes.sparsity.caption(f"{outcome.mask.kept:,} of {dim:,} weights stay.{ties}")
    rivals = [view.beside(name) for name in view.compared if name != config.method]
    using = "Not used here." if not any(r.uses_data for r in rivals) else "Used by the methods beside it only."
    if config.uses_data:
        of = f"{share(config.num_samples / total, 1)} of the {total:,} training images."
        if config.uses_gradients:
            of += (
                f" Their gradients are a {config.num_samples:,} × {dim:,} matrix, {gib(4 * config.num_samples * dim)}."
            )
        notes.samples.caption(of)
    else:
        notes.samples.caption(using)
    if not config.uses_damping:
        notes.damping.caption(using)
        notes.block.caption(using)
        return
    curvature = space.mean_curvature(config)
    if config.damping_scale is DampingScale.RELATIVE:
        in_force = space.damping(config)
        notes.damping.caption(
            f"λ = {config.damping:g} × {number(curvature, '.1e')}, the mean of $F_{{jj}}$: "
            f"**λ = {number(in_force, '.1e')}**."
        )
    else:
        notes.damping.caption(
            f"The mean of $F_{{jj}}$ is {number(curvature, '.1e')}; λ is {number(config.damping / curvature, '.2g')} times that."
            if curvature > 0
            else "All gradients are zero: only the damping is left."
        )
    if not config.uses_gradients:
        notes.block.caption("Not used here: this method's curvature has blocks of its own.")
        return
    blocks = space.blocks(config)
    if blocks.largest == 1:
        notes.block.caption(f"{blocks.count:,} blocks of one weight each: only the diagonal is left.")
        return
    side = "N×N" if config.num_samples < blocks.largest else "B×B"
    reach = "across layers" if config.block_size == BLOCK_NETWORK else "within layers"
    plural = "s" if blocks.count > 1 else ""
    notes.block.caption(
        f"{blocks.count:,} block{plural} of up to {blocks.largest:,} weights, {reach}. The largest is inverted through its "
        f"{side} matrix; as a dense float32 matrix it would take {gib(4 * blocks.largest**2)}."
    )


def curve_sentence(table: pd.DataFrame, problem: Problem) -> str:
    """What the accuracy curves say."""
    parts = []
    for label, points in table.groupby("label", sort=False):
        points = points.sort_values("sparsity")
        good = (points["accuracy"] >= problem.dense.accuracy - ALLOWED_LOSS).cummin()
        parts.append(f"{label} to {share(points['sparsity'][good].max())}" if good.any() else f"{label} nowhere")
    return (
        f"Of the sparsities drawn, at most {ALLOWED_LOSS:g} point is lost by "
        + "; ".join(parts)
        + f". Bands: 95 % noise of the {len(problem.test):,} test images."
    )


def layer_sentence(layers: pd.DataFrame, config: PruneConfig) -> str:
    """What the layers' sparsities say."""
    if config.pattern is not None:
        return f"The pattern {config.pattern} takes the same share of every layer."
    if config.scope is Scope.LAYER:
        return "With a threshold of its own, every layer gives the same share (up to rounding)."
    most, least = layers.loc[layers["sparsity"].idxmax()], layers.loc[layers["sparsity"].idxmin()]
    if most["sparsity"] == least["sparsity"]:
        return "All layers give alike."
    why = (
        "its share is set by its shape alone"
        if config.scope is Scope.ERK
        else "one global threshold lets the layers share the load unevenly"
    )
    ends = f"{most['layer']} gives most ({_nearly(most['sparsity'])}), {least['layer']} least ({_nearly(least['sparsity'])})"
    return f"{ends}: {why}."


def _nearly(sparsity: float) -> str:
    """A layer's share, never 100 % while something is left of it."""
    return share(sparsity, 1 if 0.995 <= sparsity < 1.0 else 0)


def saliency_sentence(problem: Problem, config: PruneConfig, outcome: Outcome) -> str:
    """What the histograms say."""
    method = get_method(config.method)
    parts = []
    if any(math.isfinite(threshold) for threshold in outcome.mask.thresholds):
        parts.append("Weights left of the line go.")
    if config.scope is Scope.GLOBAL and math.isfinite(outcome.mask.thresholds[0]):
        parts.append(f"It stands at {number(outcome.mask.thresholds[0], '.1e')} in every layer.")
    parts.append("The statistic" + method.meaning.removeprefix("It"))
    parts.append(f"What lies more than {HISTOGRAM_DECADES} decades below the largest stands in the first bar.")
    zeros = sum(zero_counts(problem.parameters, outcome.saliency).values())
    if zeros:
        parts.append(f"{zeros:,} weights have a statistic of exactly zero and are not drawn.")
    return " ".join(parts)


def loss_sentence(change: LossChange) -> str:
    """What prediction and measurement say."""
    inside, outside = change.predicted_fisher_samples, change.predicted_held_out
    if inside is None:
        return (
            "Only measured: there is no one quadratic model of the loss behind this network (none of the Fisher's gradients were "
            "used, or it was pruned in several stages)."
        )
    text = ""
    if outside is not None and change.measured_held_out is not None:
        predicted, measured = outside.total, change.measured_held_out
        text = f"On held-out training images the model predicts {number(predicted, '+.3f')} nats, measured are "
        text += number(measured, "+.3f")
        ratio = predicted / measured if measured > 0 else math.nan
        if math.isfinite(ratio) and ratio > 0:
            text += f": {share(ratio)} of it" if ratio <= 10 else f": {ratio:.0f} times too much"
        text += ". "
        if inside.second_order < 0.5 * outside.second_order:
            text += (
                "The second-order term is far smaller on the Fisher's own samples: there are fewer of them than weights, and "
                "the update fits them. "
            )
    elif outside is None:
        text = "All training images went into the Fisher: none are left to check the prediction on. "
    if change.damping_penalty:
        penalty = number(change.damping_penalty, ".2g")
        text += f"The damping's own penalty on the step, {penalty} nats, is no part of the prediction."
    return text.strip()


def smaller_sentence(report: RunReport) -> str:
    """What became of the network where whole channels went."""
    problem = report.problem
    found = sizes(problem.model, smaller_network(report), problem.test.inputs[:EXAMPLES])
    return (
        f"Whole channels went, so the network itself is smaller: {found.parameters:,} of {found.parameters_before:,} parameters "
        f"and {found.multiply_adds:,} of {found.multiply_adds_before:,} multiply-adds an image are left."
    )


def class_sentence(classes: pd.DataFrame) -> str:
    """What the classes say."""
    drops = classes["dense"] - classes["pruned"]
    if not drops.max() > 0:
        return "No class loses."
    lost = int(((classes["pruned"] == 0) & (classes["dense"] > 0)).sum())
    if lost > 1:
        left = int((classes["pruned"] > 0).sum())
        rest = (
            f"what accuracy is left comes from {f'the other {left}' if left > 1 else 'one alone'}"
            if left
            else "no answer is right any more"
        )
        return f"{lost} of {len(classes)} classes are at {percent(0.0, 0)}: {rest}."
    worst = classes.loc[drops.idxmax()]
    before, after = percent(worst["dense"], 1), percent(worst["pruned"], 1)
    return f"An average hides this: class {worst['class']} loses most, from {before} to {after}."


def _change(value: float, form: str) -> str | None:
    """A signed change against the dense network, or nothing where there is none."""
    written = format(value, "+" + form)
    return written if math.isfinite(value) and float(written) != 0.0 else None
