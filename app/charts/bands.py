"""A line with the band its noise makes: one legend entry, two traces."""

import numpy as np
import pandas as pd

from app.charts.drawing import Drawing
from app.charts.style import CONFIDENT, LineStyle, translucent


def add_banded_line(
    figure: Drawing,
    x: pd.Series,
    mean: pd.Series,
    error: pd.Series,
    name: str,
    style: LineStyle,
    hover: str,
) -> None:
    """Adds ``mean`` (percent) over ``x`` with a band of ±1.96 ``error``; ``error`` is the hover text's ``customdata``."""
    x, mean, error = (np.asarray(values, dtype=float) for values in (x, mean, error))
    margin = CONFIDENT * error
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([np.minimum(mean + margin, 100.0), np.maximum(mean - margin, 0.0)[::-1]]),
        fill="toself",
        mode="lines",  # with few points plotly would mark each of them too
        fillcolor=translucent(style.color, 0.15),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )
    figure.add_scatter(
        x=x,
        y=mean,
        name=name,
        mode="lines+markers",
        line={"color": style.color, "dash": style.dash, "width": 2.5},
        marker={"symbol": style.symbol, "size": 8},
        customdata=error,
        legendgroup=name,
        hovertemplate=hover,
    )


def add_dense_line(figure: Drawing, accuracy: float, color: str, side: str = "right") -> None:
    """The dense network's accuracy (percent) as a horizontal line, named at its ``side`` (left, right)."""
    figure.add_hline(
        y=accuracy,
        line={"color": color, "dash": "dot", "width": 1.5},
        annotation={"text": f"dense {accuracy:.2f} %", "font": {"size": 12}},
        annotation_position=f"top {side}",
    )
