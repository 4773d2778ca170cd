"""Predicted against measured loss change."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, ORANGE, finish


def loss_change(table: pd.DataFrame, title: str = "Did the quadratic model foresee the loss?") -> go.Figure:
    """Bars of each term, on samples the Fisher was made from and on held-out ones.

    Args:
        table: Columns ``term`` (``|`` where a label may break), ``samples`` (which samples), ``nats`` (mean loss change).
        title: The question the chart answers.
    """
    figure = Drawing()
    patterns = ("", "x")
    for index, (samples, part) in enumerate(table.groupby("samples", sort=False)):
        figure.add_bar(
            x=part["term"].str.replace("|", "<br>"),
            y=part["nats"],
            name=samples,
            marker={
                "color": (BLUE, ORANGE)[index % 2],
                "pattern": {"shape": patterns[index % 2], "size": 6, "solidity": 0.25},
            },
            text=[f"{value:+.2g}" for value in part["nats"]],
            textposition="outside",
            textangle=0,
            textfont={"size": 11},
            constraintext="none",
            cliponaxis=False,
            hovertemplate="%{x}: %{y:+.5f} nats<extra>" + str(samples) + "</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.2)
    figure.update_xaxes(tickangle=0, tickfont={"size": 12})
    figure.update_yaxes(title="loss change (nats per sample)", zeroline=True)
    return finish(figure, title, 380)
