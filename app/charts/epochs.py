"""Gradual pruning over its epochs: how the sparsity rises, and the saw tooth of losing and learning again."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.style import BLUE, GREY, VERMILION, finish, method_style

EPOCHS_AXIS = "epochs trained"


def schedule_levels(levels: pd.DataFrame, epochs: int) -> go.Figure:
    """The planned sparsity over a run of ``epochs``, with a mark for each step.

    Args:
        levels: Columns ``epoch`` (counted from 1; the step comes before its training) and ``level`` (fraction), in order.
        epochs: Length of the run.
    """
    times, heights = [0.0], [0.0]
    for step in levels.itertuples():
        times += [step.epoch - 1.0] * 2
        heights += [heights[-1], step.level]
    figure = go.Figure()
    figure.add_scatter(
        x=[*times, float(epochs)],
        y=[*heights, heights[-1]],
        mode="lines",
        name="planned sparsity",
        line={"color": BLUE, "width": 2.5},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=levels["epoch"] - 1,
        y=levels["level"],
        customdata=levels["epoch"],
        mode="markers",
        name="pruning step",
        marker={"color": VERMILION, "symbol": "triangle-down", "size": 11},
        hovertemplate="%{y:.1%} from epoch %{customdata} on<extra></extra>",
    )
    figure.update_xaxes(title=EPOCHS_AXIS, range=[-0.02 * epochs, 1.02 * epochs])
    figure.update_yaxes(title="sparsity", tickformat=".0%", range=[0, 1.04])
    return finish(figure, "How fast does the sparsity rise?", 420)


def saw_tooth(points: pd.DataFrame, dense_accuracy: float, at_once: pd.DataFrame, epochs: int) -> go.Figure:
    """Test accuracy through pruning and training, a line a method.

    Args:
        points: Columns ``method`` (registry name), ``label``, ``time`` (epochs trained), ``accuracy`` (percent), ``sparsity``
            (fraction gone) and ``moment`` (``dense``, ``pruned`` or ``trained``), in the order they happened.
        dense_accuracy: Percent, drawn as a horizontal line.
        at_once: Columns ``method``, ``label`` and ``accuracy`` of pruning to the last sparsity in one step, without training.
        epochs: Length of the run; the axis does not move while it fills.
    """
    figure = go.Figure()
    lowest: list[float] = []
    for method, part in points.groupby("method", sort=False):
        style = method_style(method)
        symbols = part["moment"].map({"dense": style.symbol, "trained": style.symbol, "pruned": "triangle-down"})
        figure.add_scatter(
            x=part["time"],
            y=part["accuracy"],
            customdata=part[["moment", "sparsity"]],
            mode="lines+markers",
            name=part["label"].iloc[0],
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            marker={"symbol": symbols, "size": 8, "color": style.color},
            hovertemplate="%{customdata[0]}: %{y:.2f} % at sparsity %{customdata[1]:.1%}",
        )
        lowest.append(part["accuracy"].min())
    # In the legend, not beside the lines: these often lie within a point of each other.
    levels = [(GREY, "dashdot", "dense", dense_accuracy)]
    levels += [
        (method_style(one.method).color, "dot", f"{one.label}, at once", one.accuracy) for one in at_once.itertuples()
    ]
    for color, dash, name, accuracy in levels:
        figure.add_scatter(
            x=[0, epochs],
            y=[accuracy] * 2,
            mode="lines",
            name=f"{name}: {accuracy:.1f} %",
            line={"color": color, "dash": dash, "width": 1.5},
            hovertemplate="%{y:.2f} %",
        )
        lowest.append(accuracy)
    figure.update_xaxes(title=EPOCHS_AXIS, range=[-0.02 * epochs, 1.02 * epochs])
    # Half of the saw may lie within a few points: the axis begins below the lowest of them, not at 0.
    bottom = max(0.0, 10.0 * ((min(lowest) - 4.0) // 10.0))
    figure.update_yaxes(title="test accuracy (%)", range=[bottom, 102])
    height = 360 + 22 * len(figure.data)  # the legend has a line for each
    return finish(figure, "What does each step cost, and what comes back?", height)
