"""The sentences of the Compare page: every number in them comes from the runs on the page."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from app.words import duration, listed, number, percent, share
from woodfisher_core.experiments.verdicts import BETTER, EQUAL, MISSING, WORSE
from woodfisher_core.published import SOURCE, Column

# Points of accuracy that are little.
NEAR = 1.0


def finding(
    verdicts: pd.DataFrame,
    best: pd.DataFrame,
    baseline: str,
    dense: float,
    where: str,
    guessing: tuple[float, float] | None = None,
) -> str:
    """Who keeps most, who is level with it, and what the baseline keeps.

    Args:
        verdicts: Each line against the baseline (see ``verdicts.against``).
        best: Each line against the one that keeps most.
        baseline: Its label.
        dense: Accuracy of the network before, in percent.
        where: Where this is, as ``80 % sparsity``.
        guessing: What guessing gives, and its noise, in percent (see ``Evaluation.guessing``).
    """
    known = verdicts[verdicts["accuracy"].notna()].set_index("label")
    if known.empty:
        return f"At {where} no method gives a result in this setting."
    winner = known["accuracy"].idxmax()
    most = percent(known.loc[winner, "accuracy"])
    if guessing is not None and known["accuracy"].max() <= sum(guessing):
        return (
            f"At {where} no method keeps anything: the best, {winner}, has **{most}**, and guessing gives "
            f"{percent(guessing[0])} (dense {percent(dense)})."
        )
    if known["accuracy"].nunique() == 1 and len(known) > 1:
        return f"At {where} all methods keep the same, **{most}** (dense {percent(dense)})."
    level = [row.label for row in best.itertuples() if row.verdict == EQUAL and row.label != winner]
    text = f"At {where} **{winner}** keeps most, **{most}** (dense {percent(dense)})"
    text += f"; {listed(level)} {_are(level)} equal to it within the noise. " if level else ", beyond the noise. "
    if baseline not in known.index or baseline == winner:
        return text.strip()
    gain = known.loc[winner]
    return f"{text}{baseline} keeps {percent(known.loc[baseline, 'accuracy'])}, {_points(gain)} less."


def verdict_sentence(verdicts: pd.DataFrame, baseline: str, seeds: int, images: int) -> str:
    """Who is better than the baseline, equal and worse, and what the noise is made of."""
    others = verdicts[verdicts["label"] != baseline]
    said = []
    for verdict in (BETTER, EQUAL, WORSE):
        part = others[others["verdict"] == verdict].sort_values("difference", ascending=False)
        if len(part):
            names = [f"{row.label} ({number(row.difference, '+.1f')})" for row in part.itertuples()]
            said.append(f"**{verdict}**: {listed(names)}")
    if not said:
        return f"Nothing can be held against {baseline} here."
    return f"Against {baseline}, in points: {'; '.join(said)}. {noise_sentence(seeds, images)}"


def verdict_table(verdicts: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The same numbers with headings as people read them, best first; columns that say nothing are left out.

    ``verdicts`` may have ``seconds`` beside what ``verdicts.against`` gives.
    """
    table = verdicts.sort_values("accuracy", ascending=False, na_position="last")
    own = table["label"] == baseline
    readable = pd.DataFrame(
        {
            "method": table["label"],
            "accuracy (%)": table["accuracy"],
            "± over seeds": table["error"],
            f"over {baseline}": table["difference"],
            "noise (±)": table["noise"],
            "verdict": np.where(own, "the baseline", table["verdict"]),
            "seconds": table.get("seconds", np.nan),
            "why": table["why"].where(table["verdict"] == MISSING, ""),
        }
    ).reset_index(drop=True)
    empty = [name for name in ("± over seeds", "seconds") if readable[name].isna().all()]
    return readable.drop(columns=[*empty, *([] if readable["why"].any() else ["why"])])


def noise_sentence(seeds: int, images: int) -> str:
    """Where the noise of a difference comes from."""
    tested = f"the {images:,} test images, each held against itself"
    if seeds == 1:
        return f"One seed: no spread between seeds is known. The noise (95 %) is that of {tested}."
    return f"The noise (95 %) is that of {tested}, and of the {seeds} seeds, each held against itself."


def ahead_sentence(points: pd.DataFrame) -> str:
    """Who is ahead at the sparsities drawn; ``points`` has ``label``, ``sparsity`` and ``mean``."""
    winners = points.loc[points.groupby("sparsity")["mean"].idxmax()]
    spans: list[list] = []  # neighbours with the same winner are said at once
    for row in winners.itertuples():
        if spans and spans[-1][0] == row.label:
            spans[-1][2] = row.sparsity
        else:
            spans.append([row.label, row.sparsity, row.sparsity])
    parts = [
        f"{label} at {share(first)}" + (f" to {share(last)}" if last > first else "") for label, first, last in spans
    ]
    return f"Highest mean: {', '.join(parts)}. Whether that is more than luck, the table says for one sparsity."


def published_sentence(columns: Sequence[Column], dense: float) -> str:
    """Whose stars these are, and why they need not lie on the lines."""
    settings = "; ".join(f"{one.label}: {one.setting}" for one in columns)
    return (
        f"Hollow stars: {SOURCE} ({settings}). Other weights (dense {percent(columns[0].dense)}, here {percent(dense)}) and "
        "other samples: compare shapes, not digits."
    )


def pareto_sentence(points: pd.DataFrame, baseline: str) -> str:
    """Who is on the front and who is beaten; ``points`` as ``price.with_front`` gives them."""
    if points.empty:
        return "No method gives a result in this setting."
    front = points[points["beaten_by"] == ""]
    text = "Nobody is both quicker and better than " + listed(
        [f"{row.label} ({duration(row.seconds)}, {percent(row.accuracy, 1)})" for row in front.itertuples()]
    )
    if len(front) > 1:
        first, last = front.iloc[0], front.iloc[-1]
        times = last["seconds"] / first["seconds"]
        gain = last["accuracy"] - first["accuracy"]
        text += f": from the first to the last {gain:.1f} points for {times:,.0f} times the time"
    beaten = [f"{row.label} (by {row.beaten_by})" for row in points.itertuples() if row.beaten_by]
    text += f". Beaten in both: {listed(beaten)}" if beaten else ""
    return f"{text}. Bars: the noise of the difference from {baseline}; times are the fastest of some runs."


def layers_sentence(layers: pd.DataFrame, sparsity: float, baseline: str) -> str:
    """Where the methods disagree most about what a layer can give."""
    if layers.empty:
        return "No method gives a result in this setting."
    extremes = layers.groupby("layer", sort=False)["sparsity"].agg(["min", "max", "idxmin", "idxmax"])
    layer = (extremes["max"] - extremes["min"]).idxmax()
    row = extremes.loc[layer]
    few, many = (layers.loc[row[name], "label"] for name in ("idxmin", "idxmax"))
    marks = f" Grey marks: what {baseline} takes." if (layers["label"] == baseline).any() else ""
    if row["max"] - row["min"] < 0.005:
        return f"At {share(sparsity)} overall all methods take alike from every layer.{marks}"
    return (
        f"At {share(sparsity)} overall they disagree most about {layer}: {few} takes {share(row['min'])} of it, {many} "
        f"{share(row['max'])}.{marks}"
    )


def images_sentence(points: pd.DataFrame, sparsity: float) -> str:
    """Who keeps most with all images, from how many on that changes little, and where fewer images gave more."""
    all_of_them = points["images"].max()
    most = points[(points["images"] == all_of_them) & points["mean"].notna()]
    if most.empty:
        return f"At {share(sparsity)} and {_images(all_of_them)} no method gives a result."
    best = most.loc[most["mean"].idxmax()]
    text = f"At {share(sparsity)} and {_images(all_of_them)} {best['label']} keeps most, {percent(best['mean'])}"
    line = points[points["label"] == best["label"]].sort_values("images")
    # A mean that is missing is not near either.
    near = ((line["mean"] - best["mean"]).abs() <= NEAR)[::-1].cummin()[::-1]
    few = line.loc[near, "images"].min()
    if few < all_of_them:
        text += f"; from {_images(few)} on it is within a point of that"
    top = points.loc[points["mean"].idxmax()]
    if top["mean"] > best["mean"]:
        whose = "its own" if top["label"] == best["label"] else f"that of {top['label']}"
        text += f". The highest mean of all is {whose} with {_images(top['images'])}, {percent(top['mean'])}"
    return f"{text}."


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def left_out(verdicts: pd.DataFrame) -> str:
    """Lines without a result, with the reason; empty where there are none."""
    missing = verdicts[(verdicts["verdict"] == MISSING) & verdicts["accuracy"].isna()]
    return " ".join(f"**{row.label}** has no result here: {row.why}" for row in missing.itertuples())


def _points(row: pd.Series) -> str:
    return f"{row['difference']:.1f} ± {row['noise']:.1f} points"


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"
