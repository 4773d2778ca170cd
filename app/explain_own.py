"""The sentences of Your model, numbers in and words out; notebooks say the same."""

from collections.abc import Sequence

import pandas as pd

from app.charts.confusion import MOST_CLASSES
from app.words import listed, percent
from woodfisher_core.own.checking import Verdict
from woodfisher_core.own.keeping import Brought
from woodfisher_core.own.limits import megabytes

# Pairs of a renaming that are written out.
FEW = 4


def finding(verdict: Verdict, images: int, weights: str | None, data: str | None) -> str:
    """How well the network knows the data, in a sentence; ``weights`` and ``data`` are the user's names, None where ours."""
    whose = f"**{weights}**" if weights else "The network that ships with the app"
    on = f"**{data}**" if data else "its own test set"
    return (
        f"{whose} answers **{percent(verdict.accuracy)}** of the {images:,} test images of {on} rightly (noise "
        f"±\u00a0{verdict.noise:.2f} points); always guessing the most frequent class would give {percent(verdict.guess, 1)}."
    )


def warning(verdict: Verdict, classes: Sequence[str], broken_batchnorm: Sequence[str]) -> str:
    """What looks wrong, and what to do; empty where nothing does."""
    parts = []
    if verdict.renamed is not None:
        pairs = [f"{classes[i]} as {classes[j]}" for i, j in enumerate(verdict.renaming) if i != j]
        more = f" and {len(pairs) - FEW} more" if len(pairs) > FEW else ""
        parts.append(
            f"The classes are in another order than the network learnt: it knows {', '.join(pairs[:FEW])}{more}. With these "
            f"names it would have {percent(verdict.renamed)}. Number the classes as in training."
        )
    elif verdict.near_chance:
        parts.append(
            "That is no better than guessing. Are the classes in the same order as in training? Are the images normalised as "
            "then (arrays `mean` and `std` in the .npz), and of the same kind?"
        )
    if broken_batchnorm:
        parts.append(
            f"The BatchNorm statistics of {listed(list(broken_batchnorm[:FEW]))}"
            f"{f' and {len(broken_batchnorm) - FEW} more' if len(broken_batchnorm) > FEW else ''} do not fit these images: they "
            "are probably normalised otherwise than in training."
        )
    return " ".join(parts)


def brought_words(brought: Brought) -> str:
    """What came in, and what it is for."""
    what = "Weights" if brought.kind == "weights" else "Data"
    fits = "for" if brought.kind == "weights" else "read by"
    words = f"{what} **{brought.label}** (`{brought.name}`, {megabytes(brought.nbytes)}), {fits} {listed(list(brought.models))}."
    return " ".join((words, *brought.said))


def confusion_sentence(table: pd.DataFrame) -> str:
    """Which mistake is most frequent."""
    wrong = table[(table["truth"] != table["answer"]) & (table["count"] > 0)]
    few = table["truth"].nunique() > MOST_CLASSES
    only = f" Drawn are the {MOST_CLASSES} classes with most mistakes." if few else ""
    if wrong.empty:
        return f"No test image of a class is taken for one of another.{only}"
    worst = wrong.loc[wrong["count"].idxmax()]
    return (
        f"{worst['truth']} is most often taken for {worst['answer']}: {worst['count']:,} images, {percent(worst['share'], 1)} of "
        f"that class. What is right stands on the diagonal.{only}"
    )
