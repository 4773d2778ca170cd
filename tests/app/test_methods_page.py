"""The Methods page: its three views, what it leaves out and why, and that long work waits."""

import pytest
from streamlit.testing.v1 import AppTest

from woodfisher_core.experiments import cost
from woodfisher_core.methods import METHODS

PAGE = "app_pages/methods.py"
SMALL = {"model": "digits-mlp", "samples": "100"}


def texts(test: AppTest) -> str:
    return " ".join(element.value for element in (*test.caption, *test.warning, *test.error, *test.info))


@pytest.mark.parametrize(
    ("view", "said", "lines"),
    [
        ("all methods", "Ahead:", len(METHODS)),
        ("layer-wise or global", "L-OBS only sees", 3),
        ("few images", "keeps most", 4),
    ],
)
def test_each_view_is_drawn(opened, view, said, lines):
    """A line a method, a sentence below, no error."""
    test = opened(PAGE, view=view, damping="1e0", **SMALL)
    assert not test.exception
    assert said in texts(test)
    assert "Up to date." in texts(test)
    assert test.dataframe[0].value["label"].nunique() == lines


def test_what_breaks_down_is_named(opened):
    """At a damping the Hessian cannot bear, exact OBS is left out aloud, the others are drawn."""
    test = opened(PAGE, damping="1e-5", **SMALL)
    assert not test.exception
    assert "Left out: Exact OBS" in texts(test)
    assert "Exact OBS" not in set(test.dataframe[0].value["label"])


def test_long_work_asks_first(opened, monkeypatch):
    """Beyond the allowed seconds nothing runs until the click."""
    monkeypatch.setattr(cost.Cost, "seconds", property(lambda self: 1e6))
    test = opened(PAGE, seeds="10", **SMALL)
    assert not test.exception
    assert "This comparison needs" in texts(test)
    assert [button.label for button in test.button] == ["Compute it"]
