"""How each of several methods spreads sparsity over the layers, a panel each, all on the same axes."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts.style import GREY, finish, method_style

COLUMNS = 2
ROW, TITLE, TOP, BOTTOM = 24, 46, 60, 60


def layer_panels(layers: pd.DataFrame, overall: float, baseline: str, title: str) -> go.Figure:
    """Bars of each layer's sparsity, a panel a method; a grey mark in every panel is what ``baseline`` takes from the layer.

    Args:
        layers: Columns ``label``, ``style``, ``layer``, ``total`` (weights) and ``sparsity`` (fraction).
        overall: The network's sparsity (fraction), drawn as a line that the legend names.
        baseline: The label of the method that the others are held against.
        title: The question the chart answers.
    """
    labels = list(layers["label"].unique())
    names = list(layers["layer"].unique())[::-1]  # the first layer on top
    rows = -(-len(labels) // COLUMNS)
    height = TOP + BOTTOM + rows * (TITLE + ROW * len(names))
    inside = height - TOP - BOTTOM
    figure = make_subplots(
        rows,
        COLUMNS,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=labels,
        horizontal_spacing=0.04,
        vertical_spacing=0.0 if rows == 1 else TITLE / inside,
    )
    theirs = layers[layers["label"] == baseline].set_index("layer")["sparsity"]
    for place, label in enumerate(labels):
        # The lowest of its column says what is across, wherever it stands.
        lowest = place + COLUMNS >= len(labels)
        part = layers[layers["label"] == label].set_index("layer").loc[names]
        where = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        figure.add_bar(
            x=part["sparsity"],
            y=names,
            orientation="h",
            marker={"color": method_style(part["style"].iloc[0]).color},
            customdata=part["total"],
            hovertemplate="%{y}: %{x:.1%} of %{customdata:,} weights removed",
            name=label,
            showlegend=False,
            **where,
        )
        if len(theirs) and label != baseline:
            figure.add_scatter(
                x=theirs.loc[names],
                y=names,
                mode="markers",
                marker={"symbol": "line-ns", "size": 14, "line": {"width": 3, "color": GREY}},
                name=f"{baseline}, for comparison",
                legendgroup="baseline",
                showlegend=not any(trace.legendgroup == "baseline" for trace in figure.data),
                hovertemplate="%{y}: %{x:.1%}",
                **where,
            )
        figure.update_xaxes(title="share of the layer removed" if lowest else None, showticklabels=lowest, **where)
    line = {"color": GREY, "dash": "dot", "width": 1.5}
    figure.add_vline(x=overall, line=line)
    # The line itself has no place in the legend: this one is nowhere else.
    name = f"the whole network: {100 * overall:.3g} %"
    figure.add_scatter(x=[None], y=[None], mode="lines", line=line, name=name, row=1, col=1)
    for place in range(len(labels), rows * COLUMNS):
        empty = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1}
        figure.update_xaxes(visible=False, **empty)
        figure.update_yaxes(visible=False, **empty)
    figure.update_yaxes(range=[-0.6, len(names) - 0.4])
    figure.update_xaxes(range=[0, 1.02], tickformat=".0%", tickvals=[0, 0.5, 1])
    figure.update_annotations(font={"size": 13})
    return finish(figure, title, height)
