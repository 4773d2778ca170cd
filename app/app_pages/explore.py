"""Explore: what does this setting do? One network, one method in focus, its rivals beside it."""

import time
from functools import partial

import streamlit as st

from app import asking, charts, pinning
from app.baseline import beside, quietly_pinned
from app.binding import bound
from app.explain import (
    class_sentence,
    curve_sentence,
    headline,
    layer_sentence,
    loss_sentence,
    saliency_sentence,
    smaller_sentence,
    write_notes,
)
from app.keeping import keep_button
from app.layer_choice import choose_clicked, layer_choice
from app.measuring import measured
from app.opening import opened
from app.repeating import repeat
from app.showing import show
from app.taking import take_home
from app.telling import telling
from app.weights_view import rival_of, weights_view
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import cost, tables
from woodfisher_core.methods import get_method

CURVE_SPARSITIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
SHOWN_EXAMPLES = 12


def page() -> None:
    view, notes, space, status = opened(
        "What does this setting do?",
        "Pruning sets most of a trained network's weights to zero. **Which** weights go, and **how the others move** to make "
        "up for it, decides what is left. Every control in the sidebar changes something here; each explains itself.",
    )
    config = view.config
    other = pinning.pinned(config)
    with st.container(horizontal=True, vertical_alignment="bottom", key="actions"):
        pinning.buttons(config, other)
    top = st.container(key="headline")
    rivals = [name for name in view.compared if name != config.method]
    asked = [config, *map(view.beside, rivals)]
    if pinning.to_compute(space, config, other):
        asked.append(other)
    asked = [without_pattern(one) for one in asked]
    if other is not None:  # its curve stands beside
        announced = asking.ask_before_long_work(space, asked, CURVE_SPARSITIES)
    elif cost.predict(space, asked, ()).pruning > asking.ASK_SECONDS:
        announced = asking.ask_before_long_work(space, asked, ())
    else:  # curves that take long ask in their place
        price = cost.predict(space, asked, CURVE_SPARSITIES)
        announced = asking.announcement(
            price if price.seconds <= asking.ASK_SECONDS else cost.predict(space, asked, ())
        )

    progress = telling(status, lambda phase, done, total: f"{announced} {phase}: {done:,} of {total:,}")
    started = time.perf_counter()
    status.caption(announced)
    problem = space.problem(config)
    outcome = space.outcome(config, progress=progress)
    write_notes(notes, space, view, outcome)
    layers = tables.layer_table(problem.parameters, outcome.mask.keep)
    early = top.empty()
    troubles = st.container()

    layer = layer_choice(problem.parameters)
    grid = st.grid(2, min_column_width=440)
    curves_cell = grid.cell()  # filled after what is quicker
    with grid.cell():
        figure = charts.layer_sparsity(layers, outcome.mask.sparsity, chosen=layer)
        click = {"on_select": partial(choose_clicked, "layers"), "selection_mode": "points"}
        show(figure, layer_sentence(layers, config), "layers", layers, **click)
    with grid.cell():
        bins = tables.saliency_table(problem.parameters, outcome.saliency, outcome.mask.keep)
        thresholds = tables.thresholds_by_layer(problem.parameters, outcome.mask)
        own = bins if layer is None else bins[bins["layer"] == layer]
        figure = charts.saliency_histograms(own, thresholds, get_method(config.method).unit)
        show(figure, saliency_sentence(problem, config, outcome), "saliency", own)
    pruned, results = measured(space, view, rivals, early, troubles)
    with top:
        headline(problem, config, outcome, pruned, results)
        if (baseline := quietly_pinned()) is not None:
            beside(baseline, config, space.resolve(config).key, outcome.mask.sparsity, pruned)
        held = None
        if other is not None:
            held = pinning.computed(
                space, config, other, lambda a: space.curve(without_pattern(a), CURVE_SPARSITIES, progress), progress
            )
        if held is not None:
            pinning.side_by_side(space, config, outcome, pruned, held)
        empty = layers[layers["kept"] == 0]["layer"]
        if len(empty):
            st.warning(f"Nothing is left of {', '.join(empty)}: no signal passes there.", icon=":material/warning:")
    with curves_cell:
        drawn = [name for name in view.compared if name == config.method or name in results]
        price = cost.predict(space, asked, CURVE_SPARSITIES)
        beside_a = other is not None  # agreed to above, with the rest
        if beside_a or asking.may_go_on(price, asked, CURVE_SPARSITIES, "Accuracy against sparsity takes"):
            # A pattern has one sparsity: the curves are those without it, and the run in focus a point beside them.
            curves = {
                name: space.curve(without_pattern(view.beside(name)), CURVE_SPARSITIES, progress) for name in drawn
            }
            table = tables.curve_table(curves, len(problem.test), {name: view.label(name) for name in drawn})
            current = (config.method, outcome.mask.sparsity, pruned.accuracy)
            figure = charts.accuracy_curve(table, problem.dense.accuracy, current)
            if baseline is not None and baseline.alike(config):
                charts.add_baseline(figure, baseline.points)
            if held is not None:
                pinning.drawn_into(figure, held)
            show(figure, curve_sentence(table, problem), "accuracy", table)
    with grid.cell():
        change = space.loss_change(config)
        changes = tables.loss_table(change)
        show(charts.loss_change(changes), loss_sentence(change), "loss", changes)
    if get_method(config.method).removes_channels:
        report = space.report(config)
        with top, space.cache.computing:  # it runs the network that all share
            st.markdown(smaller_sentence(report))
    with top:
        keep_button(config, CURVE_SPARSITIES, "explore")
    flips = tables.flipped_table(problem.dense, pruned)
    with grid.cell():
        examples(problem, flips)
    with grid.cell():
        classes = tables.class_table(problem.dense, pruned, problem.dataset.classes)
        show(charts.class_accuracy(classes), class_sentence(classes), "classes", classes)
    single = st.expander(
        "Single weights: which, where, and what becomes of them",
        icon=":material/grain:",
        on_change="rerun",
        **bound("single"),
    )
    if single.open:
        with single:
            weights_view(space, view, problem, outcome, layer, rival_of(space, view, list(results)))
    take_home(config, space, tuple(results))
    repeat(config)
    status.caption(f"Up to date: this view took {time.perf_counter() - started:.2f} s of computing and drawing.")


def without_pattern(config):
    """The same setting with a threshold in the place of a pattern."""
    return config if config.pattern is None else config.replace(pattern=None)


def examples(problem, flips) -> None:
    """Test images whose answer changed, those lost first."""
    shown = flips.sort_values("kind", key=lambda kind: kind.map({"lost": 0, "other": 1, "won": 2}), kind="stable")
    shown = shown.head(SHOWN_EXAMPLES)
    counts = flips["kind"].value_counts()
    if shown.empty:
        st.markdown("**Which images changed their answer?**")
        st.caption("None: on every test image the pruned network answers as the dense one does.")
        return
    names = problem.dataset.classes
    captions = [
        f"{names[t]}: {names[d]} → {names[p]}"
        for t, d, p in zip(shown["target"], shown["dense"], shown["pruned"], strict=True)
    ]
    test = problem.dataset.test
    raw = [test.images[problem.test_indices[i]] for i in shown["index"]]
    # Grey as it is; colour as the screen takes it.
    images = [
        (image[0] if len(image) == 1 else (image * (255 * test.scale)).round().byte().permute(1, 2, 0)) for image in raw
    ]
    images = [image.numpy() for image in images]
    show(
        charts.flipped_examples(images, captions),
        f"Truth: answer before → after. {counts.get('lost', 0):,} right answers were lost, {counts.get('won', 0):,} won; "
        f"{len(flips):,} of {len(problem.test):,} answers changed in all.",
        "flips",
        flips,
    )


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
