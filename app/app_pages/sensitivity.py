"""Sensitivity: how much do the Fisher's settings matter? WoodFisher over planes of one of them against the damping."""

import pandas as pd
import streamlit as st

from app import charts
from app.asking import agree, agreed, go_button, say
from app.binding import bound
from app.explain import write_notes
from app.explain_plane import (
    between_sentence,
    fixed_sentence,
    held_out_sentence,
    line_sentence,
    plane_sentence,
    scale_sentence,
    seeds_sentence,
    slice_sentence,
)
from app.filling import filled
from app.keeping import keep_plane_button
from app.opening import opened
from app.plane_choices import PLANE_DAMPINGS, axis_values, measure_levels, own_cell
from app.repeating import repeat
from app.showing import Place, show
from app.state import DAMPINGS
from app.telling import telling
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.plane import Plane, computed, damping_line
from woodfisher_core.experiments.rankings import chance_overlap
from woodfisher_core.experiments.spread import over_seeds
from woodfisher_core.methods import get_method
from woodfisher_core.options import Axis, DampingScale, Update

SEEDS = (1, 3, 5, 10)
MOST_SEED = 2**32 - 1


def page() -> None:
    view, notes, space, status = opened(
        "How much do the Fisher's settings matter?",
        "WoodFisher has knobs nobody can set by theory: how many images its Fisher is estimated from, how much damping is added "
        "to it, which weights may interact. Every cell below is a pruned network, at the sparsity and with the update chosen in "
        "the sidebar.",
        only="woodfisher",
    )
    config = view.config
    magnitude = space.evaluation(config.replace(method="magnitude", update=None, update_scale=1.0))
    if line(space, config, magnitude, status):
        write_notes(notes, space, view, space.outcome(config))
    status.caption("Computing the plane below …")
    whole = plane(space, config, magnitude)
    repeat(view.config)
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

    progress = telling(
        status,
        lambda phase, done, total: f"{phase}: {done:,} of {total:,}. Changing a control stops here and keeps these.",
    )

    bins, table = damping_line(space, config, dampings, progress)
    relative = config.damping_scale is DampingScale.RELATIVE
    figure = charts.damping_frames(bins, table, get_method(config.method).unit, relative, config.damping)
    show(figure, line_sentence(table, config, magnitude.accuracy), "frames", bins)
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
            **bound("vary"),
        )
    )
    seeds = seeds_control(config)
    chosen, colours, along = look_controls(len(seeds))
    if axis is Axis.UPDATE_SCALE and config.update is not Update.INDEPENDENT:
        st.info(scale_sentence(config), icon=":material/info:")
        return True
    values, dampings = axis_values(space, config, axis), PLANE_DAMPINGS[config.damping_scale]
    drawn, measure = charts.AXES[axis], charts.MEASURES[chosen]
    levels = measure_levels(space, config, magnitude).get(chosen)
    chance = chance_overlap(config.sparsity)
    words = [fixed_sentence(axis, values, config, space)]
    if "loss" in chosen:
        words.append(held_out_sentence(axis, values, config, space, len(seeds)))
    if "overlap" in chosen:
        words.append(f"Two masks drawn at random would share {chance:.2f}.")
    if chosen == "predicted loss":
        words.append("The colours are those of the measured loss, so that what the model misses is seen.")
    st.caption(" ".join(words))
    relative = config.damping_scale is DampingScale.RELATIVE
    reference = own_cell(config, axis, values, dampings)
    wanted = Plane(config, axis, values, dampings, seeds)
    controls_row, seeds_place = st.container(), st.empty()
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        map_place = Place()
    with grid.cell():
        slices_place = Place()

    def draw(runs: pd.DataFrame, key: str) -> None:
        cells = over_seeds(runs, drawn.column)
        if len(seeds) > 1:
            noise = seeds_sentence(cells, drawn, config, magnitude.num_samples)
            seeds_place.markdown(f"{noise}\n\n{between_sentence(cells, drawn, config, chance)}")
        figure = charts.heat_map(cells, drawn, measure, levels, reference, relative, colours)
        outlined = reference is not None
        sentence = plane_sentence(cells, drawn, config, magnitude.accuracy, outlined, len(seeds), measure)
        map_place.show(figure, sentence, f"plane-{key}", data=cells)
        level, dots = levels if chosen == "accuracy" else None, runs if len(seeds) > 1 else None
        figure = charts.slices(cells, drawn, measure, level, relative, dots, along)
        sentence = slice_sentence(cells, drawn, measure, along, dots is not None and not measure.paired)
        slices_place.show(figure, sentence, f"slices-{key}", data=runs)

    with controls_row:
        table = filled(space, wanted, draw)
    done = computed(table)
    with st.expander("The numbers", icon=":material/table:"):
        st.dataframe(done, hide_index=True)
        st.download_button("plane.csv", done.to_csv(index=False), "plane.csv", "text/csv", on_click="ignore")
    if len(done) == len(table):
        keep_plane_button(wanted)
    return len(done) == len(table)


def seeds_control(config: PruneConfig) -> tuple[int, ...]:
    """The seeds drawn: the one in the sidebar and those after it."""
    count = st.segmented_control(
        "Seeds",
        SEEDS,
        default=1,
        required=True,
        help=f"Another seed draws other images for the Fisher. From your seed, {config.seed}, on, so many are run in every cell; "
        r"it shows their mean and their standard deviation, $\sqrt{\tfrac1{n-1}\sum_i(a_i-\bar a)^2}$. So many times the work.",
        **bound("draws"),
    )
    return tuple((config.seed + place) % (MOST_SEED + 1) for place in range(count))


def look_controls(seeds: int) -> tuple[str, str, str]:
    """(the measure drawn, what its colours show, what the slices run along)."""
    measures = [name for name, measure in charts.MEASURES.items() if seeds > 1 or not measure.paired]
    fit("measure", measures, "accuracy")
    chosen = st.segmented_control(
        "What to draw over the plane",
        measures,
        default="accuracy",
        required=True,
        help="Overlap and rank correlation are with your setting in the sidebar at the same seed, outlined where it lies on the "
        r"plane; overlap is $J=\frac{|K_a\cap K_b|}{|K_a\cup K_b|}$ of the kept sets. Of several seeds also between each two of "
        "them at the same setting.",
        **bound("measure"),
    )
    with st.container(horizontal=True):
        colours = charts.COLOURS[0]
        if seeds > 1 and not charts.MEASURES[chosen].paired:
            colours = st.segmented_control(
                "The colours show",
                charts.COLOURS,
                default=charts.COLOURS[0],
                required=True,
                help="The mean over the seeds, or how far they lie apart (standard deviation).",
                **bound("colours"),
            )
        along = st.segmented_control(
            "The lines run along",
            charts.ALONG,
            default=charts.ALONG[0],
            required=True,
            help="What lies on the horizontal axis of the second chart; the other of the two has a line for each value.",
            **bound("along"),
        )
    return chosen, colours, along


def fit(key: str, options: list[str], fallback: str) -> None:
    """Where the control holds a value that one seed does not allow, takes ``fallback``."""
    if st.session_state.get(key, fallback) not in options:
        st.session_state[key] = fallback


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
