"""Gradual pruning over its epochs: how the sparsity rises, and the saw tooth of losing and learning again."""

import pandas as pd
import plotly.graph_objects as go

from app.charts.style import BLUE, GREEN, GREY, VERMILION, LineStyle, finish, method_style

EPOCHS_AXIS = "epochs trained"
# Legends here have a line for each entry.
ENTRY, USUAL_ENTRIES = 22, 6
# Of longer runs not every epoch is marked: the marks would be a band.
MOST_MARKED = 40
# Of logarithmic axes: Plotly's own leave all but a digit away.
TICKS = tuple(round(digit * 10.0**power, 9) for power in range(-6, 4) for digit in (1, 2, 5))


def schedule_levels(
    levels: pd.DataFrame, epochs: int, other: pd.DataFrame | None = None, reached: pd.DataFrame | None = None
) -> go.Figure:
    """The planned sparsity over a run of ``epochs``, with a mark for each step.

    Args:
        levels: Columns ``epoch`` (counted from 1; the step comes before its training) and ``level`` (fraction), in order.
        epochs: Length of the run.
        other: Another schedule, drawn behind it: the same columns, and ``name``.
        reached: Columns ``time`` and ``sparsity`` of a run that is under way or over, drawn as rings.
    """
    figure = go.Figure()
    if other is not None:
        _add_stairs(figure, other, epochs, other["name"].iloc[0], {"color": GREY, "dash": "dot", "width": 2})
    _add_stairs(figure, levels, epochs, "planned sparsity", {"color": BLUE, "width": 2.5})
    figure.add_scatter(
        x=levels["epoch"] - 1,
        y=levels["level"],
        customdata=levels["epoch"],
        mode="markers",
        name="pruning step",
        marker={"color": VERMILION, "symbol": "triangle-down", "size": 11},
        hovertemplate="%{y:.1%} from epoch %{customdata} on<extra></extra>",
    )
    if reached is not None and len(reached):
        reached = reached[_every(reached["time"], epochs)]
        figure.add_scatter(
            x=reached["time"],
            y=reached["sparsity"],
            mode="markers",
            name="measured after each epoch",
            marker={"color": GREEN, "symbol": "circle-open", "size": 9, "line": {"width": 2}},
            hovertemplate="%{y:.2%} after epoch %{x}<extra></extra>",
        )
    _over_epochs(figure, epochs)
    figure.update_yaxes(title="sparsity", tickformat=".0%", range=[0, 1.04])
    return finish(figure, "How fast does the sparsity rise?", _height(figure))


def _add_stairs(figure: go.Figure, levels: pd.DataFrame, epochs: int, name: str, line: dict) -> None:
    times, heights = [0.0], [0.0]
    for step in levels.itertuples():
        times += [step.epoch - 1.0] * 2
        heights += [heights[-1], step.level]
    x, y = [*times, float(epochs)], [*heights, heights[-1]]
    figure.add_scatter(x=x, y=y, mode="lines", name=name, line=line, hoverinfo="skip")


def saw_tooth(points: pd.DataFrame, dense_accuracy: float, at_once: pd.DataFrame, epochs: int) -> go.Figure:
    """Test accuracy through pruning and training, a line a run.

    Args:
        points: As ``gradual_tables.epoch_points`` gives them, run after run: ``label``, ``method``, ``one_step``, ``time``,
            ``moment``, ``accuracy`` (percent), ``sparsity`` (fraction gone).
        dense_accuracy: Percent, drawn as a horizontal line.
        at_once: Columns ``method``, ``label`` and ``accuracy`` of pruning to the last sparsity in one step, without training.
        epochs: Length of the run; the axis does not move while it fills.
    """
    figure = go.Figure()
    for label, part in points.groupby("label", sort=False):
        style = line_style(part)
        figure.add_scatter(
            x=part["time"],
            y=part["accuracy"],
            customdata=part[["moment", "sparsity"]],
            mode="lines+markers",
            name=label,
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            marker={
                "symbol": _symbols(part, style),
                "size": _sizes(part, epochs, 8),
                "color": style.color,
                "opacity": 1,
            },
            hovertemplate="%{customdata[0]}: %{y:.2f} % at sparsity %{customdata[1]:.1%}",
        )
    # In the legend, not beside the lines: these often lie within a point of each other.
    levels = [(GREY, "dashdot", None, "dense", dense_accuracy)]
    for one in at_once.itertuples():
        style = method_style(one.method)
        levels.append((style.color, "dot", style.symbol, f"{one.label}, at once, untrained", one.accuracy))
    for color, dash, symbol, name, accuracy in levels:
        figure.add_scatter(
            x=[0, epochs],
            y=[accuracy] * 2,
            mode="lines+markers" if symbol else "lines",
            name=f"{name}: {accuracy:.1f} %",
            line={"color": color, "dash": dash, "width": 1.5},
            marker={"symbol": symbol, "size": 7, "color": color},
            hovertemplate="%{y:.2f} %",
        )
    _over_epochs(figure, epochs)
    # Half of the saw may lie within a few points: the axis begins below the lowest of them, not at 0.
    lowest = min(points["accuracy"].min(), *(accuracy for *_, accuracy in levels))
    bottom = max(0.0, 10.0 * ((lowest - 4.0) // 10.0))
    figure.update_yaxes(title="test accuracy (%)", range=[bottom, 102])
    return _finished(figure, "What does a step cost, and win back?", epochs)


def loss_curves(points: pd.DataFrame, epochs: int) -> go.Figure:
    """Test loss through pruning and training, and each epoch's mean training loss, a line a run.

    Args:
        points: As :func:`saw_tooth` takes them, with ``loss`` and ``training_loss`` (nats).
        epochs: Length of the run.
    """
    figure = go.Figure()
    runs = list(points.groupby("label", sort=False))
    for label, part in runs:
        style = line_style(part)
        figure.add_scatter(
            x=part["time"],
            y=part["loss"],
            customdata=part[["moment", "sparsity"]],
            mode="lines+markers",
            name=f"{label}, test",
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            marker={
                "symbol": _symbols(part, style),
                "size": _sizes(part, epochs, 8),
                "color": style.color,
                "opacity": 1,
            },
            hovertemplate="%{customdata[0]}: %{y:.4f} nats on the test images at sparsity %{customdata[1]:.1%}",
        )
    for label, part in runs:
        style, trained = line_style(part), part.dropna(subset=["training_loss"])
        if trained.empty:
            continue
        figure.add_scatter(
            # A mean over the epoch stands in its middle.
            x=trained["time"] - 0.5,
            y=trained["training_loss"],
            customdata=trained["time"],
            mode="lines+markers",
            name=f"{label}, training",
            line={"color": style.color, "dash": "dot", "width": 1.2},
            marker={
                "symbol": style.symbol.removesuffix("-open") + "-open",
                "size": _sizes(trained, epochs, 6),
                "color": style.color,
                "opacity": 1,
            },
            hovertemplate="%{y:.4f} nats on the training images, mean over epoch %{customdata:.0f}",
        )
    _over_epochs(figure, epochs)
    figure.update_yaxes(
        title="loss (nats per sample)", type="log", tickvals=TICKS, ticktext=[f"{tick:g}" for tick in TICKS]
    )
    return _finished(figure, "What happens to the loss?", epochs)


def line_style(part: pd.DataFrame) -> LineStyle:
    """A run's style: its method's; one that prunes in one step is drawn with open marks and other dashes."""
    style = method_style(part["method"].iloc[0])
    if not part["one_step"].iloc[0]:
        return style
    return LineStyle(style.color, "longdashdot", style.symbol.removesuffix("-open") + "-open")


def _symbols(part: pd.DataFrame, style: LineStyle) -> pd.Series:
    return part["moment"].map({"dense": style.symbol, "trained": style.symbol, "pruned": "triangle-down"})


def _every(time: pd.Series, epochs: int) -> pd.Series:
    """Whether a point is one of the few that are marked in a run of so many ``epochs``."""
    return time % -(-epochs // MOST_MARKED) == 0


def _sizes(part: pd.DataFrame, epochs: int, size: int) -> int | pd.Series:
    """``size`` of the points that are marked, 0 of the others; steps are marked wherever there are few of them."""
    if epochs <= MOST_MARKED:
        return size
    pruned = part["moment"] == "pruned"
    marked = _every(part["time"], epochs)
    return (marked | pruned if pruned.sum() <= MOST_MARKED else marked) * size


def _finished(figure: go.Figure, question: str, epochs: int) -> go.Figure:
    finish(figure, question, _height(figure))
    if epochs > MOST_MARKED:
        # Else marks in the legend are of the mean size, those that are not drawn counted in.
        figure.layout.legend.itemsizing = "constant"
    return figure


def _height(figure: go.Figure) -> int:
    """With room for the usual legend from the start: a chart that fills must not jump."""
    return 360 + ENTRY * max(USUAL_ENTRIES, len(figure.data))


def _over_epochs(figure: go.Figure, epochs: int) -> None:
    figure.update_xaxes(title=EPOCHS_AXIS, range=[-0.02 * epochs, 1.02 * epochs])
