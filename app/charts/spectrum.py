"""The Fisher's eigenvalues with the damping drawn in, and small curvature matrices on one shared scale."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.charts.damping import power
from app.charts.drawing import Drawing
from app.charts.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, finish
from app.charts.symlog import SymLog

COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
# Points drawn a line: more would not be told apart on a logarithmic axis.
POINTS = 300
TOGETHER = "all layers together"
DIVERGING = ((0.0, VERMILION), (0.5, "#F0F0F0"), (1.0, BLUE))
CURVATURE = "nats per squared weight"


def spectrum_frames(table: pd.DataFrame, directions: pd.DataFrame, total: int, current: float) -> go.Figure:
    """Eigenvalues against their rank, one line a layer, and λ as a line that moves with the figure's own slider.

    Args:
        table: Columns ``layer``, ``rank``, ``eigenvalue``; more layers than there are colours are drawn as one line.
        directions: Columns ``damping``, ``above``, ``effective``, rising; one frame each.
        total: Weights in all, d.
        current: The damping to begin with, one of those in ``directions`` (the nearest is taken).
    """
    lines = [(layer, part) for layer, part in table.groupby("layer", sort=False)]
    if len(lines) > len(COLORS):
        values = table["eigenvalue"].sort_values(ascending=False)
        lines = [(TOGETHER, pd.DataFrame({"rank": np.arange(1, len(values) + 1), "eigenvalue": values}))]
    figure = Drawing()
    for index, (layer, part) in enumerate(lines):
        picked = np.unique(np.geomspace(1, len(part), POINTS).astype(int)) - 1
        figure.add_scatter(
            x=part["rank"].iloc[picked],
            y=part["eigenvalue"].iloc[picked],
            name=str(layer),
            mode="lines",
            line={"color": COLORS[index], "dash": DASHES[index], "width": 2.5},
            hovertemplate="number %{x}: %{y:.2e}",
        )
    longest = max((len(part) for _, part in lines), default=1)

    def level(damping: float) -> dict[str, object]:
        line = {"color": VERMILION, "width": 2}
        ends = {"x": [1, max(2, longest)], "y": [damping] * 2}
        return {"type": "scatter", **ends, "name": "damping λ", "mode": "lines", "line": line}

    frames = [
        {
            "name": f"λ = {power(row.damping)}: {row.effective:,.0f} of {total:,} directions",
            "data": [level(row.damping)],
            "traces": [len(lines)],
        }
        for row in directions.itertuples()
    ]
    start = int(np.abs(np.log(directions["damping"].to_numpy() / current)).argmin())
    figure.traces.append(level(directions["damping"].iloc[start]))
    figure.frames = frames
    instant = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        sliders=[
            {
                "active": start,
                "steps": [{"label": f["name"], "method": "animate", "args": [[f["name"]], instant]} for f in frames],
                "currentvalue": {"prefix": "", "font": {"size": 15}},
                "pad": {"t": 56},
                "ticklen": 0,
                # The labels under the ticks would overlap. Not made transparent: the current one above would be so too.
                "font": {"size": 1},
            }
        ]
    )
    figure.update_xaxes(title="number of the eigenvalue, largest first", type="log", dtick=1)
    figure.update_yaxes(title=f"eigenvalue ({CURVATURE})", type="log", exponentformat="power")
    return finish(figure, "How many directions does the Fisher know?", 520)


def curvature_scale(*matrices: np.ndarray) -> tuple[SymLog, float]:
    """(scale, largest entry) that all of the ``matrices`` share; two decades are told apart from zero."""
    largest = max(float(np.abs(matrix).max()) for matrix in matrices)
    return (SymLog(largest / 100.0), largest) if largest else (SymLog(1.0), 1.0)


def curvature_map(matrix: np.ndarray, positions: np.ndarray, scale: tuple[SymLog, float], title: str) -> go.Figure:
    """A curvature matrix (B, B) of the weights at ``positions``, colours on a ``scale`` shared with others."""
    symlog, largest = scale
    names = [f"{position}" for position in positions]
    end = float(symlog([largest])[0])
    marks = [-largest, -largest / 10, 0.0, largest / 10, largest]
    figure = Drawing()
    figure.add_heatmap(
        z=symlog(matrix),
        x=names,
        y=names,
        zmin=-end,
        zmax=end,
        colorscale=DIVERGING,
        customdata=matrix,
        hovertemplate="weights %{y} and %{x}: %{customdata:+.2e} " + CURVATURE + "<extra></extra>",
        colorbar={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "thickness": 10,
            "len": 0.9,
            "tickvals": symlog(marks).tolist(),
            "ticktext": [f"{mark:.1g}".replace("-", "−") for mark in marks],
            "tickfont": {"size": 10},
        },
    )
    figure.update_xaxes(title="weight (number in its layer)", type="category", nticks=6)
    figure.update_yaxes(title="weight", type="category", autorange="reversed", nticks=6)
    return finish(figure, title, 440, top=44)
