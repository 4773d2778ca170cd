"""Accuracy against sparsity for several methods."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.style import GREY, finish, method_style, translucent


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
    figure = go.Figure()
    for method, part in points.groupby("method", sort=False):
        part = part.sort_values("sparsity")
        style = method_style(method)
        margin = 1.96 * part["standard_error"]
        figure.add_scatter(
            x=pd.concat([part["sparsity"], part["sparsity"][::-1]]),
            y=pd.concat([(part["accuracy"] + margin).clip(upper=100), (part["accuracy"] - margin).clip(lower=0)[::-1]]),
            fill="toself",
            fillcolor=translucent(style.color, 0.15),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=method,
        )
        figure.add_scatter(
            x=part["sparsity"],
            y=part["accuracy"],
            name=part["label"].iloc[0],
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            marker={"symbol": style.symbol, "size": 8},
            legendgroup=method,
            hovertemplate="%{y:.2f} % at sparsity %{x:.2f}",
        )
    figure.add_hline(
        y=dense_accuracy,
        line={"color": GREY, "dash": "dot", "width": 1.5},
        annotation={"text": f"dense {dense_accuracy:.2f} %", "font": {"size": 12}},
        annotation_position="bottom right",
    )
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
