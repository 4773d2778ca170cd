"""Kept runs in words. Without Streamlit, so that notebooks say the same."""

import pandas as pd

from app.words import listed, percent, share
from woodfisher_core.jobs.titles import network_words
from woodfisher_core.store import compare

# How much accuracy a run may lose and still count as "as good".
ALLOWED_LOSS = 1.0
# So many equally accurate runs are named; of more the sparsest.
MOST_NAMED = 3


def found_sentence(table: pd.DataFrame) -> str:
    """What these runs (``Store.runs``) come to: the most accurate one, and the sparsest that is as good as its dense network."""
    done = table.dropna(subset=["accuracy", "sparsity"])
    if done.empty:
        return ""
    parts = list(done.groupby(list(compare.ALIKE), sort=False))
    # Accuracies of one network say nothing beside those of another, nor on other data.
    best = [f"on {network_words(*place)} {_best(part)}" if len(parts) > 1 else _best(part) for place, part in parts]
    words = f"Most accurate: {'; '.join(best)}."
    good = done[done["accuracy"] >= done["dense_accuracy"] - ALLOWED_LOSS]
    within = f"within {ALLOWED_LOSS:g} point of its dense network"
    if good.empty:
        return f"{words} None is {within}."
    sparsest = good.sort_values(["sparsity", "accuracy"]).iloc[-1]
    where = f", on {network_words(*sparsest[list(compare.ALIKE)])}" if len(parts) > 1 else ""
    return (
        f"{words} Sparsest {within}: **{compare.name_of(sparsest)}**{where}, {percent(sparsest['accuracy'])} (dense "
        f"{percent(sparsest['dense_accuracy'])})."
    )


def _best(runs: pd.DataFrame) -> str:
    """The most accurate of these; of equally accurate ones the sparsest first."""
    level = runs[runs["accuracy"] == runs["accuracy"].max()].sort_values("sparsity", ascending=False)
    names = [f"**{compare.name_of(run)}**" for _, run in level.iterrows()]
    if len(names) > MOST_NAMED:
        names = [names[0], f"{len(names) - 1:,} others"]
    return f"{listed(names)}, {percent(level['accuracy'].iloc[0])}{' each' if len(names) > 1 else ''}"


def curve_sentence(points: pd.DataFrame) -> str:
    """What the runs' curves say; ``points`` as ``store.compare.curve_table`` gives them."""
    own = points[points["own"]]
    best = own.loc[own["accuracy"].idxmax()] if len(own) else points.loc[points["accuracy"].idxmax()]
    words = (
        f"Rings are the runs themselves; highest is {best['name']}, {percent(best['accuracy'])} at "
        f"{share(best['sparsity'], 1)}."
    )
    if points["gradual"].nunique() > 1:
        words += (
            " The line of a gradual run follows one network through its training; that of any other joins prunings that know "
            "nothing of each other."
        )
    bare = own.loc[~own["run"].isin(points.loc[~points["own"], "run"]), "name"]
    if len(bare):
        words += f" No curve was kept with {listed(list(bare))}."
    return words


def layers_sentence(layers: pd.DataFrame) -> str:
    """What the runs' layers say; ``layers`` as ``store.compare.layers_table`` gives them."""
    if layers["run"].nunique() == 1:
        most = layers.loc[layers["sparsity"].idxmax()]
        return f"{most['layer']} gives most, {share(most['sparsity'], 1)}."
    spread = layers.groupby("layer", sort=False)["sparsity"].agg(lambda s: s.max() - s.min() if len(s) > 1 else None)
    if spread.isna().all():
        return "They are different networks: no layer is in two of them."
    if not spread.max() > 0:
        return "They take the same share of every layer."
    return f"They differ most in {spread.idxmax()}, by {100 * spread.max():.1f} points."
