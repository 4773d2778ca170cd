"""Methods: which one keeps most? Curves over seeds, the paper's comparison with L-OBS, and what few images are worth."""

import pandas as pd
import streamlit as st

from app import charts
from app.asking import agree, agreed, go_button, say
from app.explain import percent, share, write_notes
from app.keeping import keep_lines_button
from app.opening import opened
from app.showing import show
from app.state import View
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.comparison import (
    Series,
    all_methods,
    curves,
    layer_wise_or_global,
    limited_data,
    summary,
)
from woodfisher_core.options import Update

SPARSITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
SEED_COUNTS = (1, 3, 5, 10)
ALL, LAYERS, IMAGES = "all methods", "layer-wise or global", "few images"
# What each view shows, and the question its chart answers.
VIEWS = {
    ALL: (
        "Every method at the Fisher's setting on the left, each with its own update (not the one on the left), without a "
        "pattern, and on the same images. What a method does not use, it ignores.",
        "Which method keeps most accuracy?",
    ),
    LAYERS: (
        "The paper's comparison with L-OBS, on this network: L-OBS only sees each layer's own output error; WoodFisher with the "
        "same sparsity in each layer sees the loss; with one threshold over all layers it also says how much each layer gives.",
        "What does one threshold over all layers buy?",
    ),
    IMAGES: (
        "Only so many training images exist, for everything a method learns from, at the sparsity on the left. Each seed has "
        "other images, so the band is what luck is worth.",
        "How many images does pruning need?",
    ),
}


def page() -> None:
    view, notes, space, status = opened(
        "Which method keeps most?",
        "One network, one setting, many methods. Lines are means over seeds, bands twice their standard error: where bands "
        "overlap, the difference may be luck.",
        only="woodfisher",
    )
    config = view.config
    chosen = st.segmented_control(
        "What to compare",
        list(VIEWS),
        default=ALL,
        required=True,
        key="view",
        bind="query-params",
    )
    seeds = st.segmented_control(
        "Seeds",
        SEED_COUNTS,
        default=1,
        required=True,
        help="Each seed draws other training images. More seeds, narrower bands, more work.",
        key="seeds",
        bind="query-params",
    )
    what, question = VIEWS[chosen]
    st.caption(what)
    points, by = table(space, view, chosen, range(config.seed, config.seed + int(seeds)), status)
    dense = space.problem(config).dense.accuracy
    by_line = points.groupby("label", sort=False)["mean"]
    if broken := [label for label, means in by_line if means.isna().all()]:
        st.warning(
            f"Left out: {', '.join(broken)}. At this damping the quadratic model cannot be inverted; take a larger one.",
            icon=":material/warning:",
        )
    if ended := [label for label, means in by_line if means.isna().any() and not means.isna().all()]:
        st.caption(
            f"{', '.join(ended)}: the line ends where the method can remove no more, or where its model breaks down."
        )
    points = points.dropna()
    show(charts.comparison(points, by, dense, question), sentence(points, by, config), "comparison")
    if chosen != IMAGES:  # there each point is a run of its own, at another number of images
        drawn = [line for line in lines_of(space, config, chosen) if line.label in set(points["label"])]
        keep_lines_button(drawn, SPARSITIES, "methods")
    with st.expander("The numbers", icon=":material/table:"):
        st.dataframe(points.drop(columns="style"), hide_index=True)
        st.download_button("methods.csv", points.to_csv(index=False), "methods.csv", "text/csv", on_click="ignore")
    write_notes(notes, space, view, space.outcome(config))
    status.caption("Up to date.")


def table(space: Workspace, view: View, chosen: str, seeds: range, status) -> tuple[pd.DataFrame, str]:
    """(means and errors of every line, what is on the x axis); long work waits for a click."""
    config = view.config
    lines = lines_of(space, config, chosen)
    # What a view sets itself is no part of what it depends on.
    own = {"sparsity": 0.5, "seed": 0} if chosen != IMAGES else {"num_samples": 1, "mini_batch": 1, "seed": 0}
    key = ("comparison", chosen, tuple((line.label, line.config.replace(**own)) for line in lines), seeds)
    kept = space.results.peek(key)
    by = "images" if chosen == IMAGES else "sparsity"
    most = config.images or len(space.problem(config).dataset.train)
    counts = [count for count in COUNTS if count <= most] if chosen == IMAGES else []
    if kept is None:
        ask(space, lines, seeds, key, counts)

        def told(text: str) -> None:
            status.caption(f"Computing: {text} …")

        if chosen == IMAGES:
            found = limited_data(space, lines, config.sparsity, counts, seeds, told)
        else:
            found = curves(space, lines, SPARSITIES, seeds, told)
        kept = summary(found, by).drop(columns="seconds")
        kept["style"] = kept["label"].map({line.label: line.style for line in lines})
        space.results.put(key, kept, int(kept.memory_usage(deep=True).sum()))
    return kept, by


def lines_of(space: Workspace, config: PruneConfig, chosen: str) -> tuple[Series, ...]:
    """The lines of a view."""
    if chosen == ALL:
        return all_methods(space, config)
    three = layer_wise_or_global(config)
    if chosen == LAYERS:
        return three
    magnitude = config.replace(method="magnitude", pattern=None, update=Update.NONE, update_scale=1.0)
    return (Series("Magnitude", magnitude, "magnitude"), *three)


def ask(space: Workspace, lines: tuple[Series, ...], seeds: range, key: tuple, counts: list[int]) -> None:
    """Says what the view costs where that is long, and stops the page until the click."""
    if counts:
        few = [
            [one.config.replace(num_samples=k, mini_batch=1, images=k, batchnorm_images=0) for one in lines]
            for k in counts
        ]
        price = sum((cost.predict(space, some, (0.5,)) for some in few), cost.Cost()).times(len(seeds))
    else:
        price = cost.predict(space, [line.config for line in lines], SPARSITIES).times(len(seeds))
    if agreed(price, key):
        return
    rows = max(counts, default=lines[0].config.num_samples)
    say("This comparison needs", price, rows, "joint updates")
    go_button("Compute it", "compare", agree, key)
    st.stop()


def sentence(points: pd.DataFrame, by: str, config: PruneConfig) -> str:
    """What the lines say."""
    if by == "images":
        most = points[points["images"] == points["images"].max()]
        best = most.loc[most["mean"].idxmax()]
        few = points[(points["label"] == best["label"]) & (points["mean"] >= best["mean"] - 1.0)]["images"].min()
        return (
            f"At {share(config.sparsity)} and {best['images']:,} images {best['label']} keeps most, {percent(best['mean'])}; it "
            f"is within a point of that from {few:,} image{'s' if few > 1 else ''} on."
        )
    winners = points.loc[points.groupby("sparsity")["mean"].idxmax()]
    parts = [f"{row.label} at {share(row.sparsity)} ({percent(row.mean, 1)})" for row in winners.itertuples()]
    return "Ahead: " + ", ".join(parts[-4:]) + "."


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
