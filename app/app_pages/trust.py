"""Trust: where does the quadratic model stop being true? Its predictions beside what is measured, and what it is made of."""

import dataclasses

import numpy as np
import pandas as pd
import streamlit as st

from app import charts
from app.asking import agree, agreed, go_button, say
from app.binding import bound
from app.charts.symlog import SymLog
from app.explain import write_notes
from app.explain_trust import (
    PREDICTORS,
    finding,
    fisher_sentence,
    growth_sentence,
    hessian_sentence,
    path_sentence,
    removal_sentence,
    spectrum_sentence,
)
from app.opening import opened
from app.repeating import repeat
from app.showing import show
from app.state import DAMPINGS
from app.telling import telling
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace, cost, removals, trust
from woodfisher_core.experiments.curvatures import block_curvatures
from woodfisher_core.experiments.held_out import one_step
from woodfisher_core.experiments.spectrum import effective_directions, spectrum
from woodfisher_core.options import Update

WEIGHTS = (50, 100, 200, 400)
IMAGES = (100, 300, 1000)
BLOCK_SIZES = (10, 25, 50)
# Networks with more weights start with fewer single weights and images.
LARGE = 100_000
# Images of the Hessian of a block on such networks: its products take far longer than a gradient.
LARGE_IMAGES = 100
REMOVALS = {
    removals.ALONE: "One weight goes alone: is it foreseen?",
    removals.COMPENSATED: "The others make up for it: is it foreseen?",
}


def page() -> None:
    view, notes, space, status = opened(
        "Where does the quadratic model stop being true?",
        "Second-order pruning replaces the loss by a parabola around the trained weights, "
        r"$L(w+\delta)-L(w)\approx g^\top\delta+\tfrac12\delta^\top F\delta$, takes its slope $g$ for zero, and trusts it "
        "to rank the weights and to move the survivors. Here each prediction stands beside what really happens, on images the "
        "Fisher has not seen.",
        only="woodfisher",
    )
    head = st.container(key="headline")
    large = space.problem(view.config).parameters.num_prunable > LARGE
    by, count, images, updates = controls(large)
    config = one_step(view.config).replace(held_out=images)
    if config != view.config.replace(held_out=images):
        st.caption("Here everything goes in one step from the dense network, whose BatchNorm statistics stay.")
    updates = [update for update in Update if update.value in updates or update is config.update]
    ask(space, config, count, updates)

    progress = telling(status, lambda phase, done, total: f"{phase}: {done:,} of {total:,}")
    status.caption("Computing …")
    outcome = space.outcome(config, progress=progress)
    path = trust.step_path(space, config, progress)
    table = removals.single_removals(space, config, count, progress)
    keep = outcome.mask.keep.cpu().numpy()
    table = table.assign(kept=keep[table["position"]])
    head.markdown(finding(path, table, config, outcome.mask.sparsity))
    scatters(table, by)
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        show(charts.step_path(path), path_sentence(path), "path", path)
    with grid.cell():
        grown = trust.growth(space, config, updates, progress=progress)
        current = None if config.pattern else outcome.mask.sparsity
        show(charts.loss_growth(grown, current), growth_sentence(grown), "growth", grown)
    eigenvalues(space, config)
    block(space, config, large)
    write_notes(notes, space, view, space.outcome(view.config))
    repeat(view.config)
    status.caption("Up to date.")


def controls(large: bool) -> tuple[str, int, int, list[str]]:
    """(what predicts, single weights removed, held-out images, updates followed over the sparsity)."""
    by = st.segmented_control(
        "What foresees a single weight's loss",
        list(PREDICTORS),
        default="parabola",
        required=True,
        help="\n\n".join(f"**{name}**: {text}" for name, (_, _, text) in PREDICTORS.items()),
        **bound("trust-by"),
    )
    with st.container(horizontal=True):
        count = st.segmented_control(
            "Single weights tried",
            WEIGHTS,
            default=50 if large else 200,
            required=True,
            help="Drawn by the seed, one from each of as many equal parts of the statistic's order. Each is two networks more.",
            **bound("trust-weights"),
        )
        images = st.segmented_control(
            "Held-out images",
            IMAGES,
            default=100 if large else 300,
            required=True,
            help="At most so many training images that the Fisher has not seen: losses are predicted and measured on them. With "
            "few, they stay nearly the same whatever the Fisher samples N.",
            **bound("trust-images"),
        )
        updates = st.segmented_control(
            "Updates followed over the sparsity",
            [update.value for update in Update],
            selection_mode="multi",
            default=[Update.NONE.value, Update.INDEPENDENT.value],
            help="In the chart over the sparsity; your setting's own is always there. The joint one solves a system at each "
            "sparsity.",
            **bound("trust-updates"),
        )
    return by, int(count), int(images), updates


def ask(space: Workspace, config: PruneConfig, count: int, updates: list[Update]) -> None:
    """Says what the page costs where that is long, and stops it until the click."""
    images = trust.networks_to_run(space, config, count, updates)
    if not images:
        return
    configs = [config.replace(update=update, update_scale=1.0, pattern=None, sparsity=0.5) for update in updates]
    # Losses alone are measured here, none of the accuracies that a curve costs.
    price = dataclasses.replace(
        cost.predict(space, configs, trust.SPARSITIES), networks=images * trust.seconds_an_image(space, config)
    )
    settings = (
        "trust",
        config.replace(sparsity=0.5, pattern=None, damping=1.0, update=Update.NONE, update_scale=1.0),
        count,
    )
    if not agreed(price, settings):
        say("This page needs", price, config.num_samples, f"joint updates at {len(trust.SPARSITIES)} sparsities")
        go_button("Compute it", "compute-trust", agree, settings)
        st.stop()


def scatters(table: pd.DataFrame, by: str) -> None:
    """Both kinds of removal on the same axes."""
    column, name, _ = PREDICTORS[by]
    both = table[[column, "measured"]].to_numpy(dtype=float)
    scale, ends = SymLog.of(both), (float(both.min()), float(both.max()))
    grid = st.grid(2, min_column_width=440)
    for removal, title in REMOVALS.items():
        part = table[table["removal"] == removal]
        with grid.cell():
            figure = charts.predicted_measured(part, column, name, title, scale, ends)
            show(figure, removal_sentence(part, by), f"removal-{removal}", part)


def eigenvalues(space: Workspace, config: PruneConfig) -> None:
    """The spectrum with the damping drawn in."""
    try:
        table = spectrum(space, config)
    except WoodFisherError as error:
        st.warning(str(error), icon=":material/warning:")
        return
    total, damping = space.problem(config).parameters.num_prunable, space.damping(config)
    unit = damping / config.damping  # of a relative damping
    dampings = sorted({*(unit * float(given) for given in DAMPINGS[config.damping_scale]), damping})
    figure = charts.spectrum_frames(table, effective_directions(table, dampings), total, damping)
    words = spectrum_sentence(table, effective_directions(table, [damping]), total, config, damping)
    show(figure, words, "spectrum", table)


def block(space: Workspace, config: PruneConfig, large: bool) -> None:
    """Fisher against Hessian for some weights of one layer."""
    st.subheader("What stands in for the Hessian")
    layers = [layer.module for layer in space.problem(config).parameters.layers]
    with st.container(horizontal=True):
        layer = st.selectbox("Layer", layers, index=len(layers) // 2, width=260, **bound("trust-layer"))
        size = st.segmented_control(
            "Weights",
            BLOCK_SIZES,
            default=25,
            required=True,
            help="Consecutive weights of that layer.",
            **bound("trust-block"),
        )
        place = st.slider(
            "From where in the layer",
            0.0,
            1.0,
            0.0,
            0.05,
            help="0: the layer's first weights, 1: its last.",
            width=260,
            **bound("trust-place"),
        )
    found = block_curvatures(space, config, layer, int(size), float(place), LARGE_IMAGES if large else None)
    scale = charts.curvature_scale(found.hessian, found.true, found.sampled)
    grid = st.grid(3, min_column_width=300)
    for key, matrix, title, words in (
        ("hessian", found.hessian, "What is the Hessian?", hessian_sentence(found)),
        ("true", found.true, "Is the empirical Fisher like it?", fisher_sentence(found.true, found, "true")),
        ("sampled", found.sampled, "Is the true Fisher like it?", fisher_sentence(found.sampled, found, "sampled")),
    ):
        table = pd.DataFrame(matrix, columns=[str(p) for p in found.positions])
        table.insert(0, "weight", np.asarray(found.positions))
        with grid.cell():
            show(charts.curvature_map(matrix, found.positions, scale, title), words, f"block-{key}", table)
    st.caption("All three share one colour scale: linear within a hundredth of the largest entry, logarithmic beyond.")


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
