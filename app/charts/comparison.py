"""Several methods against one quantity, with the spread over seeds."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.bands import add_banded_line, add_dense_line
from app.charts.style import GREY, finish, method_style

# What stands on the x axis: its title, whether it is logarithmic, and how a value is written on hover.
X_AXES = {
    "sparsity": ("sparsity asked for", False, "at sparsity %{x:.0%}"),
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
        text = f"%{{y:.2f}} ± %{{customdata:.2f}} % {hover}"
        add_banded_line(figure, part[by], part["mean"], part["error"], str(label), style, text)
    add_dense_line(figure, dense_accuracy, GREY)
    if logarithmic:
        figure.update_xaxes(title=x_title, type="log", dtick=1)
    else:
        figure.update_xaxes(title=x_title, tickformat=".0%")
    figure.update_yaxes(title="test accuracy (%)", range=[0, 102])
    # A long legend stands below on its own lines; room for it is made in height.
    rows = -(-points["label"].nunique() // 3)
    return finish(figure, title, 440 + 22 * rows)
