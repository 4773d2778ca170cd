"""Speed: what did I gain? Time and space of this setting's network in every way its zeros can be left out."""

import os

import streamlit as st
from torch import nn

from app import charts
from app.asking import announcement, may_go_on
from app.binding import bound
from app.explain import write_notes
from app.explain_speed import finding, kernel_sentence, latency_sentence, size_sentence, work_sentence
from app.opening import opened
from app.repeating import repeat
from app.showing import show
from app.taking import take_home
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace, cost, speed
from woodfisher_core.experiments.storage import storage

BATCHES = ("1", "32", "256")
ALL_THREADS = "all"
# A layer as large as those of real networks, beside those of the network at hand.
LARGE = "1024 × 1024"
REASONS = {"csr": "CSR", "structured": "Structured", "as accurate": "Structured, as accurate", "2:4": "2:4"}


def page() -> None:
    view, notes, space, status = opened(
        "What did I gain?",
        "A weight that is zero is still multiplied, unless the kernel knows how to leave it out. Here the network of the setting "
        "in the sidebar is timed, on the machine that serves this page, in every way there is to compute it.",
    )
    config = view.config
    other = speed.structured_config(config)
    price = cost.Cost()
    if not space.has_evaluation(config):
        # A pattern has one sparsity and no curve; it costs what a threshold there does.
        price += cost.predict(space, [config.replace(pattern=None)], ())
    if not speed.has_tried(space, config):
        price += cost.predict(space, [other], speed.STRUCTURED_SPARSITIES)
    if not may_go_on(price, [config, other], speed.STRUCTURED_SPARSITIES):
        st.stop()
    status.caption(announcement(price))
    with st.container(horizontal=True, vertical_alignment="bottom", key="speed-controls"):
        batch, threads = controls(space, config)
    top = st.container(key="finding")
    found = speed.latency(space, config, batch, threads)
    table = found.table
    with top:
        st.markdown(finding(table))
        for name, reason in found.left_out.items():
            st.caption(f":material/block: {REASONS[name]} is left out: {reason.partition(': ')[2]}")
        if found.sparse_layers and len(found.sparse_layers) < len(space.problem(config).parameters.layers):
            st.caption(
                f":material/info: CSR: only {', '.join(found.sparse_layers)}. Convolutions, and layers without a zero, stay "
                "dense: there is no sparse kernel for convolutions in PyTorch."
            )
    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        on_cpu = space.problem(config).device.type == "cpu"
        sentence = latency_sentence(table, found.threads, on_cpu)
        show(charts.latency_bars(table, found.batch), sentence, "latency", table.reset_index())
    with grid.cell():
        show(charts.work_and_time(table), work_sentence(table), "work", table.reset_index())
    with grid.cell():
        sizes = storage(space, config)
        show(charts.size_bars(sizes), size_sentence(sizes), "sizes", sizes.reset_index())
    with grid.cell():
        kernels(space, config, batch, threads)
    write_notes(notes, space, view, space.outcome(config))
    machine = found.machine
    on = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    st.caption(f"Measured on: {on}, {found.threads} of {machine['cpus']} threads, PyTorch {machine['torch']}.")
    take_home(config, space, [name for name in view.compared if name != config.method], found.batch)
    repeat(view.config)
    status.caption("Up to date.")


def controls(space: Workspace, config: PruneConfig) -> tuple[int, int | None]:
    """(images a call, threads; None for as many as there are)."""
    batch = st.segmented_control(
        "Images a call",
        BATCHES,
        default=BATCHES[-1],
        required=True,
        help="How many images go through the network at once. With one, the calls themselves cost most; with many, the sums do.",
        **bound("at-once"),
    )
    chosen = st.segmented_control(
        "Threads",
        ("1", ALL_THREADS),
        default="1",
        required=True,
        help="One thread is read by its own processor clock, which other programs on this machine do not disturb; all "
        f"{os.cpu_count()} processors by the clock on the wall, which they do.",
        **bound("threads"),
    )
    threads = 1 if chosen == "1" else os.cpu_count()
    st.button(
        "Measure again",
        icon=":material/timer:",
        key="again",
        on_click=forget,
        args=(space, config, int(batch), threads),
        help="Times differ from one measurement to the next: see how much.",
        width="content",
    )
    return int(batch), threads


def forget(space: Workspace, config: PruneConfig, batch: int, threads: int | None) -> None:
    """Lets go of the times of this setting, and of all single layers' at this batch."""
    key = speed.latency_key(space, config, batch, threads)
    space.results.drop(lambda kept: kept == key or (kept[0] == "layer latency" and kept[2] == batch))


def kernels(space: Workspace, config: PruneConfig, batch: int, threads: int | None) -> None:
    """One Linear layer, dense against CSR, over the share of zeros."""
    problem = space.problem(config)
    layers = {layer.module: layer for layer in problem.parameters.layers if layer.kind == nn.Linear.__name__}
    options = [LARGE, *layers]
    if st.session_state.get("timed") not in (None, *options):
        st.session_state["timed"] = LARGE
    chosen = st.selectbox(
        "Linear layer to time",
        options,
        help="One of this network's, or one as large as in networks of real size: whether CSR pays depends on the size.",
        **bound("timed"),
    )
    own = layers.get(chosen)
    shape = (1024, 1024) if own is None else own.shape
    current = None
    if own is not None:
        keep = problem.parameters.unflatten(space.outcome(config).mask.keep)[own.name]
        current = 1.0 - float(keep.double().mean())
    try:
        table = speed.layer_latency(space, shape, batch, threads, problem.device)
    except WoodFisherError as error:
        st.caption(f":material/block: {error}")
        return
    crossing = speed.cross_over(table)
    figure = charts.kernel_lines(table, shape, batch, crossing, current)
    show(figure, kernel_sentence(table, crossing, current), "kernels", table)


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
