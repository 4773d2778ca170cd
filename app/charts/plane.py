"""Heat-maps of one of the Fisher's settings against the damping, and slices through them."""

import math
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from app.charts.damping import damping_title, power
from app.charts.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, finish, method_style

SLICE_COLORS = (SKY, ORANGE, GREEN, PURPLE, BLUE, VERMILION)
SLICE_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
SLICE_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
# From as far below magnitude as the dense network is above it, over magnitude itself, to the dense network. The blue is
# light enough for black numbers on it (5:1).
AROUND_MAGNITUDE = ((0.0, VERMILION), (0.5, "#E6E6E6"), (1.0, "#1F84BE"))
AROUND_MAGNITUDE_LESS = tuple((1.0 - place, color) for place, color in reversed(AROUND_MAGNITUDE))
UNDEFINED = "–"


@dataclass(frozen=True)
class Axis:
    """What a plane varies: its column, its title with its unit, and the letter before a value."""

    column: str
    title: str
    letter: str

    def write(self, value: object) -> str:
        """``1,000``, or a name as it is."""
        return f"{value:,}" if isinstance(value, int) else f"{int(value):,}" if str(value).isdigit() else str(value)

    def name(self, value: object) -> str:
        """``N = 1,000``."""
        return f"{self.letter} = {self.write(value)}"


AXES = {
    "samples": Axis("num_samples", "Fisher samples N (images)", "N"),
    "block": Axis("block_size", "block size B (weights)", "B"),
    "mini-batch": Axis("mini_batch", "mini-batch m (images a gradient row)", "m"),
}


@dataclass(frozen=True)
class Measure:
    """One column of the plane: how it is called, its unit, how it is written, and what its colours mean.

    ``scale`` fixes the colours from its first value to its second; without one they lie around magnitude's value, at
    least ``least`` wide on either side.
    """

    column: str
    question: str
    unit: str
    form: str
    scale: tuple[float, float] | None = None
    least: float = 0.0


MEASURES = {
    "accuracy": Measure("accuracy", "Where does WoodFisher keep its accuracy?", "test accuracy (%)", ".1f", least=1.0),
    "overlap": Measure(
        "overlap",
        "Where does it keep what your setting keeps?",
        "kept weights shared (Jaccard)",
        ".2f",
        (0.0, 1.0),
    ),
    "rank correlation": Measure(
        "rank_correlation",
        "Where does it rank as your setting does?",
        "rank correlation (Spearman)",
        ".2f",
        (0.0, 1.0),
    ),
    "predicted loss": Measure(
        "predicted",
        "What loss does the quadratic model foresee?",
        "predicted loss change (nats)",
        "#.3g",
        least=0.01,
    ),
    "measured loss": Measure(
        "measured", "What loss does it really cost?", "measured loss change (nats)", "#.3g", least=0.01
    ),
}


@dataclass(frozen=True)
class Levels:
    """A measure's value for magnitude pruning at the same sparsity, and for the dense network."""

    magnitude: float
    dense: float


def heat_map(
    plane: pd.DataFrame,
    axis: Axis,
    measure: Measure,
    levels: Levels | None = None,
    reference: tuple[object, float] | None = None,
    relative: bool = False,
) -> go.Figure:
    """``measure`` over ``axis`` and λ, the value written in each cell; × marks cells worse than magnitude beyond noise.

    Args:
        plane: Columns ``damping``, ``accuracy``, ``verdict``, the axis's and the measure's, one row a cell in the order of
            the axis; cells whose accuracy is NaN are not computed yet and stay blank.
        axis: What varies from left to right.
        measure: What to draw.
        levels: What magnitude and the dense network reach, where the measure's colours lie between them.
        reference: (value of the axis, λ) to outline.
        relative: Whether ``damping`` is a multiple of the mean curvature.
    """
    values, dampings = plane[axis.column].unique(), sorted(plane["damping"].unique())
    columns, rows = [axis.write(value) for value in values], [power(damping) for damping in dampings]

    def arranged(column: str) -> pd.DataFrame:
        return plane.pivot(index="damping", columns=axis.column, values=column).reindex(index=dampings, columns=values)

    table, verdicts, accuracy = arranged(measure.column).astype(float), arranged("verdict"), arranged("accuracy")
    text = [
        [_cell(table.iat[i, j], accuracy.iat[i, j], verdicts.iat[i, j], measure) for j in range(len(columns))]
        for i in range(len(rows))
    ]
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(),
            x=columns,
            y=rows,
            text=text,
            texttemplate="%{text}",
            xgap=1,
            ygap=1,
            hoverongaps=False,
            hovertemplate=f"{axis.letter} = %{{x}}, {damping_title(relative)} = %{{y}}<br>{measure.unit}: %{{text}}"
            "<extra></extra>",
            **_colors(measure, levels),
        )
    )
    undefined = [(columns[j], rows[i]) for i, row in enumerate(text) for j, cell in enumerate(row) if cell == UNDEFINED]
    if undefined:
        x, y = zip(*undefined, strict=True)
        figure.add_scatter(x=x, y=y, mode="text", text=UNDEFINED, showlegend=False, hoverinfo="skip")
    if reference is not None:
        x, y = columns.index(axis.write(reference[0])), rows.index(power(reference[1]))
        for color, width in (("white", 5), ("black", 2)):  # seen on every colour
            figure.add_shape(
                type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"color": color, "width": width}
            )
    figure.update_xaxes(title=axis.title, type="category", categoryorder="array", categoryarray=columns)
    figure.update_yaxes(title=damping_title(relative), type="category", categoryorder="array", categoryarray=rows)
    figure.add_annotation(
        text=measure.unit
        + ("<br>× less accurate than magnitude" if any("×" in cell for row in text for cell in row) else ""),
        **{
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "align": "left",
            "showarrow": False,
        },
    )
    # The axes keep their full length while cells are still missing.
    figure.update_xaxes(range=[-0.5, len(columns) - 0.5])
    figure.update_yaxes(range=[-0.5, len(rows) - 0.5])
    return finish(figure, measure.question, 190 + 34 * len(rows))


def _cell(value: float, accuracy: float, verdict: str | None, measure: Measure) -> str:
    if math.isnan(accuracy):
        return ""
    if math.isnan(value):
        return UNDEFINED
    return format(value, measure.form) + (" ×" if verdict == "worse" else "")


def _colors(measure: Measure, levels: Levels | None) -> dict[str, object]:
    """The heat-map's colours, which depend on no cell: what is drawn first keeps its colour when more comes in."""
    # Below the plot, so that a narrow page leaves the cells their width.
    bar = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "thickness": 10, "len": 0.9}
    if measure.scale is not None:
        return {"colorscale": "Cividis", "zmin": measure.scale[0], "zmax": measure.scale[1], "colorbar": bar}
    black = {"color": "black"}
    if levels is None:
        return {"colorscale": AROUND_MAGNITUDE, "colorbar": bar, "textfont": black}
    middle, best = levels.magnitude, levels.dense
    reach = max(abs(best - middle), measure.least)
    low, high = middle - reach, middle + reach
    more_is_better = best >= middle
    marks = {
        low: f"≤ {low:{measure.form}}",
        middle: f"{middle:{measure.form}} magnitude",
        high: f"≥ {high:{measure.form}}",
    }
    if abs(best - middle) == reach:
        marks[best] = f"{best:{measure.form}} dense"
    return {
        "colorscale": AROUND_MAGNITUDE if more_is_better else AROUND_MAGNITUDE_LESS,
        "textfont": black,
        "zmin": low,
        "zmax": high,
        "colorbar": bar | {"tickvals": list(marks), "ticktext": list(marks.values())},
    }


def slices(
    plane: pd.DataFrame, axis: Axis, measure: Measure, levels: Levels | None = None, relative: bool = False
) -> go.Figure:
    """``measure`` against λ, one line a value of ``axis``; the arguments are those of :func:`heat_map`."""
    figure = go.Figure()
    for index, value in enumerate(plane[axis.column].unique()):
        part = plane[(plane[axis.column] == value) & plane[measure.column].notna()]
        if part.empty:
            continue
        pick = index % len(SLICE_COLORS)
        figure.add_scatter(
            x=part["damping"],
            y=part[measure.column],
            name=axis.name(value),
            mode="lines+markers",
            line={"color": SLICE_COLORS[pick], "dash": SLICE_DASHES[pick], "width": 2},
            marker={"symbol": SLICE_SYMBOLS[pick], "size": 7},
            hovertemplate=f"{damping_title(relative)} = %{{x:.0e}}: %{{y:{measure.form.lstrip('#')}}}",
        )
    if levels is not None:
        style = method_style("magnitude")
        figure.add_hline(
            y=levels.magnitude,
            line={"color": style.color, "dash": style.dash, "width": 1.5},
            annotation={"text": "magnitude", "font": {"size": 12}},
            annotation_position="bottom right",
        )
    low, high = (math.log10(plane["damping"].agg(end)) for end in ("min", "max"))
    figure.update_xaxes(
        title=f"{damping_title(relative)} (logarithmic)",
        type="log",
        dtick=1,
        exponentformat="power",
        range=[low - 0.2, high + 0.2],
    )
    figure.update_yaxes(title=measure.unit)
    return finish(figure, "How sharp is the choice of damping?", 420)
