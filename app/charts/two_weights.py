"""Two weights in their plane: contours of the loss, straight to the axis against along it."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREY, ORANGE, UPDATE_STYLES, finish

# Leaving the others where they are, as OBD does, against moving them, as OBS and the joint update do.
STAY, MOVE = UPDATE_STYLES["none"], UPDATE_STYLES["joint"]
TRAINED = {"symbol": "star", "size": 15, "color": ORANGE}
HEIGHT = 470
MODEL = "loss by the model"
# Contours around a pair of a network, and how many of them lead up to the loss of OBD.
CONTOURS, TO_OBD = 6, 2
# The contour that shows why OBS's place is the cheapest on the axis of removal.
TOUCHING = "contour that touches the axis"


def two_weights_frames(places: pd.DataFrame, rings: pd.DataFrame, start: float, removed: int) -> go.Figure:
    """Contours of a quadratic loss over two weights, with a slider of their correlation that redraws while it is dragged.

    Args:
        places: Columns ``correlation``, ``place`` (trained, obd, obs), ``first``, ``second``, ``loss`` (any unit).
        rings: Columns ``correlation``, ``level``, ``first``, ``second`` and ``through`` (level: several contours; obs: the one
            that touches the axis), a NaN row after each ring.
        start: The correlation shown first.
        removed: Which weight goes, 1 or 2.
    """
    frames = []
    for correlation, spots in places.groupby("correlation", sort=True):
        own = rings[rings["correlation"] == correlation]
        losses = spots.set_index("place")["loss"]
        name = f"ρ = {correlation:.2f}: OBD loses {losses['obd']:.2f}, OBS {losses['obs']:.2f}".replace("-", "−")
        frames.append({"name": name, "data": _traces(spots, own, ("w₁", "w₂"))})
    known = sorted(places["correlation"].unique())
    active = min(range(len(known)), key=lambda i: abs(known[i] - start))
    figure = Drawing(*frames[active]["data"])
    figure.frames = frames
    instant = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    figure.update_layout(
        sliders=[
            {
                "active": active,
                "steps": [{"label": f["name"], "method": "animate", "args": [[f["name"]], instant]} for f in frames],
                "currentvalue": {"prefix": "", "font": {"size": 15}},
                "pad": {"t": 50},
                "ticklen": 0,
                # The labels under the ticks would overlap. Not made transparent: the current one above would be so too.
                "font": {"size": 1},
            }
        ]
    )
    trained = places[places["place"] == "trained"].iloc[0]
    reach = 1.7 * max(abs(trained["first"]), abs(trained["second"]))
    _frame(
        figure,
        ("weight w₁", "weight w₂"),
        [(trained[axis] - reach, trained[axis] + reach) for axis in ("first", "second")],
    )
    _axis_of_removal(figure, removed)
    return finish(figure, "What can the other weight make up for?", HEIGHT + 70)


def pair_plane(
    places: pd.DataFrame,
    rings: pd.DataFrame,
    surface: pd.DataFrame | None,
    names: tuple[str, str],
    window: tuple[tuple[float, float], tuple[float, float]],
    level: float,
) -> go.Figure:
    """Two weights of a network: the model's contours, and those of the measured loss at the same heights (dashed).

    Args:
        places: As in :func:`two_weights_frames`, without ``correlation``; ``loss`` in nats, and ``measured`` where it is known.
        rings: As there.
        surface: Columns ``first``, ``second``, ``nats`` on a rectangular grid, or None where it is not measured.
        names: Of the two weights; the first one is removed.
        window: ((x from, to), (y from, to)).
        level: Loss between one contour and the next (nats).
    """
    figure = Drawing()
    if surface is not None:
        grid = surface.pivot(index="second", columns="first", values="nats")
        figure.add(
            "contour",
            x=grid.columns,
            y=grid.index,
            z=grid.to_numpy(),
            contours={"start": level, "end": CONTOURS * level, "size": level, "coloring": "none"},
            line={"color": ORANGE, "width": 1.5, "dash": "dash", "smoothing": 0.8},
            showscale=False,
            name="measured",
            showlegend=True,
            hovertemplate="measured %{z:+.2g} nats<extra></extra>",
        )
    model, *others = _traces(places, rings, names)
    figure.traces += [model | {"name": f"loss by the model, every {level:.2g} nats"}, *others]
    _frame(figure, (f"{names[0]}, removed", names[1]), window)
    _axis_of_removal(figure, 1)
    return finish(figure, "And in this network?", HEIGHT + 70)


def _traces(places: pd.DataFrame, rings: pd.DataFrame, names: Sequence[str]) -> list[dict[str, object]]:
    at = places.set_index("place")
    plain, touching = rings[rings["through"] == "level"], rings[rings["through"] == "obs"]
    where = f"{names[0]} %{{x:.3f}}, {names[1]} %{{y:.3f}}"
    traces = [
        {
            "type": "scatter",
            "x": plain["first"].to_numpy("float32"),
            "y": plain["second"].to_numpy("float32"),
            "mode": "lines",
            "name": MODEL,
            "line": {"color": GREY, "width": 1.2},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "x": touching["first"].to_numpy("float32"),
            "y": touching["second"].to_numpy("float32"),
            "mode": "lines",
            "name": TOUCHING,
            # Measured contours are dashed.
            "line": {"color": BLUE, "width": 1.5, "dash": "dot"},
            "hoverinfo": "skip",
        },
    ]
    for place, label, style in (("obd", "OBD: the other stays", STAY), ("obs", "OBS: the other moves", MOVE)):
        end = at.loc[place]
        nats = f"{end['loss']:.3g}"
        traces.append(
            {
                "type": "scatter",
                "x": [at.loc["trained", "first"], end["first"]],
                "y": [at.loc["trained", "second"], end["second"]],
                "mode": "lines+markers",
                "name": label,
                "line": {"color": style.color, "dash": style.dash, "width": 3},
                "marker": {"symbol": style.symbol, "size": [0, 13], "color": style.color},
                "hovertemplate": f"{where}: loses {nats}<extra>{label}</extra>",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "x": [at.loc["trained", "first"]],
            "y": [at.loc["trained", "second"]],
            "mode": "markers",
            "name": "trained",
            "marker": TRAINED,
            "hovertemplate": f"{where}<extra>trained</extra>",
        }
    )
    return traces


def _axis_of_removal(figure: Drawing, removed: int) -> None:
    """The line on which the removed weight is zero."""
    add = figure.add_vline if removed == 1 else figure.add_hline
    add(**{"x" if removed == 1 else "y": 0.0}, line={"color": GREY, "width": 3}, layer="below")


def _frame(figure: Drawing, titles: tuple[str, str], window: Sequence[tuple[float, float]]) -> None:
    figure.update_xaxes(title=titles[0], range=window[0], zeroline=False)
    figure.update_yaxes(title=titles[1], range=window[1], zeroline=False)
