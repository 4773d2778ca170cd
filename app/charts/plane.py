"""Heat-maps over samples and damping, slices through them, and a figure whose damping moves while it is dragged."""

import math
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from app.charts.saliency import SUPERSCRIPTS
from app.charts.style import (
    BLUE,
    GREEN,
    KEPT,
    ORANGE,
    PRUNED,
    PURPLE,
    SKY,
    VERMILION,
    finish,
    method_style,
)

SLICE_COLORS = (SKY, ORANGE, GREEN, PURPLE, BLUE, VERMILION)
SLICE_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
SLICE_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True)
class Measure:
    """One column of the plane: how it is called, its unit, how it is written, and whether more is better."""

    column: str
    question: str
    unit: str
    form: str
    more_is_better: bool = True


MEASURES = {
    "accuracy": Measure("accuracy", "Where does WoodFisher keep its accuracy?", "test accuracy (%)", ".1f"),
    "overlap": Measure("overlap", "Where does it keep the same weights?", "kept weights shared (Jaccard)", ".2f"),
    "rank correlation": Measure(
        "rank_correlation", "Where does it rank the weights alike?", "rank correlation (Spearman)", ".2f"
    ),
    "predicted loss": Measure(
        "predicted", "What loss does the quadratic model foresee?", "predicted loss change (nats)", ".3g", False
    ),
    "measured loss": Measure("measured", "What loss does it really cost?", "measured loss change (nats)", ".3g", False),
}


def power(damping: float) -> str:
    """``10⁻³`` or ``3·10⁻³``."""
    exponent = math.floor(math.log10(damping) + 1e-9)
    digit = damping / 10.0**exponent
    written = "10" + str(exponent).translate(SUPERSCRIPTS)
    return written if abs(digit - 1) < 1e-6 else f"{digit:.0f}·{written}"


def heat_map(plane: pd.DataFrame, measure: Measure, reference: tuple[int, float] | None = None) -> go.Figure:
    """``measure`` over N and λ, the value written in each cell; × marks cells worse than magnitude beyond noise.

    Args:
        plane: Columns ``samples``, ``damping``, ``verdict`` and the measure's.
        measure: What to draw.
        reference: (N, λ) to outline.
    """
    table = plane.pivot(index="damping", columns="samples", values=measure.column)
    verdicts = plane.pivot(index="damping", columns="samples", values="verdict")
    columns, rows = [f"{n:,}" for n in table.columns], [power(damping) for damping in table.index]
    text = [
        [format(value, measure.form) + (" ×" if verdicts.iat[i, j] == "worse" else "") for j, value in enumerate(row)]
        for i, row in enumerate(table.to_numpy(dtype=float))
    ]
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(dtype=float),
            x=columns,
            y=rows,
            text=text,
            texttemplate="%{text}",
            colorscale="Cividis" if measure.more_is_better else "Cividis_r",
            colorbar={"title": {"text": measure.unit, "side": "right"}, "thickness": 12},
            hovertemplate=f"N = %{{x}}, λ = %{{y}}<br>{measure.unit}: %{{text}}<extra></extra>",
        )
    )
    if reference is not None:
        figure.add_scatter(
            x=[f"{reference[0]:,}"],
            y=[power(reference[1])],
            mode="markers",
            marker={"symbol": "square-open", "size": 34, "color": VERMILION, "line": {"width": 3}},
            name="your setting",
            hoverinfo="skip",
        )
    figure.update_xaxes(title="Fisher samples N", type="category", categoryorder="array", categoryarray=columns)
    figure.update_yaxes(title="damping λ", type="category", categoryorder="array", categoryarray=rows)
    return finish(figure, measure.question, 150 + 34 * len(rows))


def slices(plane: pd.DataFrame, measure: Measure, magnitude: float | None = None) -> go.Figure:
    """``measure`` against λ, one line a sample count.

    Args:
        plane: As for :func:`heat_map`.
        measure: What to draw.
        magnitude: The value magnitude pruning reaches, if it has one.
    """
    figure = go.Figure()
    for index, (samples, part) in enumerate(plane.groupby("samples")):
        pick = index % len(SLICE_COLORS)
        figure.add_scatter(
            x=part["damping"],
            y=part[measure.column],
            name=f"N = {samples:,}",
            mode="lines+markers",
            line={"color": SLICE_COLORS[pick], "dash": SLICE_DASHES[pick], "width": 2},
            marker={"symbol": SLICE_SYMBOLS[pick], "size": 7},
            hovertemplate=f"λ = %{{x:.0e}}: %{{y:{measure.form}}}",
        )
    if magnitude is not None:
        style = method_style("magnitude")
        figure.add_hline(
            y=magnitude,
            line={"color": style.color, "dash": style.dash, "width": 1.5},
            annotation={"text": "magnitude", "font": {"size": 12}},
            annotation_position="bottom right",
        )
    figure.update_xaxes(title="damping λ (logarithmic)", type="log", dtick=1, exponentformat="power")
    figure.update_yaxes(title=measure.unit)
    return finish(figure, "How sharp is the choice of damping?", 420)


def damping_frames(bins: pd.DataFrame, points: pd.DataFrame, unit: str) -> go.Figure:
    """The statistic's histogram over all layers, with a λ slider of its own that redraws while it is dragged.

    Args:
        bins: Columns ``damping``, ``left``, ``right`` (log10 of the statistic), ``kept``, ``pruned``.
        points: Columns ``damping``, ``accuracy`` (percent), ``threshold``.
        unit: The statistic's unit.
    """
    low, high = bins["left"].min(), bins["right"].max()
    highest = 0
    frames = []
    for point in points.itertuples():
        part = (
            bins[bins["damping"] == point.damping].groupby(["left", "right"], as_index=False)[["kept", "pruned"]].sum()
        )
        centre, width = (part["left"] + part["right"]) / 2, part["right"] - part["left"]
        highest = max(highest, int((part["kept"] + part["pruned"]).max()))
        line = [math.log10(point.threshold)] * 2 if point.threshold > 0 else [None, None]
        data = [
            go.Bar(x=centre, y=part["pruned"], width=width, name="removed"),
            go.Bar(x=centre, y=part["kept"], width=width, name="kept"),
            go.Scatter(x=line, y=[0, highest], name="threshold", mode="lines"),
        ]
        data[0].update(marker={"color": PRUNED, "pattern": {"shape": "/", "size": 5, "solidity": 0.4}})
        data[1].update(marker={"color": KEPT})
        data[2].update(line={"color": VERMILION, "width": 2})
        label = f"λ = {power(point.damping)}: {point.accuracy:.1f} %"
        frames.append(go.Frame(name=label, data=data))
    start = len(frames) // 2
    figure = go.Figure(data=frames[start].data, frames=frames)
    instant = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": frame.name, "method": "animate", "args": [[frame.name], instant]} for frame in frames]
    figure.update_layout(
        barmode="stack",
        bargap=0,
        sliders=[
            {
                "active": start,
                "steps": steps,
                "currentvalue": {"prefix": "", "font": {"size": 15}},
                "pad": {"t": 56},
                "ticklen": 0,
                "font": {
                    "color": "rgba(0,0,0,0)"
                },  # the labels under the ticks would overlap; the current one is above
            }
        ],
    )
    step = max(1, math.ceil((high - low) / 8))
    ticks = list(range(math.floor(low), math.ceil(high) + 1, step))
    figure.update_xaxes(
        title=f"pruning statistic ({unit}, logarithmic)",
        range=[low, high],
        tickvals=ticks,
        ticktext=["10" + str(tick).translate(SUPERSCRIPTS) for tick in ticks],
    )
    figure.update_yaxes(title="weights", range=[0, 1.05 * highest])
    return finish(figure, "How does the damping reorder the weights?", 490)
