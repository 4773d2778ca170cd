"""What pruning does to single classes and single images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts.style import BLUE, GREY, finish


def class_accuracy(table: pd.DataFrame, title: str = "Which classes pay for it?") -> go.Figure:
    """Accuracy of each class before and after, joined by a line.

    Args:
        table: Columns ``class``, ``dense``, ``pruned`` (percent), ``count`` (test images).
        title: The question the chart answers.
    """
    figure = go.Figure()
    gaps_x, gaps_y = [], []
    for _, row in table.iterrows():
        gaps_x += [row["class"], row["class"], None]
        gaps_y += [row["dense"], row["pruned"], None]
    figure.add_scatter(
        x=gaps_x, y=gaps_y, mode="lines", line={"color": GREY, "width": 3}, hoverinfo="skip", showlegend=False
    )
    for column, symbol, color in (("dense", "circle-open", GREY), ("pruned", "diamond", BLUE)):
        figure.add_scatter(
            x=table["class"],
            y=table[column],
            name=column,
            mode="markers",
            marker={"size": 11, "symbol": symbol, "color": color, "line": {"width": 2, "color": color}},
            customdata=table["count"],
            hovertemplate="class %{x}: %{y:.1f} % of %{customdata} images<extra>" + column + "</extra>",
        )
    figure.update_xaxes(title="class", type="category")
    figure.update_yaxes(title="test accuracy (%)", range=[-3, 103])
    return finish(figure, title, 380)


def flipped_examples(
    images: Sequence[np.ndarray], captions: Sequence[str], title: str = "Which images changed their answer?"
) -> go.Figure:
    """A grid of test images, each with its caption.

    Args:
        images: Grey images (H, W), any range, or colour ones (H, W, 3) of whole numbers from 0 to 255.
        captions: One a image, such as ``3: 3 → 8``.
        title: The question the chart answers.
    """
    columns = min(6, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(captions), vertical_spacing=0.24 / rows, horizontal_spacing=0.02
    )
    for index, image in enumerate(images):
        row, column = index // columns + 1, index % columns + 1
        if np.ndim(image) == 3:
            figure.add_image(z=np.asarray(image), hoverinfo="skip", row=row, col=column)
            continue
        figure.add_heatmap(
            z=np.asarray(image, dtype=float),
            colorscale="Greys",
            showscale=False,
            hoverinfo="skip",
            row=row,
            col=column,
        )
    figure.update_annotations(font_size=12)
    figure.update_xaxes(visible=False, constrain="domain")
    # The first row of an image is its uppermost.
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x", scaleratio=1, constrain="domain")
    figure = finish(figure, title, 90 + 150 * rows)
    for axis in range(2, len(images) + 1):  # each image square on its own axes
        figure.layout[f"yaxis{axis}"].scaleanchor = f"x{axis}"
    return figure
