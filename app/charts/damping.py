"""How a damping is written, and a figure whose damping moves while it is dragged."""

import math

import pandas as pd
import plotly.graph_objects as go

from app.charts.saliency import SUPERSCRIPTS
from app.charts.style import KEPT, PRUNED, VERMILION, finish


def power(damping: float) -> str:
    """``10⁻³`` or ``3·10⁻³``."""
    exponent = math.floor(math.log10(damping) + 1e-9)
    digit = damping / 10.0**exponent
    written = "10" + str(exponent).translate(SUPERSCRIPTS)
    return written if abs(digit - 1) < 1e-6 else f"{digit:.0f}·{written}"


def damping_title(relative: bool) -> str:
    """The damping's axis: λ itself, or its ratio to the mean curvature."""
    return "damping λ / mean Fⱼⱼ" if relative else "damping λ"


def damping_frames(
    bins: pd.DataFrame, points: pd.DataFrame, unit: str, relative: bool = False, current: float | None = None
) -> go.Figure:
    """The statistic's histogram over all layers, with a λ slider of its own that redraws while it is dragged.

    Args:
        bins: Columns ``damping``, ``left``, ``right`` (log10 of the statistic), ``kept``, ``pruned``.
        points: Columns ``damping``, ``accuracy`` (percent), ``threshold``.
        unit: The statistic's unit.
        relative: Whether ``damping`` is a multiple of the mean curvature.
        current: The damping to begin with (the nearest is taken); the middle one by default.
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
        label = f"λ = {power(point.damping)}{' mean Fⱼⱼ' if relative else ''}: {point.accuracy:.1f} %"
        frames.append(go.Frame(name=label, data=data))
    start = len(frames) // 2
    if current is not None:
        start = int((points["damping"].map(math.log) - math.log(current)).abs().to_numpy().argmin())
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
                # The labels under the ticks would overlap. Not made transparent: the current one above would be so too.
                "font": {"size": 1},
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
