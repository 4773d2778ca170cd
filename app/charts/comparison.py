"""Several methods against one quantity, with the spread over seeds."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.bands import add_banded_line, add_dense_line
from app.charts.drawing import Drawing
from app.charts.style import GREY, finish, method_style

# What stands on the x axis: its title, whether it is logarithmic, and how a value is written on hover.
X_AXES = {
    "sparsity": ("sparsity asked for", False, "at sparsity %{x:.0%}"),
    "images": ("training images that exist", True, "with %{x:,} images"),
}


def comparison(
    points: pd.DataFrame,
    by: str,
    dense_accuracy: float,
    title: str,
    at: float | None = None,
    published: pd.DataFrame | None = None,
) -> go.Figure:
    """Lines of means with a band of ±1.96 standard errors over the seeds, where there are several.

    Args:
        points: Columns ``label``, ``style`` (a method's name, for its colours), ``by``, ``mean`` and ``error`` (percent).
        by: ``sparsity`` or ``images``.
        dense_accuracy: Percent, drawn as a horizontal line.
        title: The question the chart answers.
        at: Where on the x axis the table below stands, drawn as a vertical line.
        published: Numbers of others, drawn as hollow stars: ``label``, ``style``, ``source``, ``sparsity``, ``accuracy``.
    """
    x_title, logarithmic, hover = X_AXES[by]
    figure = Drawing()
    for label, part in points.groupby("label", sort=False):
        part = part.sort_values(by)
        style = method_style(part["style"].iloc[0])
        several = (part["error"] > 0).any()
        text = ("%{y:.2f} ± %{customdata:.2f} % " if several else "%{y:.2f} % ") + hover
        add_banded_line(figure, part[by], part["mean"], part["error"].fillna(0.0), str(label), style, text)
    if published is not None:
        for label, part in published.groupby("label", sort=False):
            _add_published(figure, part, str(label))
    add_dense_line(figure, dense_accuracy, GREY)
    if at is not None:
        figure.add_vline(x=at, line={"color": GREY, "dash": "dash", "width": 1})
    if logarithmic:
        figure.update_xaxes(title=x_title, type="log", dtick=1)
    else:
        figure.update_xaxes(title=x_title, tickformat=".0%")
    figure.update_yaxes(title="test accuracy (%)", range=[0, 102])
    return finish(figure, title, 470)


def _add_published(figure: Drawing, part: pd.DataFrame, label: str) -> None:
    style = method_style(part["style"].iloc[0])
    figure.add_scatter(
        x=part["sparsity"],
        y=part["accuracy"],
        name=f"{label}, published",
        mode="markers",
        marker={"symbol": "star-open", "size": 12, "color": style.color, "line": {"width": 1.5}},
        hovertemplate=f"%{{y:.2f}} % at sparsity %{{x:.0%}}, {part['source'].iloc[0]}",
    )
