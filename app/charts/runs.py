"""Kept runs side by side: their curves, what they take from each layer, and a baseline in another figure."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import LineStyle, finish, method_style

# For further runs of one method, each as unlike the others as can be; as many runs as are compared at once, and more.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
PATTERNS = ("", "/", ".", "x", "-")


def run_styles(methods: Sequence[str]) -> list[LineStyle]:
    """A style a run: its method's colour everywhere; the first run of a method has all of its style, others other dashes and
    marks."""
    first = {name: methods.index(name) for name in methods}
    styles: dict[int, LineStyle] = {place: method_style(name) for name, place in first.items()}
    for place, name in enumerate(methods):
        if place not in styles:
            taken = list(styles.values())
            dash = _unlike(DASHES, [style.dash for style in taken])
            symbol = _unlike(SYMBOLS, [_full(style.symbol) for style in taken])
            styles[place] = LineStyle(method_style(name).color, dash, symbol)
    return [styles[place] for place in range(len(methods))]


def _unlike(choices: Sequence[str], taken: Sequence[str]) -> str:
    """The one of ``choices`` that is taken least often, the first of several."""
    return min(choices, key=taken.count)


def _full(symbol: str) -> str:
    return symbol.removesuffix("-open")


def _ring(symbol: str) -> str:
    """The mark of a run itself: hollow, with a dot in it where the method's own is hollow already."""
    full = _full(symbol)
    return f"{full}-open-dot" if symbol != full and full in SYMBOLS else f"{full}-open"


def runs_curve(points: pd.DataFrame, title: str = "How do these runs lose accuracy?") -> go.Figure:
    """A line a run, its own result a ring; a run without a curve is a ring alone.

    Args:
        points: Columns ``run``, ``name``, ``method``, ``sparsity`` (fraction), ``accuracy`` (percent), ``own`` (the run's own
            result).
        title: The question the chart answers.
    """
    figure = Drawing()
    parts = list(points.groupby("run", sort=False))
    for style, (_, part) in zip(run_styles([part["method"].iloc[0] for _, part in parts]), parts, strict=True):
        name, curve, own = part["name"].iloc[0], part[~part["own"]], part[part["own"]]
        hover = "%{y:.2f} % at sparsity %{x:.4f}"
        if len(curve):
            figure.add_scatter(
                x=curve["sparsity"],
                y=curve["accuracy"],
                name=name,
                legendgroup=name,
                mode="lines+markers",
                line={"color": style.color, "dash": style.dash, "width": 2.5},
                marker={"symbol": style.symbol, "size": 7},
                hovertemplate=hover,
            )
        figure.add_scatter(
            x=own["sparsity"],
            y=own["accuracy"],
            name=name,
            legendgroup=name,
            showlegend=not len(curve),
            mode="markers",
            marker={"size": 16, "symbol": _ring(style.symbol), "color": style.color, "line": {"width": 3}},
            hovertemplate=f"the run itself: {hover}",
        )
    figure.update_xaxes(title="sparsity (fraction of prunable weights removed)", range=[-0.02, 1.02], tickformat=".0%")
    # Gradual runs lie within a few points: the axis begins below the lowest, not at 0.
    lowest = points["accuracy"].min() if len(points) else 0.0
    figure.update_yaxes(title="test accuracy (%)", range=[max(0.0, 10.0 * ((lowest - 4.0) // 10.0)), 101.5])
    return finish(figure, title, 420 + 22 * max(0, points["run"].nunique() - 2))


def runs_layers(table: pd.DataFrame, title: str = "What do these runs take from each layer?") -> go.Figure:
    """Bars of each layer's sparsity, side by side for the runs.

    Args:
        table: Columns ``run``, ``name``, ``method``, ``layer``, ``kept``, ``total``, ``sparsity`` (fraction).
        title: The question the chart answers.
    """
    figure = Drawing()
    layers = list(dict.fromkeys(table["layer"]))
    for pattern, (_, part) in zip(PATTERNS, table.groupby("run", sort=False), strict=False):
        figure.add_bar(
            x=part["sparsity"],
            y=part["layer"],
            orientation="h",
            name=part["name"].iloc[0],
            marker={
                "color": method_style(part["method"].iloc[0]).color,
                "pattern": {"shape": pattern, "size": 6, "solidity": 0.25, "fillmode": "overlay"},
            },
            customdata=part[["kept", "total"]],
            hovertemplate="%{y}: sparsity %{x:.2%}, %{customdata[0]:,} of %{customdata[1]:,} kept",
        )
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(title="share of the layer removed", range=[0, 1.02], tickformat=".0%", dtick=0.25)
    # The first layer on top, and in each layer the first run.
    figure.update_yaxes(categoryorder="array", categoryarray=layers, autorange="reversed")
    runs = table["run"].nunique()
    return finish(figure, title, 170 + 22 * max(0, runs - 2) + len(layers) * (24 + 14 * runs))


def add_baseline(figure: go.Figure, points: pd.DataFrame) -> go.Figure:
    """``figure``, an accuracy curve, with one more run dotted into it; ``points`` as :func:`runs_curve` takes them."""
    if points.empty:
        return figure
    style, name = method_style(points["method"].iloc[0]), f"baseline: {points['name'].iloc[0]}"
    curve, own = points[~points["own"]], points[points["own"]]
    hover = "baseline: %{y:.2f} % at sparsity %{x:.4f}<extra></extra>"
    if len(curve):
        figure.add_scatter(
            x=curve["sparsity"],
            y=curve["accuracy"],
            name=name,
            legendgroup=name,
            mode="lines",
            line={"color": style.color, "dash": "dot", "width": 4},
            hovertemplate=hover,
        )
    figure.add_scatter(
        x=own["sparsity"],
        y=own["accuracy"],
        name=name,
        legendgroup=name,
        showlegend=not len(curve),
        mode="markers",
        marker={"size": 14, "symbol": "star-open", "color": style.color, "line": {"width": 2}},
        hovertemplate=hover,
    )
    return figure
