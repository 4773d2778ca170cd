"""A pinned setting in the accuracy curves."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.style import ORANGE


def add_pinned(figure: go.Figure, curve: pd.DataFrame, sparsity: float, accuracy: float, name: str) -> go.Figure:
    """``figure``, an accuracy curve, with the pinned setting's own drawn into it, and a star where it stands.

    ``curve`` has columns ``sparsity`` (fraction) and ``accuracy`` (percent), as the star's.
    """
    figure.add_scatter(
        x=curve["sparsity"],
        y=curve["accuracy"],
        name=name,
        legendgroup=name,
        mode="lines",
        line={"color": ORANGE, "dash": "longdash", "width": 3},
        hovertemplate="A: %{y:.2f} % at sparsity %{x:.2f}<extra></extra>",
    )
    figure.add_scatter(
        x=[sparsity],
        y=[accuracy],
        legendgroup=name,
        showlegend=False,
        mode="markers",
        marker={"size": 15, "symbol": "star-open", "color": ORANGE, "line": {"width": 2}},
        hovertemplate="A: %{y:.2f} % at sparsity %{x:.4f}<extra></extra>",
    )
    return figure
