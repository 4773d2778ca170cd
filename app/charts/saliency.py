"""How the pruning statistic is spread in each layer, and where the threshold falls."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts.style import KEPT, PRUNED, VERMILION, finish

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def saliency_histograms(
    bins: pd.DataFrame, thresholds: dict[str, float], unit: str, title: str = "Which weights are cheap to remove?"
) -> go.Figure:
    """One histogram a layer over a shared logarithmic axis; what goes is hatched, the threshold drawn in.

    Args:
        bins: Columns ``layer``, ``left``, ``right`` (log10 of the statistic), ``kept``, ``pruned`` (counts).
        thresholds: Layer → largest statistic that is removed (−inf: nothing is).
        unit: The statistic's unit.
        title: The question the chart answers.
    """
    layers = list(dict.fromkeys(bins["layer"]))
    figure = make_subplots(
        rows=len(layers), cols=1, shared_xaxes=True, vertical_spacing=0.12 / len(layers), row_titles=None
    )
    for row, layer in enumerate(layers, start=1):
        part = bins[bins["layer"] == layer]
        centre, width = (part["left"] + part["right"]) / 2, part["right"] - part["left"]
        for name, counts, color, pattern in (
            ("removed", part["pruned"], PRUNED, "/"),
            ("kept", part["kept"], KEPT, ""),
        ):
            figure.add_bar(
                x=centre,
                y=counts,
                width=width,
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                marker={
                    "color": color,
                    "line": {"width": 0},
                    "pattern": {"shape": pattern, "size": 5, "solidity": 0.4},
                },
                customdata=10.0**centre,
                hovertemplate=f"{layer}: %{{y}} {name} near %{{customdata:.1e}} {unit}<extra></extra>",
                row=row,
                col=1,
            )
        threshold = thresholds.get(layer, -math.inf)
        if threshold > 0 and math.isfinite(threshold):
            figure.add_vline(x=math.log10(threshold), line={"color": VERMILION, "width": 2}, row=row, col=1)
        figure.update_yaxes(title={"text": layer, "font": {"size": 12}}, rangemode="tozero", nticks=4, row=row, col=1)
    low, high = bins["left"].min(), bins["right"].max()
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = -1.0, 0.0
    step = max(1, math.ceil((high - low) / 8))
    ticks = list(range(math.floor(low), math.ceil(high) + 1, step))
    figure.update_xaxes(tickvals=ticks, ticktext=["10" + str(tick).translate(SUPERSCRIPTS) for tick in ticks])
    figure.update_xaxes(title=f"pruning statistic ({unit}, logarithmic)", row=len(layers), col=1)
    figure.update_layout(barmode="stack", bargap=0)
    figure.add_scatter(
        x=[None], y=[None], mode="lines", line={"color": VERMILION, "width": 2}, name="threshold", row=1, col=1
    )
    return finish(figure, title, 150 + 95 * max(2, len(layers)))
