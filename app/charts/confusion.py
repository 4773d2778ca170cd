"""Which class is taken for which."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import finish

# More classes than this are too small to tell apart: those with most mistakes are drawn.
MOST_CLASSES = 20
# Numbers in the cells where they can be read.
MOST_WRITTEN = 12


def confusion(table: pd.DataFrame, title: str = "Which class does the network take for which?") -> go.Figure:
    """A heat map of answers, each row the test images of one class; answers that are no class of the data come last.

    Args:
        table: Columns ``truth``, ``answer``, ``count`` (test images), ``share`` (percent of the truth's).
        title: The question the chart answers.
    """
    names = drawn_classes(table)
    known = set(table["truth"])
    answers = [*names, *(name for name in dict.fromkeys(table["answer"]) if name not in known)]
    shares, counts = (
        table.pivot(index="truth", columns="answer", values=column).loc[names, answers] for column in ("share", "count")
    )
    z = shares.to_numpy(dtype=float)
    written = len(names) <= MOST_WRITTEN
    text = np.where((z >= 0.5) & written, np.char.mod("%.0f", np.nan_to_num(z)), "")
    figure = Drawing()
    figure.add_heatmap(
        x=answers,
        y=names,
        z=z,
        text=text,
        texttemplate="%{text}",
        customdata=counts.to_numpy(),
        colorscale="Cividis",
        zmin=0,
        zmax=100,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "%", "side": "top"}, "thickness": 12},
        hovertemplate="%{y} taken for %{x}: %{z:.1f} % (%{customdata:,} images)<extra></extra>",
    )
    figure.update_xaxes(title="answer of the network (class)", type="category")
    figure.update_yaxes(title="truth (class), a row 100 %", type="category", autorange="reversed")
    return finish(figure, title, 440)


def drawn_classes(table: pd.DataFrame) -> list[str]:
    """All classes in their order, or of many those with most mistakes."""
    names = list(dict.fromkeys(table["truth"]))
    if len(names) <= MOST_CLASSES:
        return names
    wrong = table[table["truth"] != table["answer"]].groupby("truth", sort=False)["count"].sum()
    worst = set(wrong.nlargest(MOST_CLASSES).index)
    return [name for name in names if name in worst]
