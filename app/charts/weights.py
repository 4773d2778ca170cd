"""Single weights: size against statistic, and what the update does to a chosen few."""

import math
from collections.abc import Collection

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREEN, GREY, KEPT, ORANGE, PRUNED, VERMILION, finish

# Above so many marks the browser draws on the graphics card.
MOST_AS_SVG = 1000
# What lies further below the largest is outside the frame at first: dead weights would stretch the axes to nothing.
SIZE_DECADES, STATISTIC_DECADES = 2, 4


def weight_scatter(
    drawn: pd.DataFrame,
    unit: str,
    threshold: float | None = None,
    rival: str = "",
    rival_size: float | None = None,
    chosen: Collection[int] = (),
    title: str = "Is a small weight a cheap one?",
) -> go.Figure:
    """Each weight's |w| against its statistic, both logarithmic; customdata of every mark is its position.

    Args:
        drawn: Columns ``position``, ``name``, ``before``, ``statistic`` (above zero), ``kept``, and ``rival`` where another
            method's mask is held against this one.
        unit: The statistic's unit.
        threshold: The largest statistic that goes, where there is one for all that is drawn.
        rival: The other method's label.
        rival_size: The largest |w| that the rival removes, where it goes by size.
        chosen: Positions to ring.
        title: The question the chart answers.
    """
    differs = drawn["kept"] != drawn["rival"] if "rival" in drawn else drawn["kept"] & False
    size, statistic = drawn["before"].abs(), drawn["statistic"]
    x, y = size, statistic
    mark = "scattergl" if len(drawn) > MOST_AS_SVG else "scatter"
    verdicts = {"given up": f", {rival} keeps it", "saved": f", {rival} removes it"}
    figure = Drawing()
    for name, rows, color, symbol, width in (
        ("removed", ~drawn["kept"] & ~differs, PRUNED, "x-thin-open", 5),
        ("kept", drawn["kept"] & ~differs, KEPT, "circle", 5),
        ("given up", ~drawn["kept"] & differs, VERMILION, "triangle-down", 9),
        ("saved", drawn["kept"] & differs, GREEN, "diamond", 9),
    ):
        if not rows.any():
            continue
        part = drawn[rows]
        figure.add(
            mark,
            x=x[rows],
            y=y[rows],
            name=name,
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": width, "opacity": 0.75 if width < 9 else 1.0},
            customdata=part["position"],
            text=part["name"],
            hovertemplate="%{text} (number %{customdata} in the network): |w| %{x:.3g}, statistic %{y:.2e}"
            + verdicts.get(name, ""),
        )
    rings = drawn["position"].isin(list(chosen))
    if rings.any():
        figure.add(
            mark,
            x=x[rings],
            y=y[rings],
            name="chosen",
            mode="markers",
            marker={"color": ORANGE, "symbol": "circle-open", "size": 14, "line": {"width": 2}},
            customdata=drawn["position"][rings],
            hoverinfo="skip",
        )
    words = {"font": {"size": 12}, "showarrow": False}
    if threshold is not None and threshold > 0 and math.isfinite(threshold):
        figure.add_hline(y=threshold, line={"color": VERMILION, "width": 2})
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=math.log10(threshold), yanchor="top", text="below: goes", **words
        )
    if rival_size is not None and rival_size > 0:
        figure.add_vline(x=rival_size, line={"color": VERMILION, "width": 2, "dash": "dash"})
        text = f"{rival}: left goes"
        figure.add_annotation(
            y=0, yref="paper", yanchor="bottom", x=math.log10(rival_size), xanchor="right", text=text, **words
        )
    logarithmic = {"type": "log", "exponentformat": "power", "dtick": 1}
    frames = _frame(size, SIZE_DECADES, rival_size), _frame(statistic, STATISTIC_DECADES, threshold)
    figure.update_xaxes(title="size of the weight |w| (logarithmic)", range=frames[0], **logarithmic)
    figure.update_yaxes(title=f"pruning statistic ({unit}, logarithmic)", range=frames[1], **logarithmic)
    # Not "select": Streamlit lets no click choose a mark while a drag draws a box.
    figure.update_layout(dragmode="zoom", legend={"itemsizing": "constant"})
    return finish(figure, title, 470)


def _frame(values: pd.Series, decades: float, line: float | None) -> list[float] | None:
    """The axis's range as powers of ten: ``decades`` below the largest, all of them where there are fewer, the line inside."""
    if values.empty:
        return None
    high = math.log10(values.max())
    low = max(high - decades, math.log10(values.min()))
    if line is not None and line > 0 and math.isfinite(line):
        low = min(low, math.log10(line) - 0.5)
    return [low - 0.05 * decades, high + 0.05 * decades]


def weight_moves(picked: pd.DataFrame, title: str = "What does the update do to them?") -> go.Figure:
    """The chosen weights before and after, one a row, joined by a line.

    Args:
        picked: Columns ``name`` (one a weight), ``before``, ``after``, ``kept``.
        title: The question the chart answers.
    """
    lines_x, lines_y = [], []
    for row in picked.itertuples():
        lines_x += [row.before, row.after, None]
        lines_y += [row.name, row.name, None]
    figure = Drawing()
    figure.add_scatter(
        x=lines_x, y=lines_y, mode="lines", line={"color": GREY, "width": 2}, hoverinfo="skip", showlegend=False
    )
    for name, rows, column, symbol, color in (
        ("before", picked["kept"] | True, "before", "circle-open", GREY),
        ("after, kept", picked["kept"], "after", "diamond", BLUE),
        ("after, removed", ~picked["kept"], "after", "x", VERMILION),
    ):
        if not rows.any():
            continue
        figure.add_scatter(
            x=picked[column][rows],
            y=picked["name"][rows],
            name=name,
            mode="markers",
            marker={"size": 9, "symbol": symbol, "color": color, "line": {"width": 2, "color": color}},
            hovertemplate="%{y}: %{x:.4f}<extra>" + name + "</extra>",
        )
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    figure.update_xaxes(title="weight")
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=list(picked["name"]), autorange="reversed"
    )
    figure.update_yaxes(dtick=1, tickfont={"size": 11})
    return finish(figure, title, 150 + 20 * max(5, len(picked)))
