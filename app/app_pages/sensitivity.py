"""Sensitivity: how much do the Fisher's settings matter? WoodFisher over planes of one of them against the damping."""

import pandas as pd
import streamlit as st

from app import charts
from app.asking import agree, agreed, go_button, say
from app.explain import write_notes
from app.explain_plane import (
    fixed_sentence,
    held_out_sentence,
    line_sentence,
    plane_sentence,
    slice_sentence,
)
from app.filling import filled
from app.keeping import keep_plane_button
from app.opening import opened
from app.showing import Place, show
from app.state import DAMPINGS
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.plane import Plane, computed, damping_line
from woodfisher_core.methods import get_method
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, Axis, DampingScale

SAMPLES = (20, 50, 100, 200, 500, 1000)
BLOCKS = (1, 10, 100, 1000)
MINI_BATCHES = (1, 2, 5, 10, 20, 50)
# Whole decades of the control's dampings, without the lowest.
PLANE_DAMPINGS = {scale: tuple(float(d) for d in given[2::2]) for scale, given in DAMPINGS.items()}


def page() -> None:
    view, notes, space, status = opened(
        "How much do the Fisher's settings matter?",
        "WoodFisher has knobs nobody can set by theory: how many images its Fisher is estimated from, how much damping is added "
        "to it, which weights may interact. Every cell below is a pruned network, at the sparsity and with the update chosen on "
        "the left.",
        only="woodfisher",
    )
    config = view.config
    magnitude = space.evaluation(config.replace(method="magnitude", update=None, update_scale=1.0))
    if line(space, config, magnitude, status):
        write_notes(notes, space, view, space.outcome(config))
    status.caption("Computing the plane below …")
    whole = plane(space, config, magnitude)
    status.caption("Up to date." if whole else "Not everything below is computed yet.")


def line(space: Workspace, config: PruneConfig, magnitude: Evaluation, status) -> bool:
    """The statistic along a line of dampings; whether it could be drawn."""
    dampings = tuple(float(damping) for damping in DAMPINGS[config.damping_scale])
    points = [config.replace(damping=damping, held_out=0) for damping in dampings]
    price = cost.predict_points(space, [point for point in points if not space.has_evaluation(point)])
    settings = ("line", config.replace(sparsity=0.5, pattern=None, damping=1.0, scope="global"), config.pattern)
    if not agreed(price, settings):
        say(f"The histogram at {len(points)} dampings needs", price, config.num_samples, f"{len(points)} joint updates")
        go_button("Compute it", "compute-line", agree, settings)
        return False

    def progress(phase: str, done: int, total: int) -> None:
        status.progress(
            done / total, text=f"{phase}: {done:,} of {total:,}. Changing a control stops here and keeps these."
        )

    bins, table = damping_line(space, config, dampings, progress)
    relative = config.damping_scale is DampingScale.RELATIVE
    figure = charts.damping_frames(bins, table, get_method(config.method).unit, relative)
    show(figure, line_sentence(table, config, magnitude.accuracy), "frames")
    return True


def plane(space: Workspace, config: PruneConfig, magnitude: Evaluation) -> bool:
    """The plane, its slices and its numbers; whether all of it is computed."""
    axis = Axis(
        st.segmented_control(
            "What varies against the damping",
            [a.value for a in Axis],
            default=Axis.SAMPLES.value,
            required=True,
            help="\n\n".join(f"**{a.value}**: {a.help}" for a in Axis),
            key="vary",
            bind="query-params",
        )
    )
    chosen = st.segmented_control(
        "What to draw over the plane",
        list(charts.MEASURES),
        default="accuracy",
        required=True,
        help="Overlap and rank correlation are with your setting on the left, outlined where it lies on the plane.",
        key="measure",
        bind="query-params",
    )
    values, dampings = axis_values(space, config, axis), PLANE_DAMPINGS[config.damping_scale]
    drawn, measure = charts.AXES[axis], charts.MEASURES[chosen]
    levels = measure_levels(space, config, magnitude).get(chosen)
    words = [fixed_sentence(axis, values, config, space)]
    if "loss" in chosen:
        words.append(held_out_sentence(axis, values, config, space))
    if chosen == "predicted loss":
        words.append("The colours are those of the measured loss, so that what the model misses is seen.")
    st.caption(" ".join(words))
    relative = config.damping_scale is DampingScale.RELATIVE
    at_damping = next((d for d in dampings if abs(config.damping / d - 1) < 1e-6), None)
    own = getattr(config, axis.field)
    reference = (own, at_damping) if own in values and at_damping is not None else None
    wanted = Plane(config, axis, values, dampings)
    controls_row = st.container()
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        map_place = Place()
    with grid.cell():
        slices_place = Place()

    def draw(table: pd.DataFrame, key: str) -> None:
        figure = charts.heat_map(table, drawn, measure, levels, reference, relative)
        map_place.show(
            figure, plane_sentence(table, drawn, config, magnitude.accuracy, reference is not None), f"plane-{key}"
        )
        level = levels if chosen == "accuracy" else None
        figure = charts.slices(table, drawn, measure, level, relative)
        slices_place.show(figure, slice_sentence(table, drawn, measure), f"slices-{key}")

    with controls_row:
        table = filled(space, wanted, draw)
    done = computed(table)
    with st.expander("The numbers", icon=":material/table:"):
        st.dataframe(done, hide_index=True)
        st.download_button("plane.csv", done.to_csv(index=False), "plane.csv", "text/csv", on_click="ignore")
    if len(done) == len(table):
        keep_plane_button(wanted)
    return len(done) == len(table)


def axis_values(space: Workspace, config: PruneConfig, axis: Axis) -> tuple[int | str, ...]:
    """The values drawn on ``axis``, as far as the network and its data allow them."""
    problem = space.problem(config)
    total = config.images or len(problem.dataset.train)
    if axis is Axis.SAMPLES:
        return tuple(count for count in SAMPLES if count * config.mini_batch <= total)
    if axis is Axis.BLOCK:
        sizes = tuple(size for size in BLOCKS if size < problem.parameters.num_prunable)
        return (*sizes, BLOCK_LAYER, BLOCK_NETWORK)
    return tuple(size for size in MINI_BATCHES if config.num_samples * size <= total)


def measure_levels(space: Workspace, config: PruneConfig, magnitude: Evaluation) -> dict[str, charts.Levels]:
    """What magnitude and the dense network reach in each measure that they have."""
    levels = {"accuracy": charts.Levels(magnitude.accuracy, space.problem(config).dense.accuracy)}
    loss = space.held_out_change(config.replace(method="magnitude", update=None, update_scale=1.0))[1]
    if loss is not None:
        levels |= dict.fromkeys(("predicted loss", "measured loss"), charts.Levels(loss, 0.0))
    return levels


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
