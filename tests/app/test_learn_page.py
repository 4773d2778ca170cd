"""The Learn page through Streamlit's own test runner."""

import pytest
from streamlit.testing.v1 import AppTest

from app import asking
from app.formulas import parts
from app.learning import STEPS
from app.presets import PRESETS
from app.shared import workspace
from woodfisher_core.experiments import PruneConfig, cost
from woodfisher_core.experiments.lesson import LARGEST_REMOVED, one_weight

PAGE = "app_pages/learn.py"


def check_fine(page: AppTest, charts: int = 1) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    assert any(caption.value == "Up to date." for caption in page.caption)
    return page


def said(page: AppTest, words: str) -> bool:
    return any(words in element.value for element in (*page.caption, *page.markdown, *page.info))


def formulas(page: AppTest) -> str:
    return " ".join(element.value for element in page.latex)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_from_its_link(opened, step):
    page = check_fine(opened(PAGE, step=step.name, samples="50"))
    assert page.segmented_control(key="step").value == step.name
    assert [element.value for element in page.subheader if element.value == step.title]
    written = [element.value.strip("$\n") for element in page.latex]
    assert written[: len(parts(step.equation))] == parts(step.equation)
    assert any(step.question in expander.label for expander in page.expander)


@pytest.mark.parametrize(("step", "seed"), [("question", "31"), ("many", "32"), ("recap", "33")])
def test_many_runs_are_asked_for_where_they_take_long(opened, step, seed, monkeypatch):
    """One run would be quick, a curve's eight or a ladder's six are not; at a click they come."""
    monkeypatch.setattr(asking, "ASK_SECONDS", 7.0)
    monkeypatch.setattr(cost, "seconds_a_test", lambda *_: 1.5)
    page = opened(PAGE, step=step, samples="50", seed=seed)
    assert any("This step needs" in info.value for info in page.info)
    assert not page.get("plotly_chart")
    check_fine(page.button(key="compute-step").click().run())
    assert not page.info


def test_the_way_through(opened):
    """From the first step to the last by Next alone, and back by one; the ends have no way on."""
    page = check_fine(opened(PAGE, samples="20"))
    assert page.button(key="back").disabled
    for place, step in enumerate(STEPS[1:], start=1):
        assert page.button(key="next").label == f"Next: {step.short}"
        page.button(key="next").click().run()
        check_fine(page)
        assert said(page, f"Step {place + 1} of {len(STEPS)}")
    assert page.button(key="next").disabled
    page.button(key="back").click().run()
    assert page.segmented_control(key="step").value == STEPS[-2].name


def test_the_numbers_follow_the_controls(opened):
    """Another damping, another formula; the chosen weight's numbers are those of the core."""
    page = opened(PAGE, step="one-weight", samples="50", example=LARGEST_REMOVED)
    config = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=50, solver="spectral")
    one = one_weight(workspace(), config, LARGEST_REMOVED)
    assert said(page, f"**{one.layer}{list(one.place)}**")
    assert said(page, f"number {one.rank:,}")
    before = formulas(page)
    page.select_slider(key="damping").set_value("1e-1").run()
    check_fine(page)
    assert formulas(page) != before


def test_something_to_try_sets_the_controls(opened):
    page = opened(PAGE, step="question", samples="50")
    page.button(key="try-1").click().run()
    check_fine(page)
    assert page.slider(key="sparsity").value == 0.9
    assert page.button(key="try-1").disabled
    assert not page.button(key="try-0").disabled
    assert said(page, "(90\u00a0%) must go")


def test_the_last_step_links_all_presets(opened):
    page = check_fine(opened(PAGE, step="recap", samples="50"))
    assert all(said(page, preset.point) for preset in PRESETS)


def test_nothing_to_remove_is_said_in_words(opened):
    page = opened(PAGE, step="taylor", samples="50", sparsity="0")
    assert not page.exception
    assert "Raise the sparsity" in page.error[0].value


@pytest.mark.parametrize("step", ["question", "taylor", "fisher", "many", "recap"])
def test_patterns_and_convolutions(opened, step):
    """What the derivation leaves aside does no harm."""
    check_fine(opened(PAGE, step=step, model="digits-cnn", samples="20", pattern="2:4", without="conv1"))
