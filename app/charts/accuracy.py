"""Accuracy against sparsity for several methods."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.bands import add_banded_line, add_dense_line
from app.charts.drawing import Drawing
from app.charts.style import GREY, finish, method_style


def accuracy_curve(
    points: pd.DataFrame,
    dense_accuracy: float,
    current: tuple[str, float, float] | None = None,
    title: str = "How much accuracy is left at each sparsity?",
) -> go.Figure:
    """Lines with a band of test-set noise.

    Args:
        points: Columns ``method`` (registry name), ``label``, ``sparsity`` (fraction), ``accuracy`` (percent) and
            ``standard_error`` (percentage points; the band is ±1.96 of it).
        dense_accuracy: Percent, drawn as a horizontal line.
        current: (method, sparsity, accuracy) to mark.
        title: The question the chart answers.
    """
    figure = Drawing()
    for method, part in points.groupby("method", sort=False):
        part = part.sort_values("sparsity")
        style = method_style(method)
        hover = "%{y:.2f} % at sparsity %{x:.2f}"
        add_banded_line(
            figure, part["sparsity"], part["accuracy"], part["standard_error"], part["label"].iloc[0], style, hover
        )
    # The marked sparsity's line would strike the name through on a narrow page.
    add_dense_line(figure, dense_accuracy, GREY, "left" if current is not None and current[1] > 0.5 else "right")
    if current is not None:
        method, sparsity, accuracy = current
        figure.add_vline(
            x=sparsity,
            line={"color": GREY, "width": 1},
            annotation={"text": f"yours: {accuracy:.2f} %", "font": {"size": 12}},
            annotation_position="bottom left" if sparsity > 0.5 else "bottom right",
        )
        figure.add_scatter(
            x=[sparsity],
            y=[accuracy],
            showlegend=False,
            mode="markers",
            marker={
                "size": 18,
                "symbol": "circle-open",
                "color": method_style(method).color,
                "line": {"width": 3},
            },
            hovertemplate="your setting: %{y:.2f} % at sparsity %{x:.4f}<extra></extra>",
        )
    figure.update_xaxes(title="sparsity (fraction of prunable weights removed)", range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(title="test accuracy (%)", range=[0, 102])
    return finish(figure, title, 420)
