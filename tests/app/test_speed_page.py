"""The Speed page, and what can be taken home from it, through Streamlit's own test runner."""

import json

import onnx
import pytest
from safetensors.torch import load
from streamlit.testing.v1 import AppTest

from app.shared import workspace
from app.taking import files
from woodfisher_core.experiments import PruneConfig, latency, speed
from woodfisher_core.export import exchange

PAGE = "app_pages/speed.py"
CHARTS = 4


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """The times themselves do not matter here."""
    monkeypatch.setattr(latency, "FEWEST_ROUNDS", 2)
    monkeypatch.setattr(latency, "MOST_ROUNDS", 2)


def setting(**changes) -> PruneConfig:
    """The page's default run at 100 samples."""
    values = {"model": "digits-mlp", "sparsity": 0.8, "num_samples": 100, "solver": "spectral"}
    return PruneConfig(**{**values, **changes})


def check_fine(page: AppTest, charts: int = CHARTS) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    assert said(page, "Up to date.")
    return page


def said(page: AppTest, words: str) -> bool:
    return any(words in element.value for element in (*page.caption, *page.markdown))


def test_the_default_view_says_the_finding(opened):
    """With numbers that were measured, why 2:4 is missing, and on what machine."""
    page = check_fine(opened(PAGE, samples="100"))
    found = speed.latency(workspace(), setting(), 256)
    ratio = found.table["ratio"]["zeros"]
    assert said(page, f"the dense kernel takes **{ratio:.2f}×** as long as before")
    assert said(page, "2:4 is left out: expected an NVIDIA GPU")
    assert said(page, f"PyTorch {found.machine['torch']}")
    assert said(page, "543 of 2,720 weights stay.")


@pytest.mark.parametrize(
    "query",
    [
        {"at-once": "1", "threads": "all", "timed": "fc2"},
        {"model": "digits-cnn", "sparsity": "0.5", "timed": "fc"},
        {"method": "structured", "sparsity": "0.5", "damping": "1e-2"},
        {"pattern": "2:4", "method": "magnitude"},
        {"sparsity": "0"},
        {"without": "fc1"},
    ],
    ids=lambda query: " ".join(f"{k}={v}" for k, v in query.items()),
)
def test_every_setting_has_its_view(opened, query):
    page = check_fine(opened(PAGE, **{"samples": "100", **query}))
    if "model" in query:
        assert said(page, "CSR: only fc.")
    if query.get("timed") == "fc2":
        assert said(page, "In your setting this layer has ")


def test_a_layer_of_another_network_in_the_link_gives_way(opened):
    """digits-cnn has no fc1: the large layer is shown, and the link follows."""
    page = check_fine(opened(PAGE, samples="100", model="digits-cnn", timed="fc1"))
    assert page.selectbox(key="timed").value == "1024 × 1024"


def test_measure_again_measures_again(opened):
    """The times kept are let go of; nothing else is."""
    page = check_fine(opened(PAGE, samples="100"))
    before, outcome = speed.latency(workspace(), setting(), 256), workspace().outcome(setting())
    check_fine(page.run())
    assert speed.latency(workspace(), setting(), 256) is before
    check_fine(page.button(key="again").click().run())
    assert speed.latency(workspace(), setting(), 256) is not before
    assert workspace().outcome(setting()) is outcome


def test_what_cannot_be_structured_is_said(opened, monkeypatch):
    """The page goes on without it."""
    monkeypatch.setattr(speed, "STRUCTURED_SPARSITIES", (0.9,))
    page = check_fine(opened(PAGE, samples="100", sparsity="0.1"))
    assert said(page, "Structured, as accurate is left out: expected a sparsity that keeps")


def test_every_file_can_be_taken_home(opened):
    """A button each, and what is behind it: weights, masks, ONNX, the run, a notebook."""
    page = check_fine(opened(PAGE, samples="100", method="magnitude"))
    config = setting(method="magnitude")
    found = {name: make() for _, name, _, make, _ in files(config, workspace(), ("woodfisher",))}
    assert set(found) == {"safetensors", "masks.safetensors", "onnx", "run.json", "ipynb"}
    drawn = {button.key for button in page.get("download_button")}
    assert {f"take-{name}" for name in found} <= drawn
    kept = workspace().outcome(config).mask.kept
    assert sum(int(mask.sum()) for mask in load(found["masks.safetensors"]).values()) == kept
    assert int((load(found["safetensors"])["fc1.weight"] != 0).sum()) == int(
        load(found["safetensors"])["fc1.weight.mask"].sum()
    )
    assert onnx.load_from_string(found["onnx"]).graph.output[0].name == "logits"
    run = json.loads(found["run.json"])
    assert run["accuracy"] == workspace().evaluation(config).accuracy
    assert run["peak_memory_bytes"] is None  # nobody looked: no measurement of 0
    assert "woodfisher" in found["ipynb"].decode()
    assert any("prune --model digits-mlp --method magnitude --sparsity 0.8" in code.value for code in page.code)


def test_the_smaller_network_can_be_taken_home():
    config = setting(method="structured", sparsity=0.5, damping=1e-2)
    found = {name: make for _, name, _, make, _ in files(config, workspace(), ())}
    smaller = load(found["smaller.safetensors"]())
    assert smaller["fc2.weight"].shape[1] == smaller["fc1.weight"].shape[0] < 32


def test_without_the_extra_onnx_says_how_to_get_it(opened, monkeypatch):
    monkeypatch.setattr(exchange, "NEEDED", ("no_such_package",))
    page = check_fine(opened(PAGE, samples="100", method="magnitude"))
    assert said(
        page,
        'no_such_package not installed where this page runs. In the project\'s folder: `pip install -e ".[export]"`',
    )
    button = next(button for button in page.get("download_button") if button.key == "take-onnx")
    assert button.disabled
