"""The sentences around the charts: every number in them comes from the run on the page."""

import math

import pandas as pd
import streamlit as st

from app.state import Notes
from woodfisher_core.evaluation import Evaluation, paired_standard_error
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.tables import HISTOGRAM_DECADES, zero_counts
from woodfisher_core.experiments.workspace import LossChange
from woodfisher_core.memory import gib
from woodfisher_core.methods import Outcome, get_method
from woodfisher_core.options import BLOCK_NETWORK, Scope


def headline(
    problem: Problem, config: PruneConfig, outcome: Outcome, pruned: Evaluation, rivals: dict[str, Evaluation]
) -> None:
    """One sentence and four numbers."""
    mask, total = outcome.mask, problem.parameters.num_prunable
    method = get_method(config.method).label
    others = {name: result for name, result in rivals.items() if name != config.method}
    text = (
        f"Removing **{mask.sparsity:.1%}** of the network's {total:,} weights with **{method}** takes its accuracy from "
        f"**{problem.dense.accuracy:.2f} %** to **{pruned.accuracy:.2f} %**."
    )
    if others:
        name, best = max(others.items(), key=lambda item: item[1].accuracy)
        gap, noise = pruned.accuracy - best.accuracy, paired_standard_error(pruned, best)
        verdict = (
            "equal within the noise of the test set"
            if abs(gap) <= 1.96 * noise or gap == 0
            else f"{abs(gap):.2f} points {'better' if gap > 0 else 'worse'} than that"
        )
        text += f" The best of the others, {get_method(name).label}, keeps {best.accuracy:.2f} %: yours is {verdict}."
    st.markdown(text)
    with st.grid(4, min_column_width=150):
        st.metric(
            "Accuracy",
            f"{pruned.accuracy:.2f} %",
            f"{pruned.accuracy - problem.dense.accuracy:+.2f} against dense",
            help=f"On the {pruned.num_samples:,} test images; noise ± {1.96 * pruned.standard_error:.2f} points.",
            border=True,
        )
        magnitude = rivals.get("magnitude")
        if magnitude is not None and config.method != "magnitude":
            st.metric(
                "Magnitude",
                f"{magnitude.accuracy:.2f} %",
                f"{pruned.accuracy - magnitude.accuracy:+.2f} is yours",
                help="The baseline that looks at no data, at the same sparsity.",
                border=True,
            )
        st.metric("Weights kept", f"{mask.kept:,}", f"of {total:,}", delta_color="off", delta_arrow="off", border=True)
        st.metric(
            "Test loss (nats)",
            _number(pruned.loss, ".3f"),
            f"{pruned.loss - problem.dense.loss:+.3f} against dense",
            delta_color="inverse",
            border=True,
        )


def write_notes(notes: Notes, space: Workspace, config: PruneConfig, outcome: Outcome) -> None:
    """The live numbers under the controls."""
    problem = space.problem(config)
    dim, total = problem.parameters.num_prunable, len(problem.dataset.train)
    mask = outcome.mask
    ties = f" {mask.ties} share the threshold's exact value; the first of them stay." if mask.ties else ""
    notes.sparsity.caption(f"{mask.kept:,} of {dim:,} weights stay.{ties}")
    if not config.uses_gradients:
        unused = f"Not used: {get_method(config.method).label} without an update looks at no gradients."
        for slot in (notes.samples, notes.damping, notes.block):
            slot.caption(unused)
        return
    share = config.num_samples / total
    notes.samples.caption(
        f"{share:.1%} of the {total:,} training images. Their gradients are a {config.num_samples:,} × {dim:,} matrix, "
        f"{gib(4 * config.num_samples * dim)}."
    )
    curvature = float(space.context(config).fisher().diagonal.mean())
    notes.damping.caption(
        f"The mean of $F_{{jj}}$ is {curvature:.1e}; λ is {config.damping / curvature:.2g} times that."
        if curvature > 0
        else "All gradients are zero: only the damping is left."
    )
    blocks = space.blocks(config)
    side = "N×N" if config.num_samples < blocks.largest else "B×B"
    reach = "across layers" if config.block_size == BLOCK_NETWORK else "within layers"
    plural = "s" if blocks.count > 1 else ""
    notes.block.caption(
        f"{blocks.count:,} block{plural} of up to {blocks.largest:,} weights, {reach}. The largest is inverted through its "
        f"{side} matrix; dense, it would take {gib(4 * blocks.largest**2)}."
    )


def curve_sentence(table: pd.DataFrame, config: PruneConfig, problem: Problem) -> str:
    """What the accuracy curves say."""
    allowed = problem.dense.accuracy - 1.0
    parts = []
    for label, points in table.groupby("label", sort=False):
        good = points[points["accuracy"] >= allowed]["sparsity"]
        parts.append(f"{label} {good.max():.0%}" if len(good) else f"{label} none")
    return (
        "How far can each method go and lose at most one point? "
        + ", ".join(parts)
        + f". Bands: 95 % noise of the {len(problem.test):,} test images."
    )


def saliency_sentence(problem: Problem, config: PruneConfig, outcome: Outcome) -> str:
    """What the histograms say."""
    zeros = sum(zero_counts(problem.parameters, outcome.saliency).values())
    unit = get_method(config.method).unit
    text = "Weights left of the line go. "
    if config.scope is Scope.GLOBAL and math.isfinite(outcome.mask.thresholds[0]):
        text += f"The threshold is {outcome.mask.thresholds[0]:.1e} ({unit}) in every layer. "
    if unit == "nats":
        text += "The statistic is the loss the quadratic model expects from removing that weight alone. "
    text += f"Statistics more than {HISTOGRAM_DECADES} decades below the largest stand in the first bar. "
    if zeros:
        text += f"{zeros:,} weights have a statistic of exactly zero and are not drawn. "
    return text.strip()


def loss_sentence(change: LossChange, config: PruneConfig) -> str:
    """What prediction and measurement say."""
    if change.predicted_fisher_samples is None:
        return "Only measured: without gradients there is no quadratic model to predict from."
    text = ""
    if change.predicted_held_out is not None and change.measured_held_out is not None:
        predicted, measured = change.predicted_held_out.total, change.measured_held_out
        ratio = predicted / measured if measured > 0 else math.nan
        text = f"On held-out training images the model predicts {predicted:+.3f} nats, measured are {measured:+.3f}"
        if math.isfinite(ratio) and ratio > 0:
            text += f": {ratio:.0%} of it" if ratio <= 10 else f": {ratio:.0f} times too much"
        text += ". "
    text += "The Fisher's own samples flatter the prediction: fewer samples than weights can be fitted exactly."
    if change.damping_penalty is not None:
        text += (
            f" The damping adds a penalty of {change.damping_penalty:.2g} nats to the step, which is no part of this."
        )
    return text


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "not finite"


def line_sentence(points: pd.DataFrame, config: PruneConfig, magnitude: float) -> str:
    """What the damping slider shows."""
    best, worst = points.loc[points["accuracy"].idxmax()], points.loc[points["accuracy"].idxmin()]
    return (
        f"Drag the slider: with N = {config.num_samples:,} the accuracy at {config.sparsity:.0%} sparsity lies between "
        f"{worst['accuracy']:.1f} % (λ = {worst['damping']:.0e}) and {best['accuracy']:.1f} % (λ = {best['damping']:.0e}); "
        f"magnitude reaches {magnitude:.1f} %. The more damping, the more the ranking is that of magnitude."
    )


def plane_sentence(table: pd.DataFrame, config: PruneConfig, magnitude: float) -> str:
    """What the heat-map shows."""
    best = table.loc[table["accuracy"].idxmax()]
    counts = table["verdict"].value_counts()
    return (
        f"Of {len(table)} settings {counts.get('better', 0)} beat magnitude ({magnitude:.1f} %) beyond the noise of the test "
        f"set, {counts.get('worse', 0)} are worse (marked ×), {counts.get('equal', 0)} are equal within it. "
        f"Best: {best['accuracy']:.1f} % at N = {int(best['samples']):,}, λ = {best['damping']:.0e}. "
        "It is chosen on the test set here, so expect a little less elsewhere."
    )


def slice_sentence(table: pd.DataFrame, column: str) -> str:
    """What the slices show."""
    spread = table.groupby("samples")[column].agg(lambda values: values.max() - values.min())
    few, many = spread.index.min(), spread.index.max()
    return (
        f"Over all dampings the values spread by {spread[few]:.3g} at N = {few:,} and by {spread[many]:.3g} at "
        f"N = {many:,}: where the line is flat, the damping does not matter."
    )
