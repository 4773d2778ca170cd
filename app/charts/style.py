"""One look for all figures: colours that stay apart under colour-vision deficiencies, and a shape or dash beside each."""

from dataclasses import dataclass

import plotly.graph_objects as go

from app.charts.drawing import Drawing

# Okabe & Ito (2008).
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#8C8C8C",
)
KEPT, PRUNED = BLUE, GREY
# Bands and whiskers reach so many standard errors to either side: 95 %, as woodfisher_core.evaluation's.
CONFIDENT = 1.96


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn in every figure."""

    color: str
    dash: str
    symbol: str


# A family shares a colour, and differs in dash; markers are each method's own.
_METHODS = {
    "woodfisher": LineStyle(BLUE, "solid", "circle"),
    "woodfisher layer-wise": LineStyle(BLUE, "dot", "circle-dot"),
    "woodtaylor": LineStyle(BLUE, "dash", "circle-open"),
    "magnitude": LineStyle(VERMILION, "dash", "square"),
    "lamp": LineStyle(VERMILION, "dot", "square-open"),
    "random": LineStyle(GREY, "dot", "x-thin-open"),
    "diagonal-fisher": LineStyle(GREEN, "dot", "diamond"),
    "diagonal-hessian": LineStyle(GREEN, "solid", "diamond-open"),
    "snip": LineStyle(ORANGE, "dash", "triangle-up"),
    "taylor": LineStyle(ORANGE, "dashdot", "triangle-up-open"),
    "kfac": LineStyle(SKY, "longdash", "star"),
    "l-obs": LineStyle(PURPLE, "longdash", "cross"),
    "exact-obs": LineStyle(GREY, "solid", "hexagon"),
    "structured": LineStyle(PURPLE, "longdashdot", "pentagon"),
}
# How the survivors move, where updates of one mask stand side by side: the same on every page.
UPDATE_NAMES = {
    "none": "no update",
    "independent": "independent update",
    "scaled": "scaled independent update",
    "joint": "joint update",
}
UPDATE_STYLES = {
    "none": LineStyle(GREEN, "dot", "diamond"),
    "independent": LineStyle(ORANGE, "dash", "triangle-up"),
    "scaled": LineStyle(PURPLE, "dashdot", "square"),
    "joint": _METHODS["woodfisher"],
}
_OTHERS = (
    LineStyle(SKY, "dot", "star-open"),
    LineStyle(ORANGE, "longdashdot", "hourglass"),
    LineStyle(GREEN, "longdash", "bowtie"),
)


def method_style(name: str) -> LineStyle:
    """The style of method ``name``; methods without their own get one that depends on the name alone."""
    return _METHODS.get(name) or _OTHERS[sum(name.encode()) % len(_OTHERS)]


def translucent(color: str, opacity: float) -> str:
    """``#rrggbb`` as an rgba() colour."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def finish(drawn: Drawing | go.Figure, title: str, height: int, top: int = 84, bottom: int = 8) -> go.Figure:
    """The common frame: the question as title, margins of ``top`` and ``bottom`` pixels, the legend on top."""
    frame = {
        "title": {
            "text": title,
            "x": 0,
            "xanchor": "left",
            "font": {"size": 16},
            "y": 1 - 9 / height,
            "yanchor": "top",
        },
        "height": height,
        "margin": {"l": 8, "r": 12, "t": top, "b": bottom},
        # Above the plot, below the title; yref container keeps the gap the same at every height.
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1 - 34 / height,
            "yanchor": "top",
            "yref": "container",
        },
        "hoverlabel": {"namelength": -1},
    }
    if isinstance(drawn, Drawing):
        drawn.update_layout(**frame)
        for name in {"xaxis", "yaxis", *(one for one in drawn.layout if one.startswith(("xaxis", "yaxis")))}:
            drawn.layout.setdefault(name, {})["automargin"] = True
        return drawn.figure()
    # overwrite: five times as fast as merging into what is there.
    drawn.update_layout(**frame, overwrite=True)
    for axis in (*drawn.select_xaxes(), *drawn.select_yaxes()):
        axis["automargin"] = True
    return drawn
