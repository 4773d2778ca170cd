"""Predicted against measured loss change."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, ORANGE, finish

# Beside the longest bar, as a share of the axis.
ROOM = 0.25


def loss_change(table: pd.DataFrame, title: str = "Did the quadratic model foresee the loss?") -> go.Figure:
    """Bars of each term, on samples the Fisher was made from and on held-out ones; lying, so that no two numbers touch.

    Args:
        table: Columns ``term`` (``|`` where a label may break), ``samples`` (which samples), ``nats`` (mean loss change).
        title: The question the chart answers.
    """
    figure = Drawing()
    patterns = ("", "x")
    for index, (samples, part) in enumerate(table.groupby("samples", sort=False)):
        figure.add_bar(
            x=part["nats"],
            y=part["term"].str.replace("|", "<br>"),
            orientation="h",
            name=samples,
            marker={
                "color": (BLUE, ORANGE)[index % 2],
                "pattern": {"shape": patterns[index % 2], "size": 6, "solidity": 0.25},
            },
            text=[f"{value:+.2g}".replace("-", "−") for value in part["nats"]],
            textposition="outside",
            textangle=0,
            textfont={"size": 11},
            constraintext="none",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:+.5f} nats<extra>" + str(samples) + "</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.2)
    # Room for the numbers beside the bars.
    low, high = min(0.0, table["nats"].min()), max(0.0, table["nats"].max())
    room = ROOM * (high - low or 1.0)
    range_ = [low - (room if low < 0 else 0.0), high + room]
    figure.update_xaxes(title="loss change (nats per sample)", zeroline=True, range=range_, nticks=5)
    figure.update_yaxes(autorange="reversed", tickfont={"size": 12})
    return finish(figure, title, 380)
