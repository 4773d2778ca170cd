"""How the pruning statistic is spread in each layer, and where the threshold falls."""

import math

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import KEPT, PRUNED, VERMILION, finish

# With more layers than these each has a lower panel.
MANY = 8
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
    low, high = bins["left"].min(), bins["right"].max()
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = -1.0, 0.0
    ticks = list(range(math.floor(low), math.ceil(high) + 1, max(1, math.ceil((high - low) / 8))))
    written = ["10" + str(tick).translate(SUPERSCRIPTS) for tick in ticks]
    many = len(layers) > MANY
    gap = (0.3 if many else 0.12) / len(layers)
    height = (1.0 - gap * (len(layers) - 1)) / len(layers)
    # Plotly's own subplots take five times as long to make.
    traces, layout, lines, names = [], {"barmode": "stack", "bargap": 0}, [], []
    for row, layer in enumerate(layers):
        number, last = str(row + 1) if row else "", row == len(layers) - 1
        part = bins[bins["layer"] == layer]
        left, right = part["left"].to_numpy(), part["right"].to_numpy()
        centre, width = (left + right) / 2, right - left
        for name, counts, color, pattern in (
            ("removed", part["pruned"].to_numpy(), PRUNED, "/"),
            ("kept", part["kept"].to_numpy(), KEPT, ""),
        ):
            traces.append(
                {
                    "type": "bar",
                    "x": centre,
                    "y": counts,
                    "width": width,
                    "name": name,
                    "legendgroup": name,
                    "showlegend": row == 0,
                    "marker": {
                        "color": color,
                        "line": {"width": 0},
                        "pattern": {"shape": pattern, "size": 5, "solidity": 0.4},
                    },
                    "customdata": 10.0**centre,
                    "hovertemplate": f"{layer}: %{{y}} {name} near %{{customdata:.1e}} {unit}<extra></extra>",
                    "xaxis": f"x{number}",
                    "yaxis": f"y{number}",
                }
            )
        top = 1.0 - row * (height + gap)
        layout[f"yaxis{number}"] = {
            "domain": [max(0.0, top - height), top],
            "anchor": f"x{number}",
            "title": {"text": "" if many else layer, "font": {"size": 12}},
            "rangemode": "tozero",
            "nticks": 2 if many else 4,
        }
        if many:  # beside so low a panel there is no room for its name
            where = {"xref": f"x{number} domain", "yref": f"y{number} domain", "x": 0, "y": 1.02}
            names.append({"text": layer, "xanchor": "left", "yanchor": "bottom", "showarrow": False, **where})
        layout[f"xaxis{number}"] = {
            "anchor": f"y{number}",
            "tickvals": ticks,
            "ticktext": written,
            "showticklabels": last,
            **({} if last else {"matches": f"x{len(layers)}"}),
        }
        threshold = thresholds.get(layer, -math.inf)
        if threshold > 0 and math.isfinite(threshold):
            place = {"x0": math.log10(threshold), "x1": math.log10(threshold), "y0": 0, "y1": 1}
            refs = {"xref": f"x{number}", "yref": f"y{number} domain"}
            lines.append({"type": "line", **place, **refs, "line": {"color": VERMILION, "width": 2}})
    last = str(len(layers)) if len(layers) > 1 else ""
    layout[f"xaxis{last}"]["title"] = {"text": f"pruning statistic ({unit}, logarithmic)"}
    line = {"color": VERMILION, "width": 2}
    traces.append({"type": "scatter", "x": [None], "y": [None], "mode": "lines", "line": line, "name": "threshold"})
    drawing = Drawing(*traces)
    drawing.update_layout(**layout)
    for line in lines:
        drawing.add_shape(**line)
    for name in names:
        drawing.add_annotation(**name)
    return finish(drawing, title, 150 + (76 if many else 95) * max(2, len(layers)))
