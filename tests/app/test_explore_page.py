"""The Explore page through Streamlit's own test runner: every control works, and errors are said kindly."""

import pytest
from streamlit.testing.v1 import AppTest

import app.asking
from app import measuring
from app.shared import workspace
from app.words import number
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.methods import METHODS
from woodfisher_core.options import Labels, Scope, Update
from woodfisher_core.sampling import sample_order

CHARTS = 6


def check_fine(page: AppTest) -> AppTest:
    """No traceback, no error box, all charts there (but for the changed answers, where none changed)."""
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    unchanged = any(caption.value.startswith("None: on every test image") for caption in page.caption)
    assert len(page.get("plotly_chart")) == CHARTS - unchanged
    return page


def headline(page: AppTest) -> str:
    return next(m.value for m in page.markdown if m.value.startswith(("Removing", "At sparsity"))).replace(
        "\u00a0", " "
    )


def metric(page: AppTest, label: str) -> str:
    return next(m.value for m in page.metric if m.label == label)


def test_default_view_needs_no_download_and_no_click(opened, monkeypatch, tmp_path):
    """The first view opens offline, with the embedded network, and says what happened in a sentence."""
    monkeypatch.delenv("WOODFISHER_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page = check_fine(opened())
    assert "80.0 %" in headline(page)
    assert "2,720 weights" in headline(page)
    assert "WoodFisher" in headline(page)


def test_sparsity_changes_the_result(opened):
    page = opened()
    before = metric(page, "Accuracy"), metric(page, "Weights kept")
    page.slider(key="sparsity").set_value(0.95).run()
    check_fine(page)
    assert metric(page, "Weights kept") != before[1]
    assert metric(page, "Accuracy") != before[0]


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("update", [u.value for u in Update])
def test_any_mask_with_any_update(opened, method, update):
    # What the exact Hessian bears, and a size that it is quick at.
    smaller = {"without": "fc1"} if method == "exact-obs" else {}
    check_fine(opened(method=method, update=update, samples="100", damping="1e0", **smaller))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "digits-cnn"),
        ("scope", Scope.LAYER.value),
        ("labels", Labels.SAMPLED.value),
        ("block", "network"),
        ("block", "1"),
        ("block", "100"),
        ("samples", "1"),
        ("samples", "50"),
        ("damping", "1e-8"),
        ("damping", "1e0"),
        ("damping-scale", "relative"),
        ("sparsity", "0"),
        ("sparsity", "0.99"),
        ("seed", "4294967295"),
        ("scale", "0.5"),
    ],
)
def test_every_control_works_from_a_link(opened, name, value):
    """A link with one setting changed opens that setting."""
    page = check_fine(opened(**{name: value}))
    command = page.get("code")[0].value
    flag = {"block": "--block-size", "samples": "--num-samples", "scale": "--update-scale"}.get(name, f"--{name}")
    written = {"1e-8": "1e-08", "1e0": "1"}.get(value, value)
    assert f"{flag} {written}" in command


@pytest.mark.parametrize("query", [{"sparsity": "7"}, {"damping": "zero"}, {"model": "../../etc"}, {"seed": "-1"}])
def test_a_broken_link_opens_the_default(opened, query):
    page = check_fine(opened(**query))
    assert "80.0 %" in headline(page)


def test_work_that_takes_long_asks_first(opened, monkeypatch):
    """With the patience set to nothing, the cost is shown and nothing runs until the click."""
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(app.asking, "INSTANT_SECONDS", 0.0)
    page = opened()
    assert "of memory on this machine" in page.info[0].value
    assert not page.get("plotly_chart")
    page.button(key="compute").click().run()
    assert len(page.get("plotly_chart")) == CHARTS - 1  # the curves are asked about by themselves
    page.button(key="compute").click().run()
    check_fine(page)


def test_curves_that_take_long_ask_in_their_place(opened, monkeypatch):
    """What is quick is there at once; after the click all is."""
    quick = cost.predict
    monkeypatch.setattr(cost, "predict", lambda *asked: quick(*asked) + cost.Cost(networks=1e6 * bool(asked[2])))
    page = opened()
    assert "80.0 %" in headline(page)
    assert len(page.get("plotly_chart")) == 5
    assert "the pruned networks (1000000.0 s)" in page.info[0].value
    page.button(key="compute").click().run()
    check_fine(page)


def test_where_it_takes_long_some_test_images_come_first(opened, monkeypatch):
    """They are a part of all test images, and what they say is gone when all are done."""
    told = []
    monkeypatch.setattr(measuring, "EARLY_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "EARLY_IMAGES", 100)
    real = measuring.early_sentence
    monkeypatch.setattr(measuring, "early_sentence", lambda *given: told.append(real(*given)) or told[-1])
    page = check_fine(opened(samples="100"))
    config = PruneConfig(model="digits-mlp", num_samples=100, sparsity=0.8, solver="spectral")
    whole = workspace().evaluation(config)
    chosen = sample_order(whole.num_samples, 0)[:100]
    right = int((whole.predictions == whole.targets)[chosen].sum())
    assert [f"On 100 of the {whole.num_samples} test images" in words for words in told] == [True]
    assert f"**{right}.00\u00a0%**" in told[0]
    assert not any("All of them follow" in words.value for words in page.markdown)


def test_a_budget_too_small_is_said_without_a_traceback(opened, monkeypatch):
    workspace().memory_budget = 1000
    page = opened()
    assert not page.exception
    assert "the budget of 1.0 KiB is too small" in page.error[0].value


def test_missing_data_says_what_to_do(opened, monkeypatch, tmp_path):
    monkeypatch.delenv("WOODFISHER_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    page = opened(model="mlpnet")
    assert not page.exception
    assert "python -m woodfisher_core data download mnist" in page.info[0].value + page.expander[0].markdown[0].value
    assert "Download MNIST" in page.button[0].label


def test_two_users_do_not_disturb_each_other(opened):
    """One process, one cache, two sessions: each sees its own setting."""
    first, second = opened(sparsity="0.5"), opened(sparsity="0.9")
    kept = metric(first, "Weights kept"), metric(second, "Weights kept")
    assert kept[0] != kept[1]
    first.run()
    assert metric(first, "Weights kept") == kept[0]


def test_the_shared_workspace_is_one():
    assert isinstance(workspace(), Workspace)
    assert workspace() is workspace()


def test_relative_damping(opened):
    """The slider's values become multiples of the mean curvature, the λ in force stands below, and a value that only the
    other scale has falls back."""
    page = opened(**{"damping-scale": "relative", "damping": "1e2", "samples": "100"})
    check_fine(page)
    config = PruneConfig(
        model="digits-mlp",
        sparsity=0.8,
        num_samples=100,
        damping=100.0,
        damping_scale="relative",
        solver="spectral",
        device="auto",
    )
    shown = f"{workspace().evaluation(config).accuracy:.2f} %"
    assert metric(page, "Accuracy").replace("\u00a0", " ") == shown
    caption = next(c.value for c in page.caption if c.value.startswith("λ = 100 × "))
    assert caption.endswith(f"**λ = {number(workspace().damping(config), '.1e')}**.")
    page.segmented_control(key="damping-scale").set_value("absolute").run()
    check_fine(page)
    assert page.select_slider(key="damping").value == "1e-3"
    assert not any(c.value.startswith("λ = 100 × ") for c in page.caption)
