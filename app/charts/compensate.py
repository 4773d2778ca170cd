"""How survivors move: for one removed weight, for all of them, and what it is worth."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.bands import add_banded_line, add_dense_line
from app.charts.drawing import Drawing
from app.charts.saliency import SUPERSCRIPTS
from app.charts.style import CONFIDENT, GREY, KEPT, ORANGE, PRUNED, UPDATE_NAMES, UPDATE_STYLES, finish
from app.charts.two_weights import MOVE, STAY

# What can be drawn over the sparsity: the column, its error's, the axis with its unit, and the question.
EFFECTS = {
    "accuracy": ("accuracy", "standard_error", "test accuracy (%)", "What is the survivors' move worth?"),
    "loss": ("loss", "loss_error", "held-out loss change (nats)", "What does it cost with and without the move?"),
    "size of the move": ("moved", None, "size of the move ‖δ‖/‖w‖ of the survivors", "How far do the survivors move?"),
}
# More survivors than this are drawn as counts.
MOST_POINTS = 10_000
MOST_SVG_POINTS = 1_000
CELLS = 60


def survivors_that_move(survivors: pd.DataFrame, removed: str) -> go.Figure:
    """Bars of the largest moves, those that fall on weights which go as well hatched.

    Args:
        survivors: Columns ``weight``, ``value``, ``move``, ``correlation``, ``kept``; largest move first.
        removed: The removed weight's name.
    """
    figure = Drawing()
    for kept, name, color, pattern in ((True, "stays", KEPT, ""), (False, "goes as well", PRUNED, "/")):
        part = survivors[survivors["kept"] == kept]
        figure.add_bar(
            y=part["weight"],
            x=part["move"],
            orientation="h",
            name=name,
            marker={"color": color, "line": {"width": 0}, "pattern": {"shape": pattern, "size": 6, "solidity": 0.3}},
            text=[_relative(row.move, row.value) for row in part.itertuples()],
            textposition="outside",
            textfont={"size": 11},
            cliponaxis=False,
            customdata=np.stack([part["value"], part["correlation"]], axis=1) if len(part) else None,
            hovertemplate="%{y} = %{customdata[0]:+.4f} moves by %{x:+.4f}<br>correlation %{customdata[1]:+.2f}"
            f"<extra>{name}</extra>",
        )
    reach = 1.35 * max(survivors["move"].abs().max(), 1e-30) if len(survivors) else 1.0
    figure.update_xaxes(
        title="move δᵢ (written: share of the weight's size |wᵢ|)", range=[-reach, reach], zeroline=True
    )
    figure.update_yaxes(categoryorder="array", categoryarray=list(survivors["weight"])[::-1], type="category")
    figure.update_layout(bargap=0.25)
    return finish(figure, f"Who moves when {removed} goes?", 160 + 28 * max(len(survivors), 3))


def _relative(move: float, value: float) -> str:
    if value == 0 or not math.isfinite(move / value):
        return ""
    share = 100.0 * abs(move / value)
    return f"{share:.0f} %" if share >= 1 else f"{share:.1g} %"


def with_and_without(changes: pd.DataFrame) -> go.Figure:
    """Bars of the loss change of one removal, with the others' move and without, by the model and measured.

    Args:
        changes: Columns ``update`` (without, with), ``term`` (``|`` where a label may break), ``nats``, ``error`` (standard
            error; the whiskers are ±1.96 of it).
    """
    figure = Drawing()
    for update, style, pattern in (("without", STAY, "/"), ("with", MOVE, "")):
        part = changes[changes["update"] == update]
        figure.add_bar(
            x=part["term"].str.replace("|", "<br>"),
            y=part["nats"],
            name=f"{update} the move",
            marker={"color": style.color, "pattern": {"shape": pattern, "size": 6, "solidity": 0.25}},
            error_y={"type": "data", "array": CONFIDENT * part["error"], "thickness": 1.2, "color": GREY},
            customdata=part["error"],
            hovertemplate="%{x}: %{y:+.3g} nats (± %{customdata:.1g})<extra>" + f"{update} the move</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(tickangle=0)
    figure.update_yaxes(title="loss change (nats per sample)", zeroline=True, exponentformat="power")
    return finish(figure, "What does their move save?", 430)


def update_effects(
    effects: pd.DataFrame, what: str, dense: float | None = None, sparsity: float | None = None
) -> go.Figure:
    """A line an update over the sparsity, with bands (accuracy) or whiskers (loss) of 1.96 standard errors.

    Args:
        effects: Columns ``update``, ``sparsity`` and those that ``what`` names in :data:`EFFECTS`.
        what: A name of :data:`EFFECTS`.
        dense: Accuracy of the dense network (percent), drawn beside accuracies.
        sparsity: The setting's own, drawn as a line.
    """
    column, error, unit, question = EFFECTS[what]
    figure = Drawing()
    for update, part in effects.groupby("update", sort=False):
        part, style, name = part.sort_values("sparsity"), UPDATE_STYLES[update], UPDATE_NAMES[update]
        if what == "accuracy":
            hover = "%{y:.2f} % at sparsity %{x:.2f}"
            add_banded_line(figure, part["sparsity"], part[column], part[error], name, style, hover)
            continue
        whiskers = {"type": "data", "array": CONFIDENT * part[error], "thickness": 1.2} if error else None
        figure.add_scatter(
            x=part["sparsity"],
            y=part[column],
            name=name,
            mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            marker={"symbol": style.symbol, "size": 8},
            error_y=whiskers,
            hovertemplate="%{y:.3g} at sparsity %{x:.2f}",
        )
    if what == "accuracy" and dense is not None:
        middle = effects["sparsity"].agg(["min", "max"]).mean()
        add_dense_line(figure, dense, GREY, "left" if sparsity is not None and sparsity > middle else "right")
    if sparsity is not None:
        figure.add_vline(
            x=sparsity,
            line={"color": GREY, "width": 1},
            annotation={"text": "yours", "font": {"size": 12}},
            annotation_position="bottom left",
        )
    figure.update_xaxes(title="sparsity (fraction of prunable weights removed)", tickformat=".0%")
    figure.update_yaxes(title=unit)
    return finish(figure, question, 430)


def independent_against_joint(moves: pd.DataFrame) -> go.Figure:
    """The independent move of each survivor against its joint one, with the line where they are equal; above
    :data:`MOST_POINTS` survivors as counts.

    Args:
        moves: Columns ``layer``, ``value``, ``independent``, ``joint``; one row a survivor.
    """
    figure = Drawing()
    x, y = moves["joint"].to_numpy(), moves["independent"].to_numpy()
    reach = 1.05 * max(np.abs(x).max(initial=0.0), np.abs(y).max(initial=0.0), 1e-30)
    if len(moves) > MOST_POINTS:
        counts, edges, _ = np.histogram2d(x, y, bins=CELLS, range=[[-reach, reach]] * 2)
        centre = (edges[:-1] + edges[1:]) / 2
        figure.add_heatmap(
            x=centre,
            y=centre,
            z=np.where(counts.T > 0, np.log10(np.maximum(counts.T, 1)), np.nan),
            customdata=counts.T,
            colorscale="Cividis",
            hoverongaps=False,
            colorbar={"title": "survivors", "tickvals": list(range(6)), "ticktext": [f"{10**n:,}" for n in range(6)]},
            hovertemplate="joint %{x:+.3g}, independent %{y:+.3g}: %{customdata:,} survivors<extra></extra>",
        )
    else:
        kind = "scattergl" if len(moves) > MOST_SVG_POINTS else "scatter"
        figure.add(
            kind,
            x=x,
            y=y,
            mode="markers",
            name="a survivor",
            marker={"size": 6, "opacity": 0.6, "color": KEPT, "symbol": "circle"},
            customdata=np.stack([moves["layer"], moves["value"].round(4)], axis=1),
            hovertemplate="%{customdata[0]}, w = %{customdata[1]}<br>joint %{x:+.3g}, independent %{y:+.3g}<extra></extra>",
        )
    figure.add_scatter(
        x=[-reach, reach],
        y=[-reach, reach],
        mode="lines",
        name="equal",
        line={"color": ORANGE, "dash": "dash", "width": 2},
        hoverinfo="skip",
    )
    figure.update_xaxes(title="joint move δᵢ", range=[-reach, reach], zeroline=True)
    figure.update_yaxes(title="independent move δᵢ", range=[-reach, reach], zeroline=True)
    return finish(figure, "Do single corrections add up to the right one?", 430)


def layer_moves(table: pd.DataFrame) -> go.Figure:
    """How far survivors move for their size in each layer: the median, with a line from 10 to 90 % of them.

    Args:
        table: Columns ``layer``, ``update`` (independent, joint), ``low``, ``median``, ``high`` (fractions of |w|).
    """
    figure = Drawing()
    layers = list(dict.fromkeys(table["layer"]))
    positive = table[["low", "median", "high"]].to_numpy()
    positive = positive[np.isfinite(positive) & (positive > 0)]
    # Logarithms have no zero: what does not move stands at the left edge.
    floor = positive.min() / 3 if len(positive) else 1e-6
    for update, shift in (("independent", 0.16), ("joint", -0.16)):
        part, style = table[table["update"] == update], UPDATE_STYLES[update]
        middle = part["median"].clip(lower=floor)
        figure.add_scatter(
            x=middle,
            y=[len(layers) - 1 - layers.index(layer) + shift for layer in part["layer"]],
            name=UPDATE_NAMES[update],
            mode="markers",
            marker={"symbol": style.symbol, "size": 11, "color": style.color},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": part["high"].clip(lower=floor) - middle,
                "arrayminus": middle - part["low"].clip(lower=floor),
                "thickness": 2,
                "color": style.color,
            },
            customdata=np.stack([part["layer"], part["low"], part["high"], part["survivors"]], axis=1),
            hovertemplate="%{customdata[0]}: median %{x:.2%} of |w|, 10 to 90 %: %{customdata[1]:.2%} to %{customdata[2]:.2%} "
            "of %{customdata[3]:,} survivors",
        )
    low = math.floor(math.log10(floor))
    high = math.ceil(math.log10(positive.max())) if len(positive) else 0
    ticks = range(low, high + 1)
    figure.update_xaxes(
        type="log",
        title="move for its size |δᵢ|/|wᵢ| (logarithmic)",
        tickvals=[10.0**tick for tick in ticks],
        ticktext=["10" + str(tick).translate(SUPERSCRIPTS) for tick in ticks],
    )
    figure.update_yaxes(
        tickvals=list(range(len(layers))), ticktext=layers[::-1], range=[-0.6, len(layers) - 0.4], zeroline=False
    )
    return finish(figure, "Which layers move most for their size?", 190 + 42 * len(layers))
