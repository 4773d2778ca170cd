"""A layer's weights and mask as images."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREY, KEPT, ORANGE, VERMILION, finish

# Safe under colour-vision deficiencies: red-orange below zero, blue above, a grey that neither theme's page has between.
AROUND_ZERO = ((0.0, VERMILION), (0.5, "#DDDDDD"), (1.0, BLUE))
# Wider pictures than this fill their frame: as square cells they would be a thin line.
MOST_OBLONG = 12.0
BAR = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "thickness": 10, "len": 0.9}


def layer_weights(
    picture: pd.DataFrame,
    ticks: tuple[Mapping[float, str], Mapping[float, str]],
    what: str,
    chosen: tuple[Sequence[float], Sequence[float]] = ((), ()),
    title: str = "Where are the large weights?",
    bound: float | None = None,
) -> go.Figure:
    """The weights of a layer in colours around zero.

    Args:
        picture: Values; index and columns are coordinates, NaN stays blank.
        ticks: (coordinate → output, coordinate → input) to write at the axes.
        what: What the colours are, with its unit, such as ``weight before pruning``.
        chosen: (rows, columns) to ring.
        title: The question the chart answers.
        bound: The value that has the full colour; the largest drawn by default.
    """
    bound = bound or float(np.nanmax(np.abs(picture.to_numpy()), initial=1e-12))
    figure = _heat(picture, ticks, chosen, colorscale=AROUND_ZERO, zmin=-bound, zmax=bound, colorbar=BAR)
    return _framed(figure, picture, title, what)


def layer_mask(
    picture: pd.DataFrame,
    ticks: tuple[Mapping[float, str], Mapping[float, str]],
    chosen: tuple[Sequence[float], Sequence[float]] = ((), ()),
    title: str = "Which of them stay?",
) -> go.Figure:
    """What is kept of a layer, the more the fuller; the arguments are those of :func:`layer_weights`."""
    shares = bool(((picture > 0) & (picture < 1)).any(axis=None))
    scale = ((0.0, "rgba(0,0,0,0)"), (1.0, KEPT))
    bar = {"colorbar": BAR | {"tickformat": ".0%"}} if shares else {"showscale": False}
    figure = _heat(picture, ticks, chosen, colorscale=scale, zmin=0, zmax=1, **bar)
    return _framed(figure, picture, title, "share kept" if shares else "filled: kept, blank: removed")


def input_images(
    picture: pd.DataFrame, neurons: pd.DataFrame, title: str = "What does each neuron still look at?"
) -> go.Figure:
    """Each neuron's kept weights as an image of its input; removed ones are blank.

    Args:
        picture: The images side by side, NaN where nothing is kept and between them.
        neurons: Columns ``neuron``, ``kept``, ``total`` and ``top``, ``left``, ``height``, ``width`` of each image.
        title: The question the chart answers.
    """
    bound = float(np.nanmax(np.abs(picture.to_numpy()), initial=1e-12))
    figure = Drawing()
    figure.add_heatmap(
        z=picture.to_numpy(),
        colorscale=AROUND_ZERO,
        zmin=-bound,
        zmax=bound,
        colorbar=BAR,
        hoverongaps=False,
        hovertemplate="weight %{z:.3f}<extra></extra>",
    )
    height = round(min(600, max(300, 170 + 480 * picture.shape[0] / picture.shape[1])))
    frames, names = [], []
    for one in neurons.itertuples():
        left, top = one.left - 0.5, one.top - 0.5
        corners = {"x0": left, "x1": left + one.width, "y0": top, "y1": top + one.height}
        frames.append({"type": "rect", "line": {"color": GREY, "width": 1}, **corners})
        names.append(
            {
                "x": left + one.width / 2,
                "y": top,
                "yanchor": "bottom",
                "text": f"{one.neuron}: {one.kept}",
                "font": {"size": 10},
                "showarrow": False,
            }
        )
    figure.update_layout(shapes=frames, annotations=names)
    figure.update_xaxes(visible=False, constrain="domain", constraintoward="left", range=[-1, picture.shape[1]])
    figure.update_yaxes(visible=False, range=[picture.shape[0] - 0.5, -0.5])
    figure.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain", constraintoward="top")
    return _titled(figure, title, "neuron: weights it keeps; blank: removed", height)


def _heat(picture: pd.DataFrame, ticks, chosen, **look) -> Drawing:
    down, right = ticks
    named = len(down) and picture.shape[0] > 0
    figure = Drawing()
    figure.add_heatmap(
        z=picture.to_numpy(),
        x=picture.columns,
        y=picture.index,
        hoverongaps=False,
        hovertemplate="%{z:.3g}<extra></extra>",
        **look,
    )
    rows, columns = chosen
    if len(rows):
        for color, width in (("white", 5), (ORANGE, 2)):  # seen on every colour
            figure.add_scatter(
                x=columns,
                y=rows,
                mode="markers",
                marker={"symbol": "circle-open", "size": 12, "color": color, "line": {"width": width}},
                hoverinfo="skip",
                showlegend=False,
            )
    line = {"showline": True, "mirror": True, "linecolor": GREY, "showgrid": False, "zeroline": False}
    figure.update_xaxes(title="input", tickvals=list(right), ticktext=list(right.values()), **line)
    figure.update_yaxes(title="output" if named else None, tickvals=list(down), ticktext=list(down.values()), **line)
    return figure


def _framed(figure: Drawing, picture: pd.DataFrame, title: str, what: str) -> go.Figure:
    """Square cells where the picture is not too oblong, the first output on top."""
    rows, columns = (_reach(axis) for axis in (picture.index, picture.columns))
    oblong = max(rows, columns) / max(1.0, min(rows, columns))
    half_row, half_column = rows / picture.shape[0] / 2, columns / picture.shape[1] / 2
    figure.update_xaxes(range=[picture.columns[0] - half_column, picture.columns[-1] + half_column])
    figure.update_yaxes(range=[picture.index[-1] + half_row, picture.index[0] - half_row])
    if oblong <= MOST_OBLONG:
        figure.update_xaxes(constrain="domain", constraintoward="left")
        figure.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain", constraintoward="top")
    height = 460 if oblong > MOST_OBLONG else round(min(620, max(320, 180 + 430 * rows / columns)))
    return _titled(figure, title, what, height)


def _reach(axis: pd.Index) -> float:
    """The length of an axis of evenly spaced cells, from edge to edge."""
    return float(axis[-1] - axis[0]) * len(axis) / (len(axis) - 1) if len(axis) > 1 else 1.0


def _titled(figure: Drawing, title: str, what: str, height: int) -> go.Figure:
    figure.add_annotation(
        text=what, x=0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=6, showarrow=False
    )
    return finish(figure, title, height, bottom=48)
