"""Predicted against measured loss change: weight by weight, along the pruning step, and at growing sparsity."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREEN, GREY, KEPT, ORANGE, PRUNED, UPDATE_NAMES, UPDATE_STYLES, finish, method_style
from app.charts.symlog import SymLog

NATS = "loss change (nats per image)"
MANY = 1000
# About so many powers of ten on either axis: side by side they need more room than above each other.
ACROSS, UP = 4, 7


def predicted_measured(
    table: pd.DataFrame, column: str, name: str, title: str, scale: SymLog | None = None, ends: tuple | None = None
) -> go.Figure:
    """One point a removed weight: ``column`` (called ``name``) against the measured change, with the line where both agree.

    Args:
        table: Columns ``column``, ``measured``, ``name``, ``weight`` and ``kept`` (whether the mask keeps it).
        column: The prediction drawn to the right, in nats.
        name: What it is called.
        title: The question the chart answers.
        scale: The axes' scale, one of the values by default; two charts to be compared share one.
        ends: (least, largest) value on both axes, those of the table by default.
    """
    both = table[[column, "measured"]].to_numpy(dtype=float)
    scale = scale or SymLog.of(both)
    low, high = ends or (float(both.min()), float(both.max()))
    ends = scale([min(low, 0.0), max(high, 0.0)])
    margin = 0.05 * float(ends[1] - ends[0]) or 1.0
    range_ = [float(ends[0]) - margin, float(ends[1]) + margin]
    figure = Drawing()
    figure.add_scatter(
        x=range_, y=range_, mode="lines", name="as predicted", line={"color": GREY, "dash": "dash"}, hoverinfo="skip"
    )
    kind = "scattergl" if len(table) > MANY else "scatter"
    for kept, label, color, symbol in (
        (True, "kept by your setting", KEPT, "circle-open"),
        (False, "removed by it", PRUNED, "x"),
    ):
        part = table[table["kept"] == kept]
        figure.add(
            kind,
            x=scale(part[column]),
            y=scale(part["measured"]),
            mode="markers",
            name=label,
            marker={"color": color, "symbol": symbol, "size": 7, "opacity": 0.8},
            customdata=part[["name", "weight", column, "measured"]],
            hovertemplate="%{customdata[0]} = %{customdata[1]:.3g}<br>"
            "predicted %{customdata[2]:+.2e}, measured %{customdata[3]:+.2e} nats",
        )
    for update, words, most in ((figure.update_xaxes, name, ACROSS), (figure.update_yaxes, "measured", UP)):
        values, text = scale.ticks(low, high, most)
        update(title=f"{words} (nats)", range=range_, tickvals=values, ticktext=text, tickangle=0, zeroline=True)
    return finish(figure, title, 430)


def step_path(table: pd.DataFrame, title: str = "How far does the parabola reach?") -> go.Figure:
    """Measured and predicted loss change along w + tδ, on held-out samples and on the Fisher's.

    Args:
        table: Columns ``t``, ``samples``, ``predicted``, ``hessian``, ``measured``, ``magnitude`` (nats); held-out come first.
        title: The question the chart answers.
    """
    figure = Drawing()
    colors = (BLUE, ORANGE)
    for index, (samples, part) in enumerate(table.groupby("samples", sort=False)):
        lines = [
            ("measured", f"measured, {samples}", colors[index % 2], "solid", ("circle", "square")[index % 2]),
            ("predicted", f"predicted, {samples}", colors[index % 2], "dot", None),
        ]
        if index == 0:
            magnitude = method_style("magnitude")
            lines.append(("hessian", "predicted with the Hessian", GREEN, "longdash", None))
            lines.append(("magnitude", "magnitude, measured", magnitude.color, magnitude.dash, None))
        for column, name, color, dash, symbol in lines:
            if part[column].isna().all():
                continue
            figure.add_scatter(
                x=part["t"],
                y=part[column],
                name=name,
                mode="lines" if symbol is None else "lines+markers",
                line={"color": color, "dash": dash, "width": 2},
                marker={"symbol": symbol, "size": 6},
                hovertemplate="t = %{x:.2f}: %{y:+.4f} nats",
            )
    figure.add_vline(
        x=1.0,
        line={"color": GREY, "dash": "dot", "width": 1.5},
        annotation={"text": "pruned", "font": {"size": 12}},
        annotation_position="bottom right",
    )
    figure.update_xaxes(title="t, share of the step δ taken (w + tδ)")
    figure.update_yaxes(title=NATS, zeroline=True)
    return finish(figure, title, 460, top=140)


def loss_growth(
    table: pd.DataFrame, current: float | None = None, title: str = "At what sparsity does it break?"
) -> go.Figure:
    """Held-out loss change against sparsity, measured (solid) and predicted (dotted), one colour an update.

    Args:
        table: Columns ``method``, ``update``, ``sparsity`` (fraction), ``predicted``, ``measured`` (nats). Changes of zero or
            less have no place on the logarithmic axis and are left out.
        current: The sparsity in focus, to mark.
        title: The question the chart answers.
    """
    figure = Drawing()
    figure.add_scatter(x=[None], y=[None], mode="lines", name="dotted: predicted", line={"color": GREY, "dash": "dot"})
    for (method, update), part in table.groupby(["method", "update"], sort=False):
        rival = method != "woodfisher"
        style = method_style(method) if rival else UPDATE_STYLES[update]
        name = f"{method}, {UPDATE_NAMES[update]}" if rival else UPDATE_NAMES[update]
        for column, dash in (("measured", style.dash if rival else "solid"), ("predicted", "dot")):
            if rival and column == "predicted":
                continue
            shown = part[part[column] > 0]
            figure.add_scatter(
                x=100.0 * shown["sparsity"],
                y=shown[column],
                name=name,
                legendgroup=name,
                showlegend=column == "measured",
                mode="lines+markers",
                line={"color": style.color, "dash": dash, "width": 2},
                marker={"symbol": style.symbol if column == "measured" else f"{style.symbol}-open", "size": 7},
                hovertemplate=f"{column} at %{{x:.1f}} %: %{{y:.2e}} nats<extra>{name}</extra>",
            )
    if current is not None:
        figure.add_vline(x=100.0 * current, line={"color": GREY, "dash": "dot", "width": 1.5})
    figure.update_xaxes(title="sparsity (% of the weights removed)")
    figure.update_yaxes(title=NATS, type="log", exponentformat="power")
    return finish(figure, title, 460, top=140)
