"""Compare: which method wins, where, and at what cost? Curves over seeds, price, layers, L-OBS, and what few images are worth."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app import charts
from app.asking import agree, agreed, go_button, say
from app.binding import bound
from app.compare_table import show_table
from app.explain import write_notes
from app.explain_compare import (
    ahead_sentence,
    finding,
    images_sentence,
    layers_sentence,
    left_out,
    pareto_sentence,
    published_sentence,
    verdict_sentence,
)
from app.facts import facts_of
from app.keeping_lines import Kept, keep_all
from app.opening import opened
from app.repeating import repeat
from app.showing import show
from app.telling import telling
from app.words import share
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace, cost, price
from woodfisher_core.experiments.comparison import Series, all_methods, layer_wise_or_global, with_images
from woodfisher_core.experiments.trials import at, has_trials, layers_of, mean_points, over_images, over_sparsities
from woodfisher_core.experiments.verdicts import against
from woodfisher_core.options import Scope, Update
from woodfisher_core.published import columns_of

SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SEED_COUNTS = (1, 3, 5, 10)
# Drawn where nobody says otherwise: one of each kind, quick ones. The others wait to be chosen.
DRAWN = ("magnitude", "lamp", "taylor", "diagonal-fisher", "l-obs", "kfac", "woodfisher")
ALL, COST, SPREAD, LAYER_WISE, IMAGES = "all methods", "cost", "layers", "layer-wise or global", "few images"
# What each view shows, and the question its chart answers.
VIEWS = {
    ALL: (
        "Every method at the Fisher's setting in the sidebar, each with its own update (not the one there), without a "
        "pattern, and on the same images. What a method does not use, it ignores.",
        "Which method keeps most accuracy?",
    ),
    COST: (
        "The same methods at the sparsity in the sidebar, against the time each takes to prune this network once on this "
        "machine, from nothing: gradients, curvature, mask and update, nothing shared with another method.",
        "What does accuracy cost?",
    ),
    SPREAD: (
        "The same methods at the sparsity in the sidebar: how much each takes from which layer.",
        "Where does each method take its weights from?",
    ),
    LAYER_WISE: (
        "The paper's comparison with L-OBS, on this network: L-OBS only sees each layer's own output error; WoodFisher with the "
        "same sparsity in each layer sees the loss; with one threshold over all layers it also says how much each layer gives.",
        "What does one threshold over all layers buy?",
    ),
    IMAGES: (
        "Only so many training images exist, for everything a method learns from, at the sparsity in the sidebar. Each seed has "
        "other images, so the band is what luck is worth.",
        "How many images does pruning need?",
    ),
}
# What the sidebar says and these lines do not heed.
NO_SAY = {
    LAYER_WISE: (
        "Whatever the sidebar says, these lines take the joint update and the scope in their names, and Magnitude no update and "
        "one threshold over all layers: **Update of the survivors**, **Update scale** and **Scope of the threshold** have no say "
        "here, and of **Pattern N:M** only the sparsity has."
    ),
    IMAGES: (
        "Whatever the sidebar says, these lines take the joint update and the scope in their names, and Magnitude no update: "
        "**Update of the survivors** and **Update scale** have no say here, of **Pattern N:M** only the sparsity has, **Scope of "
        "the threshold** only for Magnitude, and **Fisher samples N** says only at how many images the table below stands."
    ),
}


@dataclass(frozen=True)
class Chosen:
    """What is compared: the view, its lines, the seeds, the line the others are held against, and the numbers of images."""

    view: str
    lines: tuple[Series, ...]
    seeds: range
    baseline: Series
    counts: tuple[int, ...] = ()

    @property
    def images(self) -> int:
        """The number of images at which the table of few images stands."""
        wanted = self.lines[0].config.num_samples
        return max((count for count in self.counts if count <= wanted), default=self.counts[0])


def page() -> None:
    view, notes, space, status = opened(
        "Which method wins, where, and at what cost?",
        "One network, one setting, many methods. Lines are means over seeds, bands twice their standard error; the table says "
        "what is better than a baseline and what is equal to it within the noise.",
        only="woodfisher",
    )
    config = view.config
    top = st.container(key="finding")
    wanted = choose(space, config)
    st.caption(VIEWS[wanted.view][0])
    if wanted.view in NO_SAY:
        st.caption(f":material/info: {NO_SAY[wanted.view]}")
    ask(space, wanted, config.sparsity)

    progress = telling(
        status,
        lambda what, done, total: (
            f"{what}: {done:,} of {total:,} results. Changing a control stops here and keeps these."
        ),
    )

    draw = {COST: draw_cost, SPREAD: draw_layers, IMAGES: draw_images}.get(wanted.view, draw_curves)
    verdicts, best = draw(space, wanted, config, progress)
    where = f"{share(config.sparsity)} sparsity"
    if wanted.view == IMAGES:
        where += f" and {wanted.images:,} images"
    problem = space.problem(config)
    baseline = wanted.baseline.label
    with top:
        st.markdown(finding(verdicts, best, baseline, problem.dense.accuracy, where, problem.dense.guessing))
        if missing := left_out(verdicts):
            st.warning(missing, icon=":material/warning:")
    st.markdown(f"**At {where}, against {baseline}**")
    show_table(verdicts, baseline, verdict_sentence(verdicts, baseline, len(wanted.seeds), len(problem.test)))
    keep(wanted, config, verdicts)
    write_notes(notes, space, view, space.outcome(config))
    repeat(view.config)
    status.caption("Up to date.")


def choose(space: Workspace, config: PruneConfig) -> Chosen:
    """The page's own controls."""
    chosen = st.segmented_control("What to compare", list(VIEWS), default=ALL, required=True, **bound("view"))
    row = st.container(horizontal=True, vertical_alignment="bottom")
    if chosen in (ALL, COST, SPREAD):
        able = facts_of(config.model).methods
        names = st.multiselect(
            "Methods",
            able,
            default=[name for name in DRAWN if name in able],
            help="Those that take long, as exact Hessians do, are not drawn until they are chosen.",
            **bound("methods"),
        )
        lines = tuple(line for line in all_methods(space, config) if line.config.method in (names or DRAWN))
    else:
        lines = lines_of(config, chosen)
    with row:
        seeds = st.segmented_control(
            "Seeds",
            SEED_COUNTS,
            default=1,
            required=True,
            help="Each seed draws other training images. More seeds, narrower bands, more work.",
            **bound("seeds"),
        )
        styles = {line.style: line for line in lines}
        usual = "magnitude" if "magnitude" in styles else lines[0].style
        if st.session_state.get("against", usual) not in styles:
            st.session_state["against"] = usual
        held = st.selectbox(
            "Held against",
            list(styles),
            index=list(styles).index(usual),
            help="The baseline of the table: differences, their noise and the verdicts are against it.",
            width=260,
            **bound("against"),
        )
    most = config.images or len(space.problem(config).dataset.train)
    counts = tuple(count for count in COUNTS if count <= most) if chosen == IMAGES else ()
    return Chosen(chosen, lines, range(config.seed, config.seed + int(seeds)), styles[held], counts)


def lines_of(config: PruneConfig, chosen: str) -> tuple[Series, ...]:
    """The lines of the paper's comparison, with magnitude beside them."""
    magnitude = config.replace(method="magnitude", pattern=None, update=Update.NONE, update_scale=1.0)
    if chosen == LAYER_WISE:
        magnitude = magnitude.replace(scope=Scope.GLOBAL)
    return (Series("Magnitude", magnitude, "magnitude"), *layer_wise_or_global(config))


def ask(space: Workspace, wanted: Chosen, sparsity: float) -> None:
    """Says what the view costs where that is long, and stops the page until the click."""
    drawn = SPARSITIES if wanted.view in (ALL, LAYER_WISE) else ()
    total = cost.Cost()
    for seed in wanted.seeds:
        for count in wanted.counts or (0,):
            configs = [one.config.replace(seed=seed, sparsity=sparsity) for one in wanted.lines]
            configs = [with_images(one, count) for one in configs] if count else configs
            missing = [one for one in configs if not has_trials(space, one, (*drawn, sparsity))]
            if missing:
                total += cost.predict(space, missing, drawn)
    if wanted.view == COST:
        total += price.predicted(space, [one.config for one in wanted.lines])
    key = ("compare", wanted.view, frozenset(one.config.replace(sparsity=0.5) for one in wanted.lines), wanted.seeds)
    if agreed(total, key):
        return
    rows = max(wanted.counts, default=wanted.lines[0].config.num_samples)
    say("This comparison needs", total, rows, "joint updates")
    go_button("Compute it", "compare", agree, key)
    st.stop()


def judged(space: Workspace, wanted: Chosen, config: PruneConfig, progress) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """(each line against the baseline, each against the best, the trials) at the sparsity in the sidebar."""
    lines = wanted.lines
    if wanted.counts:
        lines = [Series(one.label, with_images(one.config, wanted.images), one.style) for one in lines]
    trials = at(space, lines, config.sparsity, wanted.seeds, progress)
    verdicts = against(trials, wanted.baseline.label)
    known = verdicts["accuracy"].dropna()
    best = against(trials, verdicts.loc[known.idxmax(), "label"] if len(known) else wanted.baseline.label)
    if wanted.view == COST:  # elsewhere it would depend on what was looked at before
        seconds = [price.known_seconds(space, one.config.replace(sparsity=config.sparsity)) for one in lines]
        verdicts = verdicts.assign(seconds=pd.Series(seconds, dtype=float))
    return verdicts, best, trials


def draw_curves(space: Workspace, wanted: Chosen, config: PruneConfig, progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy against sparsity, with what others published where there is something."""
    points = mean_points(over_sparsities(space, wanted.lines, SPARSITIES, wanted.seeds, progress), "sparsity")
    verdicts, best, _ = judged(space, wanted, config, progress)
    dense = space.problem(config).dense.accuracy
    known = {line.config.method for line in wanted.lines}
    columns = [one for one in columns_of(config.model, config.dataset) if one.method in known]
    stars = None
    if columns and st.toggle("Published numbers", value=True, **bound("published")):
        stars = pd.concat(published_points(one) for one in columns)
    figure = charts.comparison(points, "sparsity", dense, VIEWS[wanted.view][1], config.sparsity, stars)
    said = ahead_sentence(points) + (" " + published_sentence(columns, dense) if stars is not None else "")
    show(figure, said, "comparison", points)
    return verdicts, best


def draw_cost(space: Workspace, wanted: Chosen, config: PruneConfig, progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy against seconds."""
    judged(space, wanted, config, progress)
    for number, one in enumerate(wanted.lines):
        progress(f"Timing {one.label}", number, len(wanted.lines))
        price.run_seconds(space, one.config.replace(sparsity=config.sparsity))
    verdicts, best, _ = judged(space, wanted, config, progress)
    points = price.with_front(verdicts.assign(style=[one.style for one in wanted.lines]))
    figure = charts.pareto(points, space.problem(config).dense.accuracy, VIEWS[COST][1])
    show(figure, pareto_sentence(points, wanted.baseline.label), "pareto", points)
    return verdicts, best


def draw_layers(space: Workspace, wanted: Chosen, config: PruneConfig, progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every layer's sparsity by method."""
    verdicts, best, trials = judged(space, wanted, config, progress)
    layers, baseline = layers_of(space, wanted.lines, trials), wanted.baseline.label
    figure = charts.layer_panels(layers, config.sparsity, baseline, VIEWS[SPREAD][1])
    show(figure, layers_sentence(layers, config.sparsity, baseline), "panels", layers)
    return verdicts, best


def draw_images(space: Workspace, wanted: Chosen, config: PruneConfig, progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy against the number of images."""
    found = over_images(space, wanted.lines, config.sparsity, wanted.counts, wanted.seeds, progress)
    points = mean_points(found, "images")
    verdicts, best, _ = judged(space, wanted, config, progress)
    figure = charts.comparison(points, "images", space.problem(config).dense.accuracy, VIEWS[IMAGES][1], wanted.images)
    show(figure, images_sentence(points, config.sparsity), "comparison", points)
    return verdicts, best


def published_points(column) -> pd.DataFrame:
    """One published curve as the chart takes it."""
    numbers = {"sparsity": column.sparsities, "accuracy": column.accuracies}
    return pd.DataFrame({"label": column.label, "style": column.method, "source": column.setting, **numbers})


def keep(wanted: Chosen, config: PruneConfig, verdicts: pd.DataFrame) -> None:
    """The button that keeps what is drawn and has a result."""
    known = set(verdicts.loc[verdicts["accuracy"].notna(), "label"])
    lines = [one for one in wanted.lines if one.label in known]
    if wanted.counts:
        points = [
            Kept(f"{one.label}, {count:,} images", with_images(one.config, count))
            for one in lines
            for count in wanted.counts
        ]
        keep_all(points, "points", "compare")
    else:
        keep_all([Kept(one.label, one.config, SPARSITIES) for one in lines], "lines", "compare")


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
