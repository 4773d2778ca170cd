"""The drawing board against plotly's own figure, property by property."""

import copy
import json

import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from app.charts.drawing import Drawing, Drawn
from app.charts.style import finish


def as_json(figure: go.Figure) -> dict:
    return json.loads(figure.to_json())


@pytest.mark.parametrize("position", ["top left", "top right", "bottom left", "bottom right"])
def test_lines_with_words_are_plotlys_own(position):
    drawn, expected = Drawing(), go.Figure()
    for figure in (drawn, expected):
        figure.add_scatter(x=[1, 2], y=[3, 4])
        figure.add_vline(x=1.5, line={"width": 2}, annotation={"text": "here"}, annotation_position=position)
        figure.add_hline(y=3.5, line={"dash": "dot"}, annotation={"text": "there"}, annotation_position=position)
        figure.add_vline(x=0.0, line={"width": 3}, layer="below")
    assert as_json(drawn.figure()) == as_json(expected)


@pytest.mark.parametrize("position", ["top", "bottom"])
def test_words_in_the_middle_of_a_vertical_line_are_plotlys_own(position):
    drawn, expected = Drawing(), go.Figure()
    for figure in (drawn, expected):
        figure.add_vline(
            x=2, line={"width": 2}, annotation={"text": "a", "xanchor": "left"}, annotation_position=position
        )
    assert as_json(drawn.figure()) == as_json(expected)


def test_columns_titles_and_what_is_none_are_plotlys_own():
    table = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "c": [0.1, 0.2]})
    drawn, expected = Drawing(), go.Figure()
    for figure in (drawn, expected):
        figure.add_bar(
            x=table["b"], y=table["a"], error_y={"array": table["c"]}, customdata=table, marker={"color": None}
        )
        figure.update_xaxes(title="letters", range=None)
        figure.update_yaxes(title="numbers")
        figure.update_layout(barmode="group")
    assert as_json(drawn.figure()) == as_json(expected)


@pytest.mark.parametrize("template", ["streamlit", "plotly_dark", None])
def test_plotlys_objects_are_there_when_somebody_asks(monkeypatch, template):
    """Written without them; copied, read and changed with them, and written again."""
    monkeypatch.setattr(pio.templates, "default", template)
    drawing = Drawing()
    drawing.add_scatter(x=[1, 2], y=[3, 4], name="first")
    own, plotlys = Drawn({"data": drawing.traces, "layout": {}}), go.Figure(drawing.traces)
    assert as_json(own) == as_json(plotlys)
    assert "_spec" in own.__dict__
    assert as_json(copy.deepcopy(own)) == as_json(plotlys)
    assert own.data[0].name == "first"
    assert "_spec" not in own.__dict__
    for figure in (own, plotlys):
        figure.update_layout(title={"text": "second"})
        figure.update_traces(name="third")
    assert as_json(own) == as_json(plotlys)
    with pytest.raises(AttributeError, match="colour"):
        own.colour  # noqa: B018


def test_an_unknown_property_is_found_where_figures_are_checked():
    drawing = Drawing()
    drawing.add_scatter(x=[1], y=[1], colour="red")
    with pytest.raises(ValueError, match="colour"):
        drawing.figure()


def test_every_axis_leaves_room_for_its_words():
    drawing = Drawing({"type": "bar", "x": [1], "y": [1], "xaxis": "x2", "yaxis": "y2"})
    drawing.update_layout(xaxis2={"title": "second"}, yaxis2={"domain": [0, 0.5]})
    layout = finish(drawing, "Which?", 300, top=40, bottom=50).layout
    assert all(layout[name].automargin for name in ("xaxis", "yaxis", "xaxis2", "yaxis2"))
    assert (layout.margin.t, layout.margin.b, layout.title.text, layout.height) == (40, 50, "Which?", 300)
