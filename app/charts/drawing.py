"""A figure while it is drawn, as plain dictionaries: plotly's own way, property by property, takes ten times as long."""

import base64
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from _plotly_utils.utils import to_typed_array_spec
from plotly.colors import get_colorscale

# Arrays under these names stay lists, as plotly.js wants them.
_LISTS = frozenset({"geojson", "layer", "layers", "range"})
# Of a line across the plot: where its words stand → (along the plot, its anchor across the line, its anchor along the line).
_BESIDE_VERTICAL = {
    "top left": (1, "right", "top"),
    "top right": (1, "left", "top"),
    "top": (1, "center", "bottom"),
    "bottom left": (0, "right", "bottom"),
    "bottom right": (0, "left", "bottom"),
    "bottom": (0, "center", "top"),
}
_BESIDE_HORIZONTAL = {
    "top left": (0, "left", "bottom"),
    "top right": (1, "right", "bottom"),
    "bottom left": (0, "left", "top"),
    "bottom right": (1, "right", "top"),
}


class Drawing:
    """Collects traces and layout under the names of :class:`plotly.graph_objects.Figure`; :meth:`figure` makes one of them."""

    def __init__(self, *traces: dict[str, Any]):
        self.traces: list[dict[str, Any]] = list(traces)
        self.layout: dict[str, Any] = {}
        self.frames: list[dict[str, Any]] = []

    def add(self, kind: str, **properties: Any) -> None:
        """A trace of plotly's type ``kind``."""
        self.traces.append({"type": kind, **properties})

    def add_scatter(self, **properties: Any) -> None:
        """A trace of lines, marks or words."""
        self.add("scatter", **properties)

    def add_bar(self, **properties: Any) -> None:
        """A trace of bars."""
        self.add("bar", **properties)

    def add_heatmap(self, **properties: Any) -> None:
        """A trace of coloured cells."""
        self.add("heatmap", **properties)

    def update_xaxes(self, **properties: Any) -> None:
        """Sets these of the horizontal axis."""
        self.layout.setdefault("xaxis", {}).update(properties)

    def update_yaxes(self, **properties: Any) -> None:
        """Sets these of the vertical axis."""
        self.layout.setdefault("yaxis", {}).update(properties)

    def update_layout(self, **properties: Any) -> None:
        """Sets these; what was set under the same name goes."""
        self.layout.update(properties)

    def add_annotation(self, **properties: Any) -> None:
        """Words in the plot."""
        self.layout.setdefault("annotations", []).append(properties)

    def add_shape(self, **properties: Any) -> None:
        """A line or a rectangle."""
        self.layout.setdefault("shapes", []).append(properties)

    def add_vline(
        self, x: float, line: dict, annotation: dict | None = None, annotation_position="top right", **more
    ) -> None:
        """A line from the bottom of the plot to its top, with words beside it where ``annotation`` has some."""
        ends = {"x0": x, "x1": x, "y0": 0, "y1": 1, "xref": "x", "yref": "y domain"}
        self.add_shape(type="line", **ends, line=line, **more)
        if annotation is not None:
            y, xanchor, yanchor = _BESIDE_VERTICAL[annotation_position]
            place = {"x": x, "y": y, "xanchor": xanchor, "yanchor": yanchor, "xref": "x", "yref": "y domain"}
            self.add_annotation(**{**place, "showarrow": False, **annotation})

    def add_hline(
        self, y: float, line: dict, annotation: dict | None = None, annotation_position="top right", **more
    ) -> None:
        """A line from the left of the plot to its right, with words beside it where ``annotation`` has some."""
        ends = {"x0": 0, "x1": 1, "y0": y, "y1": y, "xref": "x domain", "yref": "y"}
        self.add_shape(type="line", **ends, line=line, **more)
        if annotation is not None:
            x, xanchor, yanchor = _BESIDE_HORIZONTAL[annotation_position]
            place = {"x": x, "y": y, "xanchor": xanchor, "yanchor": yanchor, "xref": "x domain", "yref": "y"}
            self.add_annotation(**{**place, "showarrow": False, **annotation})

    def figure(self, checked: bool = False) -> go.Figure:
        """The figure; ``checked`` has plotly look at every property, as the tests do: that takes five times as long."""
        spec = {"data": [plain(trace) for trace in self.traces], "layout": plain(self.layout), "frames": self.frames}
        return Drawn(spec, checked)


class Drawn(go.Figure):
    """A figure that is written out in one pass, where plotly first makes an object of every part and copies all of them.

    Those objects are made when somebody asks for one.
    """

    def __init__(self, spec: dict[str, Any], checked: bool = False):
        self._spec = spec
        if checked or spec.get("frames"):
            self._make_objects(checked)

    def _make_objects(self, checked: bool = False) -> None:
        super().__init__(self.__dict__.pop("_spec"), _validate=checked)

    def __getattr__(self, name: str) -> Any:
        """Only called for what is not there."""
        if "_spec" not in self.__dict__:
            raise AttributeError(name)
        self._make_objects()
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`plotly.graph_objects.Figure.to_dict` gives, in a tenth of the time."""
        spec = self.__dict__.get("_spec")
        if spec is not None:
            name, layout = pio.templates.default, spec["layout"]
            return {
                "data": _written(spec["data"]),
                "layout": _written({"template": _template(name), **layout} if name else layout),
            }
        found = {"data": _written(self._data), "layout": _written(self._layout)}
        if self._frame_objs:
            found["frames"] = [_written(frame._props) for frame in self._frame_objs]
        return found


@cache
def _template(name: str) -> dict[str, Any]:
    """The properties of a template of plotly's; every figure carries the default one. Not to be changed."""
    return pio.templates[name].to_plotly_json()


def _written(value: Any) -> Any:
    """A copy of ``value`` with its arrays in plotly.js's compact form."""
    if isinstance(value, dict):
        return {key: own if key in _LISTS else _written(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_written(own) for own in value]
    return _typed(value) if isinstance(value, np.ndarray) else value


def _typed(array: np.ndarray) -> Any:
    if array.dtype not in (np.float32, np.float64) or not array.size:
        return to_typed_array_spec(array)
    spec = {
        "dtype": f"f{array.dtype.itemsize}",
        "bdata": base64.b64encode(np.ascontiguousarray(array)).decode("ascii"),
    }
    return spec | {"shape": str(array.shape)[1:-1]} if array.ndim > 1 else spec


def plain(properties: dict[str, Any]) -> dict[str, Any]:
    """``properties`` as plotly's own check would leave them.

    Without what is None or empty; titles and colour scales written out; columns as arrays.
    """
    found = {}
    for name, value in properties.items():
        if value is None or (name in ("annotations", "shapes") and not value):
            continue
        if isinstance(value, dict):
            value = plain(value)
            if not value:
                continue
        elif name == "colorscale" and isinstance(value, str):
            value = get_colorscale(value)
        elif isinstance(value, pd.Series | pd.Index | pd.DataFrame):
            value = value.to_numpy()
        elif name == "title" and isinstance(value, str):
            value = {"text": value}
        found[name] = value
    return found
