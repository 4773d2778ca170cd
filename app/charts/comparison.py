"""Several methods against one quantity, with the spread over seeds."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.style import GREY, finish, method_style, translucent

# What stands on the x axis: its title, whether it is logarithmic, and how a value is written on hover.
X_AXES = {
    "sparsity": ("sparsity (fraction of prunable weights removed)", False, "at sparsity %{x:.0%}"),
    "images": ("training images that exist", True, "with %{x:,} images"),
}


def comparison(points: pd.DataFrame, by: str, dense_accuracy: float, title: str) -> go.Figure:
    """Lines of means with a band of ±1.96 standard errors over the seeds.

    Args:
        points: Columns ``label``, ``style`` (a method's name, for its colours), ``by``, ``mean`` and ``error`` (percent).
        by: ``sparsity`` or ``images``.
        dense_accuracy: Percent, drawn as a horizontal line.
        title: The question the chart answers.
    """
    x_title, logarithmic, hover = X_AXES[by]
    figure = go.Figure()
    for label, part in points.groupby("label", sort=False):
        part = part.sort_values(by)
        style = method_style(part["style"].iloc[0])
        margin = 1.96 * part["error"]
        figure.add_scatter(
            x=pd.concat([part[by], part[by][::-1]]),
            y=pd.concat([(part["mean"] + margin).clip(upper=100), (part["mean"] - margin).clip(lower=0)[::-1]]),
            fill="toself",
            fillcolor=translucent(style.color, 0.15),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
        )
        figure.add_scatter(
            x=part[by],
            y=part["mean"],
            name=label,
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            marker={"symbol": style.symbol, "size": 8},
            customdata=part["error"],
            legendgroup=label,
            hovertemplate=f"%{{y:.2f}} ± %{{customdata:.2f}} % {hover}",
        )
    figure.add_hline(
        y=dense_accuracy,
        line={"color": GREY, "dash": "dot", "width": 1.5},
        annotation={"text": f"dense {dense_accuracy:.2f} %", "font": {"size": 12}},
        annotation_position="bottom right",
    )
    if logarithmic:
        figure.update_xaxes(title=x_title, type="log", dtick=1)
    else:
        figure.update_xaxes(title=x_title, tickformat=".0%")
    figure.update_yaxes(title="test accuracy (%)", range=[0, 102])
    # A long legend stands below on its own lines; room for it is made in height.
    rows = -(-points["label"].nunique() // 3)
    return finish(figure, title, 440 + 22 * rows)
