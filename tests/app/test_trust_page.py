"""The Trust page through Streamlit's own test runner."""

import json

import pytest
from streamlit.testing.v1 import AppTest

import app.asking
from app.shared import workspace
from woodfisher_core.experiments import PruneConfig

CHARTS = 8
PAGE = "app_pages/trust.py"
QUICK = {"samples": "100", "trust-weights": "50", "trust-images": "100", "trust-block": "10"}


def check_fine(page: AppTest, charts: int = CHARTS) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    return page


def said(page: AppTest, part: str) -> bool:
    return any(part in element.value for element in (*page.caption, *page.markdown, *page.info))


def test_default_view_makes_its_point(opened):
    """The finding holds the numbers of the run itself, and every chart has its sentence."""
    page = check_fine(opened(PAGE))
    config = PruneConfig(model="digits-mlp", sparsity=0.8, solver="spectral")
    predicted, measured = workspace().held_out_change(config)
    assert said(page, f"foresees **{predicted.total:+.3f} nats** on held-out images; measured are **{measured:+.3f}**")
    assert said(page, f"{measured / predicted.total:.2g} times as much")
    for part in (
        "one of 200 weights",
        "On Fisher samples ",
        "Changes below 0.001 nats",
        "directions are left",
        "The truth: ",
    ):
        assert said(page, part)
    assert said(page, "Up to date.")


@pytest.mark.parametrize("by", ["parabola", "second order", "statistic", "magnitude"])
def test_every_predictor(opened, by):
    page = check_fine(opened(PAGE, **QUICK, **{"trust-by": by}))
    assert said(
        page, f"one of 50 weights, drawn evenly over the statistic's order. The {by} is within a factor of 2 for "
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"block": "network", "update": "joint", "sparsity": "0.95"},
        {"block": "1", "labels": "sampled", "damping-scale": "relative"},
        {"sparsity": "0.0"},
        {"pattern": "2:4", "model": "digits-mlp"},
        {"model": "digits-cnn", "scope": "layer", "trust-layer": "conv2", "trust-place": "0.5"},
        {"stages": "4", "update": "none"},
    ],
    ids=str,
)
def test_every_kind_of_setting(opened, settings):
    page = check_fine(opened(PAGE, **{**QUICK, **settings}))
    assert said(page, "Up to date.")
    assert said(page, "Here everything goes in one step") == ("stages" in settings)
    assert said(page, "nothing is removed") == (settings.get("sparsity") == "0.0")


def test_a_change_of_sparsity_keeps_the_single_weights(opened):
    """The weights tried stay where they are; what is kept of them, and the finding, follow."""
    page = check_fine(opened(PAGE, **QUICK))
    before = [chart.proto.spec for chart in page.get("plotly_chart")]
    page.slider(key="sparsity").set_value(0.3).run()
    after = [chart.proto.spec for chart in check_fine(page).get("plotly_chart")]
    assert said(page, "At sparsity 30.")
    assert before[0] != after[0]
    assert before[-1] == after[-1]
    drawn = [sum(len(trace["customdata"]) for trace in json.loads(one)["data"][1:]) for one in (before[0], after[0])]
    assert drawn == [50, 50]


def test_too_little_damping_is_said_in_words(opened):
    page = opened(PAGE, **QUICK, damping="1e-8", block="network")
    assert not page.exception
    if page.error:
        assert "damping" in page.error[0].value


def test_long_work_asks_first(opened, monkeypatch):
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 0.0)
    page = check_fine(opened(PAGE, **QUICK), charts=0)
    assert said(page, "This page needs about **")
    page.button(key="compute-trust").click().run()
    check_fine(page)
    page.slider(key="sparsity").set_value(0.5).run()
    check_fine(page)  # work of this kind was agreed to
