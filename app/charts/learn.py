"""Figures of the lesson: the loss along a step, one weight removed, Fisher beside Hessian, the recursion, blocks, updates."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.bands import add_banded_line, add_dense_line
from app.charts.drawing import Drawing
from app.charts.style import (
    BLUE,
    CONFIDENT,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    UPDATE_NAMES,
    UPDATE_STYLES,
    VERMILION,
    finish,
    method_style,
)

NATS = "loss change (nats per image)"
# An update keeps its look wherever it is drawn.
UPDATES = {
    "none": (UPDATE_NAMES["none"], UPDATE_STYLES["none"]),
    "independent": (UPDATE_NAMES["independent"], UPDATE_STYLES["independent"]),
    "joint": (UPDATE_NAMES["joint"], UPDATE_STYLES["joint"]),
    "magnitude": ("magnitude, no update", method_style("magnitude")),
}
LABELS = {"true": ("true labels", BLUE, "circle"), "sampled": ("labels drawn from the network", ORANGE, "diamond-open")}
# Curvatures more decades below the largest belong to weights that are as good as dead, and would stretch the axes.
HESSIAN_DECADES = 5
LINE_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
LINE_DASHES = ("solid", "dash", "dot", "dashdot")


def taylor_path(table: pd.DataFrame, share: float) -> go.Figure:
    """The measured loss along a step, with the slope's and the parabola's idea of it.

    Args:
        table: Columns ``share`` (of the step), ``measured``, ``first`` and ``both`` (loss changes in nats).
        share: The share marked.
    """
    figure = Drawing()
    for column, name, color, dash, symbol in (
        ("measured", "measured", BLUE, "solid", "circle"),
        ("first", "slope alone", GREY, "dot", "x-thin-open"),
        ("both", "slope and curvature", VERMILION, "dash", "square-open"),
    ):
        figure.add_scatter(
            x=table["share"],
            y=table[column],
            name=name,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 2.5},
            marker={"symbol": symbol, "size": 8, "color": color},
            hovertemplate="%{y:+.4g} nats at t = %{x:g}",
        )
    figure.add_vline(x=share, line={"color": GREY, "width": 1}, annotation={"text": f"t = {share:g}"})
    figure.update_xaxes(title="share t of the step", range=[-0.02, 1.04])
    figure.update_yaxes(title=NATS)
    return finish(figure, "How far does the parabola follow the loss?", 420)


def removal_bars(table: pd.DataFrame) -> go.Figure:
    """Loss changes of one removed weight, the others left or moved.

    Args:
        table: Columns ``what`` (the others do), ``which`` (number it is) and ``nats``.
    """
    figure = Drawing()
    looks = zip((GREY, BLUE, SKY), ("/", "", "x"), strict=True)
    for (which, part), (color, pattern) in zip(table.groupby("which", sort=False), looks, strict=False):
        figure.add_bar(
            x=part["nats"],
            y=part["what"],
            orientation="h",
            name=which,
            marker={"color": color, "pattern": {"shape": pattern, "size": 6, "solidity": 0.3}},
            text=[f"{value:+.1e}" for value in part["nats"]],
            textposition="outside",
            textfont={"size": 12},
            constraintext="none",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:+.3e} nats<extra>" + str(which) + "</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.25)
    # Room for the numbers beside the bars.
    low, high = min(0.0, table["nats"].min()), max(0.0, table["nats"].max())
    room = 0.3 * (high - low or 1.0)
    figure.update_xaxes(
        title=NATS, exponentformat="power", range=[low - (room if low < 0 else 0), high + room], nticks=5
    )
    figure.update_yaxes(title="the other weights", autorange="reversed")
    return finish(figure, "What does removing this weight cost?", 420)


def fisher_against_hessian(weights: pd.DataFrame) -> go.Figure:
    """Diagonal entries of two Fishers against the Hessian's, on logarithmic axes with the line of equality.

    Args:
        weights: Columns ``name``, ``hessian``, and ``true`` and ``sampled`` (nats per squared weight); what is not positive,
            or more than :data:`HESSIAN_DECADES` below the largest, has no place here.
    """
    figure = Drawing()
    kinds = [kind for kind in LABELS if kind in weights]
    positive = weights[weights["hessian"] > weights["hessian"].max() * 10.0**-HESSIAN_DECADES]
    for kind in kinds:
        name, color, symbol = LABELS[kind]
        part = positive[positive[kind] > 0]
        figure.add_scatter(
            x=part["hessian"],
            y=part[kind],
            name=name,
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 8, "opacity": 0.8},
            customdata=part["name"],
            hovertemplate="%{customdata}: Hessian %{x:.2e}, Fisher %{y:.2e}",
        )
    if len(positive):
        ends = [positive["hessian"].min(), positive["hessian"].max()]
        figure.add_scatter(
            x=ends, y=ends, name="equal", mode="lines", line={"color": GREY, "dash": "dash"}, hoverinfo="skip"
        )
    figure.update_xaxes(title="Hessian Hⱼⱼ (nats per squared weight)", type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(title="Fisher Fⱼⱼ", type="log", exponentformat="power", dtick=1)
    return finish(figure, "Does the Fisher look like the Hessian?", 460)


def recursion_lines(steps: pd.DataFrame, closed: dict[int, float], damping: float) -> go.Figure:
    """[F⁻¹]ⱼⱼ of some weights as the recursion takes in sample after sample, and where the closed form puts them.

    Args:
        steps: Columns ``weight``, its ``name``, ``samples`` (0 stands for none yet) and ``value``.
        closed: Weight → the closed form's value.
        damping: λ; all lines begin at 1/λ.
    """
    figure = Drawing()
    counts = sorted(steps["samples"].unique())
    places = {count: place for place, count in enumerate(counts)}  # evenly, since 0 has no logarithm
    for index, (_, part) in enumerate(steps.groupby("weight", sort=False)):
        figure.add_scatter(
            x=part["samples"].map(places),
            y=part["value"] * damping,
            name=f"{steps['weight'].nunique()} weights, a line each",
            legendgroup="weights",
            mode="lines",
            showlegend=index == 0,
            line={"color": LINE_COLORS[index % len(LINE_COLORS)], "dash": LINE_DASHES[index % len(LINE_DASHES)]},
            customdata=part["samples"],
            hovertemplate=f"{part['name'].iloc[0]} after %{{customdata:,}} samples: %{{y:.4f}} of 1/λ<extra></extra>",
        )
    figure.add_scatter(
        x=[len(counts) - 1] * len(closed),
        y=[value * damping for value in closed.values()],
        name="closed form",
        mode="markers",
        marker={"color": VERMILION, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
        hovertemplate="closed form: %{y:.4f} of 1/λ<extra></extra>",
    )
    figure.update_xaxes(
        title="samples taken in, one rank each",
        tickvals=list(places.values()),
        ticktext=[f"{count:,}" for count in counts],
        tickangle=0,
    )
    figure.update_yaxes(title="[F⁻¹]ⱼⱼ as a share of 1/λ")
    return finish(figure, "Where does the recursion arrive?", 420)


def block_accuracy(table: pd.DataFrame, magnitude: float, dense: float) -> go.Figure:
    """Accuracy a block size, with the share of the Fisher that its blocks keep written beside.

    Args:
        table: Columns ``block``, ``share`` (fraction), ``accuracy`` (percent), ``standard_error`` (points).
        magnitude: Its accuracy (percent), the baseline.
        dense: Percent.
    """
    style = method_style("magnitude")
    figure = Drawing()
    figure.add_scatter(
        x=table["block"],
        y=table["accuracy"],
        name="accuracy kept",
        mode="lines+markers+text",
        line={"color": BLUE, "width": 2.5},
        marker={"size": 9},
        error_y={"array": CONFIDENT * table["standard_error"], "thickness": 1.2, "color": GREY},
        text=[f" {100 * share:.0f} % of F" for share in table["share"]],
        textposition="bottom right",
        textfont={"size": 11},
        cliponaxis=False,
        hovertemplate="block size %{x}: %{y:.1f} %<extra></extra>",
        showlegend=False,
    )
    figure.add_hline(
        y=magnitude,
        line={"color": style.color, "dash": style.dash, "width": 1.5},
        annotation={"text": f"magnitude {magnitude:.1f} %", "font": {"size": 12}},
        annotation_position="bottom right",
    )
    add_dense_line(figure, dense, GREY)
    low = min(magnitude, (table["accuracy"] - 2 * table["standard_error"]).min())
    figure.update_xaxes(title="block size B (weights)", type="category", range=[-0.3, len(table) - 0.2])
    figure.update_yaxes(title="test accuracy (%)", range=[max(0.0, low - 6), 102])
    return finish(figure, "What do blocks throw away?", 420)


def update_curves(points: pd.DataFrame, dense: float, sparsity: float) -> go.Figure:
    """Accuracy against sparsity for one mask and three updates, and magnitude.

    Args:
        points: Columns ``update`` (``none``, ``independent``, ``joint``, ``magnitude``), ``sparsity`` (fraction), ``accuracy``
            (percent), ``standard_error`` (points).
        dense: Percent.
        sparsity: The one marked.
    """
    figure = Drawing()
    for update, (name, style) in UPDATES.items():
        part = points[points["update"] == update].sort_values("sparsity")
        if len(part):
            hover = "%{y:.1f} % at sparsity %{x:.2f}"
            add_banded_line(figure, part["sparsity"], part["accuracy"], part["standard_error"], name, style, hover)
    add_dense_line(figure, dense, GREY, "left" if sparsity > 0.5 else "right")
    figure.add_vline(x=sparsity, line={"color": GREY, "width": 1})
    figure.update_xaxes(title="sparsity (fraction of prunable weights removed)", tickformat=".0%", range=[-0.02, 1.0])
    figure.update_yaxes(title="test accuracy (%)", range=[0, 102])
    return finish(figure, "What do the survivors' moves buy?", 460)


def ladder_bars(table: pd.DataFrame, dense: float) -> go.Figure:
    """Accuracy with one idea more each.

    Args:
        table: Columns ``idea``, ``accuracy`` (percent), ``standard_error`` (points), in the lesson's order.
        dense: Percent.
    """
    table = table.iloc[::-1]  # the first idea on top
    figure = Drawing()
    figure.add_bar(
        x=table["accuracy"],
        y=table["idea"],
        orientation="h",
        marker={"color": BLUE},
        error_x={"array": CONFIDENT * table["standard_error"], "thickness": 1.5, "color": GREY},
        text=[f"{value:.1f} %" for value in table["accuracy"]],
        textposition="inside",
        insidetextanchor="start",
        textangle=0,
        hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
    )
    figure.add_vline(
        x=dense,
        line={"color": GREY, "dash": "dot", "width": 2},
        annotation={"text": f"dense {dense:.1f} %", "font": {"size": 12}, "xanchor": "right", "yshift": 16},
        annotation_position="top",
    )
    figure.update_xaxes(title="test accuracy (%)", range=[0, 102])
    return finish(figure, "What did each idea buy?", 150 + 44 * len(table))
