"""What pruning does to single classes and single images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREY, finish


def class_accuracy(table: pd.DataFrame, title: str = "Which classes pay for it?") -> go.Figure:
    """Accuracy of each class before and after, joined by a line.

    Args:
        table: Columns ``class``, ``dense``, ``pruned`` (percent), ``count`` (test images).
        title: The question the chart answers.
    """
    figure = Drawing()
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
    """A grid of test images, each under its caption: one picture, for axes of their own take a tenth of a second to make.

    Args:
        images: Of one size: grey ones (H, W), any range, or colour ones (H, W, 3) of whole numbers from 0 to 255.
        captions: One an image, such as ``3: 3 → 8``.
        title: The question the chart answers.
    """
    columns = min(6, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    height, width = np.shape(images[0])[:2] if len(images) else (1, 1)
    above, between = max(1, round(0.38 * height)), max(1, round(0.12 * width))
    # Transparent where there is no image.
    picture = np.zeros((rows * (height + above), columns * (width + between), 4), dtype=np.uint8)
    written = []
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        top, left = index // columns * (height + above) + above, index % columns * (width + between)
        tile = picture[top : top + height, left : left + width]
        tile[:, :, :3], tile[:, :, 3] = _coloured(np.asarray(image)), 255
        # The first row of an image is its uppermost; pixels are centred on whole numbers.
        place = {"x": left + width / 2 - 0.5, "y": top - 0.5, "yanchor": "bottom", "showarrow": False}
        written.append({**place, "text": caption, "font": {"size": 12}})
    figure = Drawing({"type": "image", "z": picture, "colormodel": "rgba", "hoverinfo": "skip"})
    figure.update_layout(annotations=written)
    figure.update_xaxes(visible=False, constrain="domain", constraintoward="left")
    figure.update_yaxes(visible=False, constrain="domain", constraintoward="top")
    return finish(figure, title, 60 + 130 * rows, top=44)


def _coloured(image: np.ndarray) -> np.ndarray:
    """(H, W, 3), as it is or from grey, the larger the darker."""
    if image.ndim == 3:
        return image
    low, high = float(image.min()), float(image.max())
    grey = np.round(255.0 * (high - image.astype(float)) / (high - low)) if high > low else np.full(image.shape, 255.0)
    return np.repeat(grey[:, :, None], 3, axis=2)
