"""Sensitivity: what do the number of samples and the damping change? WoodFisher over a plane of both."""

import streamlit as st

from app import charts
from app.data_gate import require
from app.explain import line_sentence, plane_sentence, slice_sentence
from app.shared import workspace
from app.showing import show
from app.state import DAMPINGS, controls
from woodfisher_core.data import get_dataset
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments.plane import damping_line, plane
from woodfisher_core.methods import get_method

SAMPLES = (20, 50, 100, 200, 500, 1000)
PLANE_DAMPINGS = tuple(10.0**power for power in range(-7, 1))
LINE_DAMPINGS = tuple(float(damping) for damping in DAMPINGS)


def page() -> None:
    st.title("What do samples and damping change?")
    st.markdown(
        "WoodFisher has two knobs nobody can set by theory: how many images its Fisher is estimated from, and how much damping "
        "is added to it. Every cell below is a pruned network, at the sparsity and with the update chosen on the left."
    )
    view, _ = controls(only="woodfisher")
    config, space = view.config, workspace()
    require(get_dataset(config.dataset))
    status = st.empty()

    def progress(phase: str, done: int, total: int) -> None:
        status.progress(
            done / total, text=f"{phase}: {done:,} of {total:,}. Changing a control stops here and keeps these."
        )

    magnitude = space.evaluation(config.replace(method="magnitude", update=None, update_scale=1.0))
    bins, points = damping_line(space, config, LINE_DAMPINGS, progress)
    show(
        charts.damping_frames(bins, points, get_method(config.method).unit),
        line_sentence(points, config, magnitude.accuracy),
        "frames",
    )

    table = plane(space, config, SAMPLES, PLANE_DAMPINGS, progress)
    chosen = st.segmented_control(
        "What to draw over the plane",
        list(charts.MEASURES),
        default="accuracy",
        required=True,
        help="Overlap and rank correlation are with your setting on the left, outlined where it lies on the plane.",
        key="measure",
        bind="query-params",
    )
    measure = charts.MEASURES[chosen]
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        on_plane = config.num_samples in SAMPLES and any(abs(config.damping / d - 1) < 1e-6 for d in PLANE_DAMPINGS)
        reference = (config.num_samples, config.damping) if on_plane else None
        show(charts.heat_map(table, measure, reference), plane_sentence(table, magnitude.accuracy), "plane")
    with grid.cell():
        level = magnitude.accuracy if chosen == "accuracy" else None
        show(charts.slices(table, measure, level), slice_sentence(table, measure.column), "slices")
    status.caption("Up to date.")
    with st.expander("The numbers", icon=":material/table:"):
        st.dataframe(table, hide_index=True)
        st.download_button("plane.csv", table.to_csv(index=False), "plane.csv", "text/csv", on_click="ignore")


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
