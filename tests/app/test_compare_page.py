"""The Compare page: its views, the table of verdicts, published numbers, what it leaves out and why, and that long work waits."""

import json
import re

import pytest
from streamlit.testing.v1 import AppTest

from app.shared import store, workspace
from woodfisher_core.experiments import PruneConfig, cost
from woodfisher_core.methods import METHODS

PAGE = "app_pages/compare.py"
SMALL = {"model": "digits-mlp", "samples": "100"}


def texts(test: AppTest) -> str:
    kinds = (test.markdown, test.caption, test.warning, test.error, test.info)
    return " ".join(element.value for kind in kinds for element in kind).replace("\u00a0", " ")


def names(test: AppTest) -> list[str]:
    """What the legend of the chart names."""
    return [trace.get("name", "") for trace in json.loads(test.get("plotly_chart")[0].proto.spec)["data"]]


def fine(test: AppTest) -> AppTest:
    assert not test.exception, [error.message for error in test.exception]
    assert not test.error
    assert "Up to date." in texts(test)
    return test


@pytest.mark.parametrize(
    ("view", "said", "lines"),
    [
        ("all methods", "Highest mean:", 7),
        ("cost", "Nobody is both quicker and better than", 7),
        ("layers", "they disagree most about", 7),
        ("layer-wise or global", "L-OBS only sees", 4),
        ("few images", "keeps most", 4),
    ],
)
def test_each_view_is_drawn(opened, view, said, lines):
    """A chart, a sentence, the finding on top, and a row a line in the table."""
    test = fine(opened(PAGE, view=view, damping="1e0", **SMALL))
    assert said in texts(test)
    assert re.search(r"\*\* keeps most, \*\*[\d.]+ %\*\* \(dense 97\.20 %\)", texts(test))
    assert "One seed: no spread between seeds is known." in texts(test)
    assert len(test.get("plotly_chart")) == 1
    assert test.dataframe[0].value["method"].nunique() == lines


def test_the_table_has_the_runs_numbers(opened):
    """Accuracies are those of the runs, and the differences add up against whatever baseline is chosen."""
    test = fine(opened(PAGE, sparsity="0.83", against="kfac", **SMALL))
    table = test.dataframe[0].value.set_index("method")
    config = PruneConfig(
        model="digits-mlp", num_samples=100, sparsity=0.83, solver="spectral", method="diagonal-fisher", update="none"
    )
    accuracy = table["accuracy (%)"]
    assert accuracy["Diagonal Fisher (OBD)"] == workspace().evaluation(config).accuracy
    assert table["over K-FAC (OBS)"].tolist() == pytest.approx((accuracy - accuracy["K-FAC (OBS)"]).tolist())
    assert table.loc["K-FAC (OBS)", "verdict"] == "the baseline"
    beyond = table["over K-FAC (OBS)"].abs() > table["noise (±)"]
    assert (table.loc[beyond, "verdict"].isin(["better", "worse"])).all()
    assert (table.loc[~beyond, "verdict"].isin(["the baseline", "equal within the noise"])).all()
    assert "At 83 % sparsity" in texts(test)


def test_seeds_bring_a_spread(opened):
    """With several seeds the table has their standard error, and the noise is said to be of both."""
    test = fine(opened(PAGE, seeds="3", view="layer-wise or global", **SMALL))
    assert test.dataframe[0].value["± over seeds"].notna().all()
    assert "of the 3 seeds" in texts(test)


def test_seconds_stand_in_the_table_of_the_view_cost_alone(opened):
    """Whatever was looked at before."""
    for view, there in (("all methods", False), ("cost", True), ("all methods", False), ("few images", False)):
        table = fine(opened(PAGE, view=view, **SMALL)).dataframe[0].value
        assert ("seconds" in table) is there
        assert not there or (table["seconds"] > 0).all()


@pytest.mark.parametrize("view", ["layer-wise or global", "few images"])
def test_what_the_sidebar_has_no_say_in_is_said(opened, view):
    """The controls that the caption names change no number; the other views have no such caption."""
    words = "**Update scale**"
    plain = fine(opened(PAGE, view=view, **SMALL))
    scope = {} if view == "few images" else {"scope": "layer"}
    other = fine(
        opened(PAGE, view=view, update="independent", scale="0.5", pattern="2:4", without="fc3", **scope, **SMALL)
    )
    same = fine(opened(PAGE, view=view, without="fc3", sparsity="0.5", **SMALL))
    assert words in texts(plain)
    assert other.dataframe[0].value.equals(same.dataframe[0].value)
    assert ("**Fisher samples N**" in texts(plain)) == (view == "few images")
    assert words not in texts(fine(opened(PAGE, **SMALL)))


def test_published_numbers_only_where_there_are_some(opened):
    """No toggle and no stars on a network that nobody published about."""
    test = fine(opened(PAGE, **SMALL))
    assert not test.toggle
    assert not [name for name in names(test) if "published" in name]


def test_a_method_that_is_chosen_is_drawn(opened):
    """What is not drawn by default comes on request, and magnitude may go; without any the usual ones are drawn."""
    test = opened(PAGE, **SMALL)
    test.multiselect(key="methods").set_value(["random", "snip"])
    test = fine(test.run())
    assert set(test.dataframe[0].value["method"]) == {"Random", "SNIP"}
    assert "against Random" in texts(test)
    test.multiselect(key="methods").set_value([])
    assert len(fine(test.run()).dataframe[0].value) == 7


def test_what_breaks_down_is_named(opened):
    """At a damping the Hessian cannot bear, exact OBS is left out aloud with the reason, the others are drawn."""
    test = opened(PAGE, damping="1e-5", without="fc1", **SMALL)
    test.multiselect(key="methods").set_value(["magnitude", "exact-obs"])
    test = fine(test.run())
    assert "**Exact OBS** has no result here: " in texts(test)
    assert "Exact OBS" not in names(test)
    assert test.dataframe[0].value.set_index("method").loc["Exact OBS", "verdict"] == "no result"
    assert "Keep 1 line as runs" in [button.label for button in test.button]


def test_every_method_has_a_line(opened):
    test = opened(PAGE, damping="1e0", without="fc1", **SMALL)
    test.multiselect(key="methods").set_value(list(METHODS))
    assert set(fine(test.run()).dataframe[0].value["method"]) == {method.label for method in METHODS.values()}


def test_points_of_few_images_are_kept(opened):
    """Each is a run of its own, with so many images."""
    test = fine(opened(PAGE, view="few images", images="10", **SMALL))
    assert "Keep 16 points as runs" in [button.label for button in test.button]
    test = fine(test.button(key="keep").click().run())
    kept = store().runs()
    assert len(kept) == 16
    assert "16 of 16 points are kept." in texts(test)


def test_long_work_asks_first(opened, monkeypatch):
    """Beyond the allowed seconds nothing runs until the click."""
    monkeypatch.setattr(cost.Cost, "seconds", property(lambda self: 1e6))
    test = opened(PAGE, seeds="10", **SMALL)
    assert not test.exception
    assert "This comparison needs" in texts(test)
    assert "Compute it" in [button.label for button in test.button]
    assert not test.get("plotly_chart")
