"""How sparsity spreads over the layers."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import GREY, KEPT, finish, translucent


def layer_sparsity(
    table: pd.DataFrame, overall: float, title: str = "How much does each layer give?", chosen: str | None = None
) -> go.Figure:
    """Bars of each layer's sparsity, labelled kept / total.

    Args:
        table: Columns ``layer``, ``kept``, ``total``, ``sparsity`` (fraction).
        overall: The network's sparsity (fraction), drawn as a line.
        title: The question the chart answers.
        chosen: A layer to point at; the others step back.
    """
    table, faded = table.iloc[::-1], translucent(KEPT, 0.4)  # first layer on top
    figure = Drawing()
    figure.add_bar(
        x=table["sparsity"],
        y=table["layer"],
        orientation="h",
        # No opacity a bar: with it plotly tells nobody that a bar was clicked.
        marker={"color": [KEPT if chosen in (None, name) else faded for name in table["layer"]]},
        text=[f" {kept:,} of {total:,} kept" for kept, total in zip(table["kept"], table["total"], strict=True)],
        textposition="auto",
        insidetextanchor="start",
        textangle=0,
        hovertemplate="%{y}: sparsity %{x:.2%}<extra></extra>",
        showlegend=False,
    )
    figure.add_vline(
        x=overall,
        line={"color": GREY, "dash": "dot", "width": 2},
        annotation={
            "text": f"network {100 * overall:.1f} %",
            "font": {"size": 12},
            "xanchor": "right" if overall > 0.5 else "left",
            "yshift": 16,
        },
        annotation_position="top",
    )
    figure.update_xaxes(title="share of the layer removed", range=[0, 1.02], tickformat=".0%", dtick=0.25)
    if chosen is not None:
        names = list(table["layer"])
        figure.update_yaxes(tickvals=names, ticktext=[f"<b>▸ {n}</b>" if n == chosen else n for n in names])
    return finish(figure, title, 150 + 48 * len(table))
