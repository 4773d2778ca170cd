"""The sentences of the Trust page: every number in them comes from the runs on the page."""

import math

import numpy as np
import pandas as pd

from app.charts.damping import power
from app.charts.style import UPDATE_NAMES
from app.words import number, share
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.agreement import FACTOR, MATTERS, agreement, trusted_until
from woodfisher_core.experiments.curvatures import BlockCurvatures, likeness
from woodfisher_core.experiments.removals import ALONE
from woodfisher_core.experiments.trust import FISHER_SAMPLES, HELD_OUT

# What may foresee the loss change of a removed weight: column, what its axis is called, its help.
PREDICTORS = {
    "parabola": (
        "predicted",
        "gᵀδ + ½δᵀFδ",
        r"$g^\top\delta+\tfrac12\delta^\top F\delta$ with gradients of the held-out images themselves, without damping.",
    ),
    "second order": (
        "second_order",
        "½δᵀFδ",
        r"$\tfrac12\delta^\top F\delta$ alone, as if the network stood at a minimum: the assumption behind OBS.",
    ),
    "statistic": (
        "statistic",
        "statistic ½w²/[F⁻¹]ⱼⱼ",
        r"$\tfrac12w_j^2/[F^{-1}]_{jj}$, what WoodFisher ranks by: from the Fisher's own images, damping included.",
    ),
    "magnitude": (
        "magnitude",
        "magnitude ½w² · mean Fⱼⱼ",
        r"$\tfrac12w_j^2$ times the mean curvature: it ranks as magnitude does, the baseline.",
    ),
}


def signed(nats: float) -> str:
    """``+0.436`` or ``−1.2·10⁻⁵``."""
    return number(nats, "+.3f" if abs(nats) >= 0.01 or nats == 0 else "+.2g")


def times(ratio: float) -> str:
    """``6.3 times``."""
    return f"{ratio:.2g} times" if ratio < 99.5 else f"{ratio:,.0f} times"


def verdict(predicted: float, measured: float) -> str:
    """How far a prediction is from what was measured."""
    if abs(predicted) < MATTERS and abs(measured) < MATTERS:
        return f"both below {MATTERS:g} nats, too small to matter"
    if predicted * measured <= 0:
        return "not even the sign is right"
    ratio = measured / predicted
    if 1.0 / FACTOR <= ratio <= FACTOR:
        return f"within a factor of {FACTOR:g}"
    return f"{times(ratio)} as much" if ratio > 1 else f"only {share(ratio)} of it"


def finding(path: pd.DataFrame, removals: pd.DataFrame, config: PruneConfig, removed: float) -> str:
    """The page's finding in one paragraph; ``removed`` is the sparsity reached."""
    if removed == 0:
        return "At sparsity 0 nothing is removed: there is no step to predict. Raise the sparsity in the sidebar."
    end = path[(path["samples"] == HELD_OUT) & (path["t"] == 1.0)].iloc[0]
    words = [
        f"At sparsity {share(removed, 1)} ({UPDATE_NAMES[config.update.value]}) the quadratic model foresees "
        f"**{signed(end['predicted'])} nats** on held-out images; measured are **{signed(end['measured'])}**: "
        f"{verdict(end['predicted'], end['measured'])}."
    ]
    if math.isfinite(end["hessian"]):
        words.append(
            f"With the exact Hessian in the Fisher's place it would foresee {signed(end['hessian'])}; what is still missing "
            "no parabola around the dense weights can tell."
        )
    alone = removals[removals["removal"] == ALONE]
    ranks = {column: _rank(alone, column) for column in ("predicted", "statistic", "magnitude")}
    words.append(
        "Which single weights matter, with nothing to make up for them: the parabola with its slope ranks them at "
        f"**{ranks['predicted']}** (rank correlation with the measured change), the statistic that pruning goes by, which takes "
        f"the slope for zero, at **{ranks['statistic']}**, magnitude at {ranks['magnitude']}."
    )
    return " ".join(words)


def _rank(table: pd.DataFrame, column: str) -> str:
    """Its rank correlation with the measured change."""
    return number(agreement(table[column], table["measured"]).rank, ".2f")


def removal_sentence(table: pd.DataFrame, predictor: str) -> str:
    """What the scatter of one kind of removal shows, and how the other predictors would do."""
    column = PREDICTORS[predictor][0]
    found = agreement(table[column], table["measured"])
    ranked = ", ".join(f"{name} {_rank(table, other)}" for name, (other, _, _) in PREDICTORS.items())
    return (
        f"Each point is one of {len(table):,} weights, drawn evenly over the statistic's order. The {predictor} is within a "
        f"factor of {FACTOR:g} for {share(found.within)} of them and has the wrong sign for {share(found.wrong_sign)}; where "
        f"the sign is right the measured change is {times(found.ratio)} the predicted one (median). Rank correlation with the "
        f"measured change: {ranked}."
    )


def path_sentence(path: pd.DataFrame) -> str:
    """Up to where along the step the parabola is true, on either set of samples."""
    words = []
    for samples in (HELD_OUT, FISHER_SAMPLES):
        part = path[(path["samples"] == samples) & (path["t"] > 0)]
        end = part[part["t"] == 1.0].iloc[0]
        words.append(
            f"On {samples} {_until(part['t'], part, lambda t: f't = {t:.2f}')}; at t = 1 it foresees "
            f"{signed(end['predicted'])}, measured are {signed(end['measured'])}."
        )
    end = path[(path["samples"] == HELD_OUT) & (path["t"] == 1.0)].iloc[0]
    words.append(f"Magnitude's own step costs {signed(end['magnitude'])}.")
    return " ".join(words)


def growth_sentence(table: pd.DataFrame) -> str:
    """Up to which sparsity each update's prediction is true."""
    words = []
    for update, part in table[table["method"] == "woodfisher"].groupby("update", sort=False):
        words.append(f"{UPDATE_NAMES[update]}: {_until(part['sparsity'], part, share)}")
    own = table["method"] == "woodfisher"  # of the baseline the measured change alone is drawn
    hidden = int((table["measured"] <= 0).sum() + (table["predicted"][own] <= 0).sum())
    unseen = f" Not on the logarithmic axis, being zero or less: {hidden}." if hidden else ""
    return (
        "; ".join(words).capitalize()
        + f". Changes below {MATTERS:g} nats are not judged.{unseen} Dotted lines below solid "
        "ones: the model is too hopeful."
    )


def _until(where: pd.Series, part: pd.DataFrame, written) -> str:
    last, broken = trusted_until(where, part["predicted"], part["measured"])
    if broken is None:
        return "nothing to judge" if last is None else f"within a factor of {FACTOR:g} all the way"
    if last is None:
        return f"off by more than a factor of {FACTOR:g} already at {written(broken)}"
    return f"within a factor of {FACTOR:g} up to {written(last)}, no longer at {written(broken)}"


def spectrum_sentence(
    table: pd.DataFrame, directions: pd.DataFrame, total: int, config: PruneConfig, damping: float
) -> str:
    """How many directions are known, and how many the damping leaves; ``directions`` has one row, at ``damping``."""
    known, row = len(table), directions.iloc[0]
    zero = (
        f"the other {total - known:,} are flat as far as {config.num_samples:,} gradients can tell"
        if known < total
        else "none is flat"
    )
    return (
        f"Of {total:,} directions of weight space {known:,} have an eigenvalue above zero; {zero}. At your λ = {power(damping)}, "
        f"{int(row['above']):,} eigenvalues lie above the line, and Σσ/(σ+λ) = {row['effective']:,.0f} directions are left to "
        "the Fisher: in all others the damping decides, as magnitude would. Drag the slider to move it."
    )


def hessian_sentence(block: BlockCurvatures) -> str:
    """What the exact Hessian of the block is like."""
    values = np.linalg.eigvalsh(block.hessian)
    rounding = 1e-10 * max(abs(values[0]), abs(values[-1]))
    negative = int((values < -rounding).sum())
    return (
        f"The truth: second derivatives on {block.num_images:,} images. {negative} of its {len(values)} eigenvalues "
        f"{'is' if negative == 1 else 'are'} negative; the largest is {values[-1]:.2g}."
    )


def fisher_sentence(matrix: np.ndarray, block: BlockCurvatures, labels: str) -> str:
    """How like the block's Hessian a Fisher of it is."""
    found = likeness(matrix, block.hessian)
    if not math.isfinite(found.cosine):
        return "All entries of it or of the Hessian are zero: nothing to compare."
    size = times(found.size) if found.size >= 1 else share(found.size)
    return (
        f"Labels {labels}: cosine with the Hessian {found.cosine:.2f}, correlation of the entries {found.correlation:.2f}, "
        f"and {size} its size (Frobenius norm)."
    )
