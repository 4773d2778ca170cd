"""Charts to take home: whole pages that say what names say, and do nothing that names would have them do."""

import plotly.graph_objects as go

from app.showing import standalone


def test_a_chart_of_its_own_obeys_no_name():
    """Names that people gave to runs, files and classes stand as they are written."""
    name = "<script>alert(1)</script> & co"
    page = standalone(go.Figure(layout={"title": {"text": name}}), f"Best is {name}.")
    assert "<script>alert(1)" not in page
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; &amp; co</title>" in page
    assert "<p>Best is &lt;script&gt;alert(1)&lt;/script&gt; &amp; co.</p>" in page
