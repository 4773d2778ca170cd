"""Heat-maps of one of the Fisher's settings against the damping."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.damping import damping_title, power
from app.charts.drawing import Drawing
from app.charts.measures import Axis, Levels, Measure
from app.charts.style import ORANGE, SKY, VERMILION, finish

# From as far below magnitude as the dense network is above it, over magnitude itself, to the dense network. The blue is
# light enough for black numbers on it (5:1).
AROUND_MAGNITUDE = ((0.0, VERMILION), (0.5, "#E6E6E6"), (1.0, "#1F84BE"))
AROUND_MAGNITUDE_LESS = tuple((1.0 - place, color) for place, color in reversed(AROUND_MAGNITUDE))
# How far two things are alike, and how far seeds lie apart: light enough for black numbers too (9:1).
ALIKE = ((0.0, "#F0F0F0"), (1.0, SKY))
APART = ((0.0, "#F0F0F0"), (1.0, ORANGE))
BLACK = {"color": "black"}
# Correlations are coloured by their number of nines, up to so many: nearly all lie above 0.99.
MOST_NINES = 4
UNDEFINED = "–"
# What the colours of a plane over several seeds show.
MEAN, SPREAD = "mean", "spread"
COLOURS = (MEAN, SPREAD)
# A spread of this share of what the mean's colours reach over has the brightest colour.
WIDE = 0.25
# Below the plot, so that a narrow page leaves the cells their width.
BAR = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "thickness": 10, "len": 0.9}


def heat_map(
    plane: pd.DataFrame,
    axis: Axis,
    measure: Measure,
    levels: Levels | None = None,
    reference: tuple[object, float] | None = None,
    relative: bool = False,
    colours: str = MEAN,
) -> go.Figure:
    """``measure`` over ``axis`` and λ, the value written in each cell, over its standard deviation where several seeds have one;
    × marks cells worse than magnitude beyond noise.

    Args:
        plane: Columns ``damping``, ``accuracy``, ``verdict``, the axis's and the measure's, one row a cell in the order of
            the axis; cells whose accuracy is NaN are not computed yet and stay blank. Of several seeds also ``seeds`` and the
            measure's ``_spread``, ``_low`` and ``_high``.
        axis: What varies from left to right.
        measure: What to draw.
        levels: What magnitude and the dense network reach, where the measure's colours lie between them.
        reference: (value of the axis, λ) to outline.
        relative: Whether ``damping`` is a multiple of the mean curvature.
        colours: One of :data:`COLOURS`: whether they show the mean over the seeds or the spread between them.
    """
    values, dampings = plane[axis.column].unique(), sorted(plane["damping"].unique())
    columns, rows = [axis.write(value) for value in values], [power(damping) for damping in dampings]

    def arranged(column: str) -> pd.DataFrame:
        return plane.pivot(index="damping", columns=axis.column, values=column).reindex(index=dampings, columns=values)

    several = measure.spread in plane and bool(plane[measure.spread].notna().any())
    by_spread = several and colours == SPREAD
    cells = plane.to_dict("records")
    plane = plane.assign(
        text=[_cell(cell, measure, several) for cell in cells], hover=[_hover(cell, measure) for cell in cells]
    )
    text, hover = (arranged(column).to_numpy().tolist() for column in ("text", "hover"))
    drawn = arranged(measure.spread if by_spread else measure.column).astype(float).to_numpy()
    figure = Drawing()
    figure.add_heatmap(
        z=nines(drawn) if measure.nines and not by_spread else drawn,
        x=columns,
        y=rows,
        text=text,
        texttemplate="%{text}",
        customdata=hover,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertemplate=f"{axis.letter} = %{{x}}, {damping_title(relative)} = %{{y}}<br>{measure.unit}: %{{customdata}}"
        "<extra></extra>",
        **(_spread_colors(measure, levels) if by_spread else _colors(measure, levels, drawn)),
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
    unit = measure.unit + ("<br>mean over the seeds ± standard deviation" if several else "")
    worse = "<br>× less accurate than magnitude" if any("×" in cell for row in text for cell in row) else ""
    figure.add_annotation(
        text=unit + worse,
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
    question = "Where does the draw of images decide?" if by_spread else measure.question
    return finish(figure, question, 190 + (44 if several else 34) * len(rows))


def nines(values: np.ndarray) -> np.ndarray:
    """How many nines a correlation begins with, −log₁₀(1 − r): 0 for 0 and below, 2 for 0.99, at most :data:`MOST_NINES`."""
    return -np.log10(np.clip(1.0 - values, 10.0**-MOST_NINES, 1.0))


def _cell(row: dict, measure: Measure, several: bool) -> str:
    value = row[measure.column]
    if math.isnan(row["accuracy"]):
        return ""
    if math.isnan(value):
        return UNDEFINED
    text = format(value, measure.form) + (" ×" if row["verdict"] == "worse" else "")
    if several and not math.isnan(row[measure.spread]):
        text += f"<br>±{row[measure.spread]:{measure.form}}"
    return text


def _hover(row: dict, measure: Measure) -> str:
    """The cell's number, and over several seeds how far they lie apart."""
    text = _cell(row, measure, False)
    spread = row.get(measure.spread, math.nan)
    if not text or math.isnan(spread):
        return text
    low, high = (format(row[f"{measure.column}_{end}"], measure.form) for end in ("low", "high"))
    return f"{text} ± {spread:{measure.form}}<br>from {low} to {high} over {int(row['seeds'])} seeds"


def _spread_colors(measure: Measure, levels: Levels | None) -> dict[str, object]:
    """Colours from no spread at all to a wide one, the same whatever the cells."""
    if measure.scale is not None:
        reach = measure.scale[1] - measure.scale[0]
    else:
        reach = levels.reach(measure) if levels is not None else math.nan
    if math.isnan(reach):
        return {"colorscale": APART, "zmin": 0.0, "colorbar": BAR, "textfont": BLACK}
    marks = [0.0, WIDE * reach / 2.0, WIDE * reach]
    written = [f"± {mark:.2g}" for mark in marks]
    ticks = {"tickvals": marks, "ticktext": [*written[:-1], f"{written[-1]} or more"]}
    return {"colorscale": APART, "zmin": 0.0, "zmax": marks[-1], "colorbar": BAR | ticks, "textfont": BLACK}


def _colors(measure: Measure, levels: Levels | None, values: np.ndarray) -> dict[str, object]:
    """The heat-map's colours. But for nines they depend on no cell: what is drawn first keeps its colour when more comes in."""
    if measure.nines:
        # From the whole number of nines that the lowest cell has: that seldom changes as more cells come in.
        known = nines(values[np.isfinite(values)])
        low = min(math.floor(known.min(initial=MOST_NINES)), MOST_NINES - 1)
        marks = list(range(low, MOST_NINES + 1))
        written = [f"{1.0 - 10.0**-mark:g}" for mark in marks]
        ticks = {"tickvals": marks, "ticktext": [f"≤ {written[0]}", *written[1:-1], f"≥ {written[-1]}"]}
        return {"colorscale": ALIKE, "zmin": low, "zmax": MOST_NINES, "colorbar": BAR | ticks, "textfont": BLACK}
    if measure.scale is not None:
        return {
            "colorscale": ALIKE,
            "zmin": measure.scale[0],
            "zmax": measure.scale[1],
            "colorbar": BAR,
            "textfont": BLACK,
        }
    if levels is None:
        return {"colorscale": AROUND_MAGNITUDE, "colorbar": BAR, "textfont": BLACK}
    middle, best = levels.magnitude, levels.dense
    reach = levels.reach(measure)
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
        "textfont": BLACK,
        "zmin": low,
        "zmax": high,
        "colorbar": BAR | {"tickvals": list(marks), "ticktext": list(marks.values())},
    }
