"""Compensate: what do the survivors do? Two weights, one removed weight, and all of them together."""

import dataclasses

import numpy as np
import streamlit as st

from app import charts
from app.asking import agree, agreed, ask_before_long_work, go_button, say
from app.binding import bound
from app.charts.style import UPDATE_NAMES
from app.charts.two_weights import TO_OBD
from app.explain import write_notes
from app.explain_compensate import (
    agreement_sentence,
    effects_sentence,
    headline,
    layers_sentence,
    pair_sentence,
    removal_words,
    saved_sentence,
    survivors_sentence,
    two_weights_sentence,
)
from app.opening import opened
from app.repeating import repeat
from app.showing import show
from app.telling import telling
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.compensation import Removal, Which, choose, removal
from woodfisher_core.experiments.pair_surface import extent, has_surface, pair_of, surface, surface_seconds
from woodfisher_core.experiments.two_weights import TwoWeights, contour_set, over_correlations, places
from woodfisher_core.experiments.update_effects import (
    agreement,
    anybody_moves,
    best_scale,
    effects_now,
    has_effects,
    layer_moves,
    survivor_moves,
    update_configs,
    update_effects,
)
from woodfisher_core.experiments.weights import weight_name

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# The two-weight example: magnitude would remove the second one.
EXAMPLE = (1.0, 0.7)
RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CORRELATIONS = tuple(round(float(rho), 2) for rho in np.linspace(-0.95, 0.95, 39))
START = 0.8


def page() -> None:
    view, notes, space, status = opened(
        "What do the survivors do?",
        "A removed weight leaves a hole that others can fill: where two weights pull the loss alike, one can take over from the "
        "other. **OBD** removes and leaves the rest; **OBS** removes and moves the rest to where the loss is lowest.",
        only="woodfisher",
    )
    top = st.container(key="finding")
    st.subheader("Two weights")
    pair_grid = st.grid(2, min_column_width=440)
    with pair_grid.cell():
        example()
    with pair_grid.cell():
        real_pair = st.container()
    # Stages would give each update masks of its own.
    config = view.config.replace(stages=1)
    line = config.replace(pattern=None, sparsity=0.8) if config.pattern else config
    known = has_effects(space, line, SPARSITIES)
    announced = ask_before_long_work(space, list(update_configs(line).values()), () if known else SPARSITIES)

    progress = telling(status, lambda phase, done, total: f"{announced} {phase}: {done:,} of {total:,}")
    status.caption(announced)
    outcome = space.outcome(config.replace(update="none", update_scale=1.0), progress=progress)
    st.subheader("One removed weight")
    found = one_weight(space, config, outcome.mask.sparsity)
    with real_pair:
        done = pair(space, config, found, progress)
    st.subheader("All of them together")
    if view.config.stages > 1:
        st.caption("In one stage here, so that all updates share one mask.")
    now = effects_now(space, config)
    magnitude = space.evaluation(config.replace(method="magnitude", update=None, update_scale=1.0))
    with top:
        st.markdown(headline(now, outcome.mask.kept, space.problem(config).dense.accuracy, magnitude.accuracy))
    together(space, config, line, outcome.mask.sparsity, progress)
    write_notes(notes, space, dataclasses.replace(view, config=config), outcome)
    repeat(view.config)
    status.caption("Up to date." if done else "Not everything below is computed yet.")


def example() -> None:
    """The quadratic loss over two weights, with its own slider of the correlation."""
    left, right = st.columns(2)
    ratio = left.select_slider(
        "Curvature of w₂ over that of w₁",
        RATIOS,
        4.0,
        help=r"$F=\begin{pmatrix}a&c\\c&b\end{pmatrix}$ with $a=1$, this is $b/a$; $c=\rho\sqrt{ab}$.",
        **bound("ratio"),
    )
    removed = right.segmented_control(
        "Which one goes",
        ("w1", "w2"),
        default="w1",
        required=True,
        help=r"Removing $w_q$: OBD costs $\tfrac12w_q^2F_{qq}$, OBS $\tfrac12w_q^2/[F^{-1}]_{qq}=\tfrac12w_q^2F_{qq}(1-\rho^2)$.",
        **bound("drop"),
    )
    which = 1 if removed == "w1" else 2
    figure, spots = example_figure(float(ratio), which)
    shown = TwoWeights(*EXAMPLE, a=1.0, b=float(ratio), c=0.0).correlated(START)
    show(figure, two_weights_sentence(shown, which), "two-weights", data=spots)


@st.cache_resource(max_entries=2 * len(RATIOS), show_spinner=False)
def example_figure(ratio: float, removed: int):
    """(the example's figure, what it is drawn from), the same for all; never changed."""
    plain = TwoWeights(*EXAMPLE, a=1.0, b=ratio, c=0.0)
    spots, rings = over_correlations(plain, removed, CORRELATIONS)
    return charts.two_weights_frames(spots, rings, START, removed), spots


def one_weight(space: Workspace, config: PruneConfig, sparsity: float) -> Removal:
    """The controls that choose a weight, and what the others do when it goes alone."""
    total = space.problem(config).parameters.num_prunable
    left, right = st.columns([2, 1])
    which = Which(
        left.segmented_control(
            "Which weight",
            [one.value for one in Which],
            default=Which.HELPED.value,
            required=True,
            help="Of those that go at your sparsity. "
            + " ".join(f"**{one.label}**: {one.help}, ${one.equation}$." for one in Which)
            + r" The others move by $\delta_i=-w_q\,[F^{-1}]_{iq}/[F^{-1}]_{qq}$.",
            **bound("q"),
        )
    )
    if st.session_state.get("weight", 0) >= total:  # a number of a larger network
        st.session_state["weight"] = 0
    number = right.number_input(
        "Number of the weight",
        0,
        total - 1,
        0,
        disabled=which is not Which.NUMBER,
        help="Its position among all prunable weights, layer after layer.",
        **bound("weight"),
    )
    found = removal(space, config, choose(space, config, which, int(number)))
    st.markdown(removal_words(found, total, sparsity))
    if found.survivors.empty:  # bars of nothing would be drawn as large as any
        st.caption(f"{survivors_sentence(found)} {saved_sentence(found)}")
        return found
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        figure = charts.survivors_that_move(found.survivors, found.name)
        show(figure, survivors_sentence(found), "movers", data=found.survivors)
    with grid.cell():
        show(charts.with_and_without(found.changes), saved_sentence(found), "saved", data=found.changes)
    return found


def pair(space: Workspace, config: PruneConfig, found: Removal, progress) -> bool:
    """The chosen weight and the survivor most correlated with it; whether its surface is drawn."""
    st.caption("The same for the weight chosen below and the survivor that is most correlated with it.")
    if found.partner is None or found.survivors.empty:
        st.info(f"No survivor is correlated with {found.name}, or it is next to nothing: there is no pair to draw.")
        return True
    first, second = found.index, found.partner
    two = pair_of(space, config, first, second)
    names = (found.name, weight_name(space.problem(config).parameters, second))
    measured, done = None, True
    price = cost.Cost(
        networks=0.0 if has_surface(space, config, first, second) else surface_seconds(space, config, first, second)
    )
    settings = ("surface", config.model, config.dataset, config.device)
    if agreed(price, settings):
        measured = surface(space, config, first, second, progress)
    else:
        say("Measuring the loss around this pair takes", price, config.num_samples, "")
        go_button("Measure it", "measure-pair", agree, settings)
        done = False
    spots = places(two, 1) if measured is None else measured.places
    level = two.removals()["obd"].iloc[0] / TO_OBD
    rings = contour_set(two, 1, [step / TO_OBD for step in range(1, charts.CONTOURS + 1)])
    figure = charts.pair_plane(spots, rings, None if measured is None else measured.grid, names, extent(two), level)
    table = spots if measured is None else measured.grid
    show(figure, pair_sentence(two, found, names[1], measured, asked=not done), "pair", data=table)
    return done


def together(space: Workspace, config: PruneConfig, line: PruneConfig, sparsity: float, progress) -> None:
    """All that goes at once: the updates over sparsities, against each other, and by layer."""
    what = st.segmented_control(
        "What to draw over the sparsity",
        list(charts.EFFECTS),
        default="accuracy",
        required=True,
        help="Test accuracy, the change of the loss on held-out training images, or how far the survivors move for their size.",
        **bound("effect"),
    )
    grid = st.grid(2, min_column_width=440)
    curves_cell = grid.cell()  # filled after what is quicker
    moves = survivor_moves(space, config)
    if anybody_moves(moves):
        with grid.cell():
            words = agreement_sentence(agreement(moves), best_scale(space, config))
            show(charts.independent_against_joint(moves), words, "agreement", data=moves)
        with grid.cell():
            table = layer_moves(moves)
            show(charts.layer_moves(table), layers_sentence(table), "layer-moves", data=table)
    else:
        with grid.cell():
            st.caption(agreement_sentence(None, None))
    effects = update_effects(space, line, SPARSITIES, progress)
    with curves_cell:
        if missing := [UPDATE_NAMES[name] for name in update_configs(line) if name not in set(effects["update"])]:
            st.warning(
                f"Left out: {', '.join(missing)}. At this damping the quadratic model cannot be inverted; take a larger one.",
                icon=":material/warning:",
            )
        dense = space.problem(config).dense.accuracy
        words = effects_sentence(effects, what)
        show(charts.update_effects(effects, what, dense, sparsity), words, "effects", data=effects)


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
