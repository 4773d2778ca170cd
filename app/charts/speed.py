"""Time and size of a pruned network in each way of computing and keeping it."""

import math
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, finish


@dataclass(frozen=True)
class Look:
    """How one way is drawn: colour, the bar's hatching and the point's symbol."""

    color: str
    hatch: str
    symbol: str


LOOKS = {
    "dense": Look(GREY, "", "circle"),
    "zip": Look(GREY, ".", "circle"),
    "zeros": Look(VERMILION, "", "square"),
    "zeros zip": Look(VERMILION, ".", "square"),
    "csr": Look(ORANGE, "/", "diamond"),
    "bitmask": Look(BLUE, "\\", "star"),
    "structured": Look(PURPLE, "", "pentagon"),
    "as accurate": Look(PURPLE, "x", "hexagon"),
    "half": Look(SKY, "", "cross"),
    "2:4": Look(GREEN, "-", "triangle-up"),
}
ROW_PIXELS = 58
# What a number beside a bar takes, as a share of the longest bar.
NUMBER_WIDTH = 0.3


def latency_bars(table: pd.DataFrame, batch: int) -> go.Figure:
    """How long one call takes, with the quartiles of the rounds.

    Args:
        table: :attr:`Latency.table`, a row a way, indexed by its name.
        batch: Images a call.
    """
    scale, unit = _time_unit(table["seconds"].max())
    shown = table.iloc[::-1]  # the first on top
    middle = scale * shown["seconds"]
    text = [f"{m:.3g} {unit}" for m in middle]
    hover = "%{y}: %{x:.4g} " + unit + ", quartiles %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>"
    dense, ends = scale * table["seconds"]["dense"], scale * shown["high"]
    struck = (ends < dense) & (ends > dense - NUMBER_WIDTH * middle.max())  # the line would go through the number
    figure = _bars(shown, middle, text, ends.mask(struck, dense), hover)
    bars = figure.traces[0]
    bars["customdata"] = (scale * shown[["low", "high"]]).to_numpy()
    bars["error_x"] = {
        "type": "data",
        "symmetric": False,
        "array": scale * (shown["high"] - shown["seconds"]),
        "arrayminus": scale * (shown["seconds"] - shown["low"]),
        "thickness": 1.5,
        "color": GREY,
    }
    figure.add_vline(x=dense, line={"color": GREY, "dash": "dot", "width": 1.5})
    figure.update_xaxes(title=f"{unit} a call of {batch:,} image{'s' if batch > 1 else ''} (median, quartiles)")
    return _finish(figure, "How long does one call take?", len(table))


def work_and_time(table: pd.DataFrame) -> go.Figure:
    """Multiply-adds left beside time left, both as a share of the dense network's.

    Args:
        table: :attr:`Latency.table`.
    """
    shown = table.iloc[::-1]
    shown = shown[~shown.index.isin(("dense", "half"))]
    labels = _labels(shown)
    work = shown["multiply_adds"] / table["multiply_adds"]["dense"]
    figure = Drawing()
    for label, left, taken in zip(labels, work, shown["ratio"], strict=True):
        figure.add_scatter(
            x=[left, taken],
            y=[label, label],
            mode="lines",
            line={"color": GREY, "width": 2, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    colors = [LOOKS[name].color for name in shown.index]
    symbols = [LOOKS[name].symbol for name in shown.index]
    figure.add_scatter(
        x=work,
        y=labels,
        mode="markers",
        name="multiply-adds left (what it could be)",
        marker={"symbol": [f"{s}-open" for s in symbols], "color": colors, "size": 13, "line": {"width": 2.5}},
        hovertemplate="%{y}: %{x:.1%} of the multiply-adds<extra></extra>",
    )
    figure.add_scatter(
        x=shown["ratio"],
        y=labels,
        mode="markers",
        name="time left (what it is)",
        marker={"symbol": symbols, "color": colors, "size": 13},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": shown["ratio_high"] - shown["ratio"],
            "arrayminus": shown["ratio"] - shown["ratio_low"],
            "thickness": 1.5,
            "color": GREY,
        },
        customdata=shown[["ratio_low", "ratio_high"]].to_numpy(),
        hovertemplate="%{y}: %{x:.2f} of the time (95 %: %{customdata[0]:.2f} to %{customdata[1]:.2f})<extra></extra>",
    )
    figure.add_vline(
        x=1.0,
        line={"color": GREY, "dash": "dot", "width": 1.5},
        annotation={"text": "not pruned", "font": {"size": 12}},
        annotation_position="top",
    )
    most = max(1.15, 1.05 * float(shown["ratio_high"].clip(upper=4 * shown["ratio"].max()).max()))
    figure.update_xaxes(title="share of the network that is not pruned", tickformat=".0%", range=[0, most])
    figure.update_yaxes(type="category")
    return finish(figure, "Does the time follow the multiply-adds?", 150 + ROW_PIXELS * len(shown), top=104)


def kernel_lines(
    table: pd.DataFrame, shape: tuple[int, int], batch: int, crossing: float | None, current: float | None = None
) -> go.Figure:
    """Time of one Linear layer, dense and CSR, over the share of zeros.

    Args:
        table: Columns ``kernel``, ``sparsity``, ``seconds``, ``low``, ``high``.
        shape: (out, in).
        batch: Inputs a call.
        crossing: The sparsity from which CSR is faster, drawn as a line; None where it never is.
        current: The layer's sparsity in the setting in the sidebar, drawn as a line.
    """
    scale, unit = _time_unit(table["seconds"].max())
    figure = Drawing()
    for kernel, name, dash in (("dense", "dense kernel", "solid"), ("csr", "CSR kernel", "dash")):
        part = table[table["kernel"] == kernel].sort_values("sparsity")
        look = LOOKS[kernel]
        figure.add_scatter(
            x=part["sparsity"],
            y=scale * part["seconds"],
            mode="lines+markers",
            name=name,
            line={"color": look.color, "dash": dash, "width": 2.5},
            marker={"symbol": look.symbol, "size": 9},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": scale * (part["high"] - part["seconds"]),
                "arrayminus": scale * (part["seconds"] - part["low"]),
                "thickness": 1.5,
            },
            hovertemplate="%{y:.3g} " + unit + " at %{x:.0%} zeros",
        )
    if crossing is not None:
        figure.add_vline(
            x=crossing,
            line={"color": GREY, "width": 1.5},
            annotation={"text": f"CSR faster from {crossing:.0%}", "font": {"size": 12}},
            annotation_position="top left" if crossing > 0.75 else "top right",
        )
    if current is not None:
        figure.add_vline(
            x=current,
            line={"color": GREY, "width": 1, "dash": "dot"},
            annotation={"text": f"yours: {current:.0%}", "font": {"size": 12}},
            annotation_position="bottom left" if current > 0.75 else "bottom right",
        )
    figure.update_xaxes(title="zeros in the layer", tickformat=".0%")
    figure.update_yaxes(title=f"{unit} a call", rangemode="tozero")
    return finish(figure, f"When does CSR pay? ({shape[1]:,} → {shape[0]:,})", 400)


def size_bars(table: pd.DataFrame) -> go.Figure:
    """Bytes of the network in each format.

    Args:
        table: Columns ``label``, ``bytes``, ``share``, ``accuracy``, indexed by the format's name.
    """
    unit, scale = ("MiB", 2.0**-20) if table["bytes"].max() >= 1 << 20 else ("KiB", 2.0**-10)
    shown = table.iloc[::-1]
    middle = scale * shown["bytes"]
    text = [f"{m:.3g} {unit} · {s:.0%}" for m, s in zip(middle, shown["share"], strict=True)]
    hover = "%{y}: %{x:.4g} " + unit + "<extra></extra>"
    figure = _bars(shown, middle, text, middle, hover)
    figure.update_xaxes(title=f"{unit} of all tensors of the network")
    return _finish(figure, "How much space does it take?", len(table))


def _finish(figure: Drawing, title: str, rows: int) -> go.Figure:
    """The frame of a chart without a legend."""
    return finish(figure, title, 100 + ROW_PIXELS * rows, top=44)


def _bars(shown: pd.DataFrame, middle: pd.Series, text: list[str], ends: pd.Series, hover: str) -> Drawing:
    """Horizontal bars with their number to the right of ``ends``, on a range that holds both."""
    labels = _labels(shown)
    figure = Drawing()
    figure.add_bar(
        x=middle,
        y=labels,
        orientation="h",
        marker={
            "color": [LOOKS[name].color for name in shown.index],
            "pattern": {"shape": [LOOKS[name].hatch for name in shown.index], "size": 6, "solidity": 0.35},
        },
        hovertemplate=hover,
        showlegend=False,
    )
    # A far end, of a disturbed round, must not squeeze the bars.
    reach = ends.clip(upper=2 * middle.max())
    figure.add_scatter(
        x=reach, y=labels, mode="text", text=[f"  {t}" for t in text], textposition="middle right", hoverinfo="skip",
        showlegend=False, cliponaxis=False,
    )  # fmt: skip
    figure.update_xaxes(range=[0, 1.5 * reach.max()], nticks=6)
    figure.update_yaxes(type="category")
    return figure


def _labels(table: pd.DataFrame) -> list[str]:
    """``zeros,<br>dense kernel<br>89.2 %``: narrow, with what is left of the accuracy."""
    return [
        f"{label.replace(', ', ',<br>')} <br><b>{accuracy:.1f} %</b> "
        for label, accuracy in zip(table["label"], table["accuracy"], strict=True)
    ]


def _time_unit(seconds: float) -> tuple[float, str]:
    """(what seconds are multiplied with, the unit)."""
    for scale, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * scale < 1000 or math.isclose(scale, 1e3):
            return scale, unit
    raise AssertionError("unreachable")
