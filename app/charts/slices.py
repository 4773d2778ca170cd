"""Slices through a plane: a measure against the damping or against what else varies, every seed a dot."""

import math

import pandas as pd
import plotly.graph_objects as go

from app.charts.damping import damping_title, power
from app.charts.drawing import Drawing
from app.charts.measures import Axis, Levels, Measure
from app.charts.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, finish, method_style

# As many as there are dampings; neighbours differ in hue, dash and symbol.
COLORS = (SKY, ORANGE, GREEN, PURPLE, BLUE, VERMILION, GREY, "#A0522D")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "3px,2px", "9px,2px,2px,2px,2px,2px")
ALONG = ("damping", "the other axis")


def slices(
    plane: pd.DataFrame,
    axis: Axis,
    measure: Measure,
    levels: Levels | None = None,
    relative: bool = False,
    runs: pd.DataFrame | None = None,
    along: str = ALONG[0],
) -> go.Figure:
    """``measure`` against λ, one line a value of ``axis``, or the other way round; the first arguments are those of
    :func:`heat_map`.

    Args:
        plane: As :func:`heat_map` takes it.
        axis: What varies beside λ.
        measure: What to draw.
        levels: What magnitude and the dense network reach.
        relative: Whether ``damping`` is a multiple of the mean curvature.
        runs: The same with a row for each ``seed``, drawn as a dot each.
        along: One of :data:`ALONG`: what lies on the horizontal axis.
    """
    dampings_across = along == ALONG[0]
    across, lines = ("damping", axis.column) if dampings_across else (axis.column, "damping")
    figure = Drawing()
    for index, value in enumerate(plane[lines].unique()):
        part = plane[(plane[lines] == value) & plane[measure.column].notna()]
        if part.empty:
            continue
        pick = index % len(COLORS)
        name = axis.name(value) if dampings_across else f"λ = {power(value)}"
        several = measure.spread in part and part[measure.spread].notna().any()
        figure.add_scatter(
            x=_places(part[across], across, axis),
            y=part[measure.column],
            name=name,
            legendgroup=name,
            mode="lines+markers",
            line={"color": COLORS[pick], "dash": DASHES[pick], "width": 2},
            marker={"symbol": SYMBOLS[pick], "size": 7},
            customdata=_said_spread(part, measure) if several else None,
            hovertemplate=(f"{damping_title(relative)} = %{{x:.0e}}" if dampings_across else f"{axis.letter} = %{{x}}")
            + f": %{{y:{measure.form.lstrip('#')}}}"
            + ("%{customdata}" if several else ""),
        )
        if runs is not None and not measure.paired:
            _add_dots(figure, runs[runs[lines] == value], across, axis, measure, name, pick)
    if levels is not None:
        style = method_style("magnitude")
        figure.add_hline(
            y=levels.magnitude,
            line={"color": style.color, "dash": style.dash, "width": 1.5},
            annotation={"text": "magnitude", "font": {"size": 12}},
            annotation_position="bottom right",
        )
    low, high = (math.log10(plane["damping"].agg(end)) for end in ("min", "max"))
    if dampings_across:
        figure.update_xaxes(
            title=f"{damping_title(relative)} (logarithmic)",
            type="log",
            dtick=1,
            exponentformat="power",
            range=[low - 0.2, high + 0.2],
        )
        question = "How sharp is the choice of damping?"
    else:
        values = plane[axis.column].unique()
        ticks = {} if axis.spacing == "category" else {"tickvals": values, "ticktext": [axis.write(v) for v in values]}
        log = " (logarithmic)" if axis.spacing == "log" else ""
        figure.update_xaxes(title=f"{axis.title}{log}", type=axis.spacing, **ticks)
        question = axis.question
    figure.update_yaxes(title=measure.unit)
    return finish(figure, question, 420)


def _places(values: pd.Series, across: str, axis: Axis) -> list[object]:
    """Names as they are written everywhere, numbers as numbers."""
    if across == "damping" or axis.spacing != "category":
        return values.tolist()
    return [axis.write(value) for value in values]


def _said_spread(part: pd.DataFrame, measure: Measure) -> list[str]:
    """`` ± 0.4 (from 96.8 to 97.6)`` for each point with at least two seeds."""
    form, said = measure.form, []
    for spread, low, high in zip(*(part[f"{measure.column}_{end}"] for end in ("spread", "low", "high")), strict=True):
        said.append("" if math.isnan(spread) else f" ± {spread:{form}} (from {low:{form}} to {high:{form}})")
    return said


def _add_dots(
    figure: Drawing, runs: pd.DataFrame, across: str, axis: Axis, measure: Measure, name: str, pick: int
) -> None:
    known = runs[runs[measure.column].notna()]
    figure.add_scatter(
        x=_places(known[across], across, axis),
        y=known[measure.column],
        name=name,
        legendgroup=name,
        showlegend=False,
        mode="markers",
        marker={"symbol": SYMBOLS[pick], "size": 4, "color": COLORS[pick], "opacity": 0.55},
        customdata=known["seed"],
        hovertemplate=f"seed %{{customdata}}: %{{y:{measure.form.lstrip('#')}}}",
    )
