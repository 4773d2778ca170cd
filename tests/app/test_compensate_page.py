"""The Compensate page through Streamlit's own test runner."""

import pytest
from streamlit.testing.v1 import AppTest

import app.asking
from app.shared import workspace
from woodfisher_core.experiments import PruneConfig

CHARTS = 7
PAGE = "app_pages/compensate.py"


def check_fine(page: AppTest, charts: int = CHARTS) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    return page


def said(page: AppTest, start: str) -> str | None:
    """The text that begins so."""
    found = (*page.caption, *page.markdown, *page.info, *page.warning)
    return next((element.value for element in found if element.value.startswith(start)), None)


@pytest.fixture
def small(opened):
    """The page with 100 samples: ``small(**settings)``."""
    return lambda **settings: opened(PAGE, **{"model": "digits-mlp", "samples": "100", **settings})


def test_default_view_says_the_finding(small):
    """Seven charts; the sentence at the top has the accuracies of the three very runs."""
    page = check_fine(small())
    finding = said(page, "At sparsity 80.0\u00a0% the same 543 weights")
    config = PruneConfig(model="digits-mlp", num_samples=100, solver="spectral", sparsity=0.8)
    for update in ("none", "independent", "joint"):
        assert f"**{workspace().evaluation(config.replace(update=update)).accuracy:.2f}\u00a0%**" in finding
    assert said(page, "Drag the slider. At ρ = 0.80 removing w₁ costs 0.50 where w₂ stays (OBD) and 0.18")
    assert said(page, "Up to date.")


def test_the_example_follows_its_controls(small):
    """With flat curvature all three rules agree; the other weight can go instead."""
    page = check_fine(small(ratio="1.0", drop="w2"))
    text = said(page, "Drag the slider.")
    assert "removing w₂ costs" in text
    assert "magnitude (smallest |w|), OBD (½w²F) and OBS (½w²/[F⁻¹]) would remove w₂" in text
    page.segmented_control(key="drop").set_value("w1").run()
    assert "removing w₁ costs" in said(check_fine(page), "Drag the slider.")


@pytest.mark.parametrize("which", ["first", "last", "largest"])
def test_every_choice_of_a_weight(small, which):
    """The first to go is next to nothing, so that nobody moves for it and nothing is drawn of that."""
    page = check_fine(small(q=which), charts=CHARTS - 3 * (which == "first"))
    assert bool(said(page, "Nobody moves measurably: the weight itself is next to nothing")) == (which == "first")
    assert "At your sparsity of 80.0\u00a0% it is gone." in next(
        m.value for m in page.markdown if "has the statistic" in m.value
    )


def test_a_weight_by_its_number(small):
    """The number is in the link; another network's number is no error."""
    page = check_fine(small(q="number", weight="2719"))
    assert said(page, "**fc3[9, 15]**")
    page.number_input(key="weight").set_value(0).run()
    assert said(check_fine(page), "**fc1[0, 0]**")


@pytest.mark.parametrize("effect", ["loss", "size of the move"])
def test_other_effects(small, effect):
    page = check_fine(small(effect=effect))
    assert said(
        page, "Of the loss on held-out images" if effect == "loss" else "Of their own length ‖w‖ the survivors move by"
    )
    assert not said(page, "Of the updates, ")
    figure = page.get("plotly_chart")
    assert any(
        ("held-out loss change" if effect == "loss" else "size of the move") in chart.proto.spec for chart in figure
    )


def test_a_shortened_update_is_a_line_of_its_own(small):
    page = check_fine(small(update="independent", scale="0.5"))
    assert "the scaled independent update makes it" in said(page, "At sparsity")


@pytest.mark.parametrize(
    "settings", [{"sparsity": "0"}, {"pattern": "2:4"}, {"stages": "4"}, {"block": "1"}, {"block": "network"}]
)
def test_odd_settings_are_drawn(small, settings):
    """Nothing removed, a pattern, several stages, a diagonal Fisher, one block over all; what nobody does is not drawn."""
    still = {"sparsity": 2, "block": 5}.get(*settings) if settings in ({"sparsity": "0"}, {"block": "1"}) else 0
    page = check_fine(small(**settings), charts=CHARTS - still)
    if still:
        assert said(page, "Nobody moves measurably here")
    if settings == {"sparsity": "0"}:
        assert said(page, "At sparsity 0 nothing goes")
    if settings == {"block": "1"}:
        assert said(page, "No survivor is correlated with")
        assert "Nobody moves, so nothing is saved: by the model removing" in said(
            page, "Nobody moves measurably: the weight"
        )
    if settings == {"stages": "4"}:
        assert said(page, "In one stage here")


def test_without_held_out_images(opened):
    """All training images in the Fisher: nothing is left to measure on but they themselves, and the page says so."""
    page = opened(PAGE, model="digits-mlp", samples="100", images="100")
    check_fine(page)


def test_a_broken_model_is_said_in_words(small):
    """Too little damping for one block over all: words, and the example is still there."""
    page = small(damping="1e-8", block="network", samples="1000")
    assert not page.exception
    assert len(page.get("plotly_chart")) >= 1
    assert page.error or page.warning or said(page, "Up to date.")


def test_long_work_asks_first(small, monkeypatch):
    """The example stands at once; the rest waits for a click, the measured surface for its own."""
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(app.asking, "INSTANT_SECONDS", 0.0)
    page = check_fine(small(), charts=1)
    assert said(page, "This setting needs about **")
    page.button(key="compute").click().run()
    check_fine(page)
    assert said(page, "Not everything below is computed yet.")
    page.button(key="measure-pair").click().run()
    check_fine(page)
    assert said(page, "Up to date.")
