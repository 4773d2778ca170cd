"""What methods keep against what they cost, and the ones nobody beats in both."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.bands import add_dense_line
from app.charts.drawing import Drawing
from app.charts.style import GREY, finish, method_style


def pareto(points: pd.DataFrame, dense_accuracy: float, title: str) -> go.Figure:
    """A mark a method at its seconds and its accuracy; the front is a line, who is beaten is small and pale.

    Args:
        points: Columns ``label``, ``style``, ``seconds``, ``accuracy`` (percent), ``noise`` (points to either side, a bar) and
            ``beaten_by`` (empty on the front), by rising seconds.
        dense_accuracy: Percent, drawn as a horizontal line.
        title: The question the chart answers.
    """
    figure = Drawing()
    front = points[points["beaten_by"] == ""]
    figure.add_scatter(
        x=front["seconds"],
        y=front["accuracy"],
        name="the front: no other is both quicker and better",
        mode="lines",
        line={"color": GREY, "width": 2, "shape": "hv", "dash": "dot"},
        hoverinfo="skip",
    )
    for row in points.itertuples():
        style, beaten = method_style(row.style), bool(row.beaten_by)
        against = f"beaten by {row.beaten_by}" if beaten else "on the front"
        figure.add_scatter(
            x=[row.seconds],
            y=[row.accuracy],
            name=row.label,
            mode="markers",
            marker={"symbol": style.symbol, "color": style.color, "size": 9 if beaten else 15},
            opacity=0.6 if beaten else 1.0,
            error_y={"type": "data", "array": [row.noise], "color": style.color, "thickness": 1.5, "width": 3},
            hovertemplate=f"%{{x:.3g}} s, %{{y:.2f}} %, {against}",
        )
    add_dense_line(figure, dense_accuracy, GREY)
    figure.update_xaxes(title="seconds to prune once here (logarithmic)", type="log", dtick=1)
    figure.update_yaxes(title="test accuracy (%)")
    return finish(figure, title, 500)
