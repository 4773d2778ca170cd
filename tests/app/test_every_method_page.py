"""Explore with every method in focus, and with every way to prune that the sidebar offers."""

import pytest

from app.facts import facts_of
from app.shared import workspace
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.methods import METHODS

CHARTS = 6
# A damping that the exact Hessian bears, a sparsity that whole channels reach.
SMALL = {"samples": "100", "damping": "1e0", "sparsity": "0.3"}


def accuracy_of(page) -> str:
    return next(metric.value for metric in page.metric if metric.label == "Accuracy")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_in_focus(opened, method):
    """All charts are drawn and the number on the page is that of the run the settings describe."""
    page = opened(model="digits-mlp", method=method, **SMALL)
    assert not page.exception
    assert not page.error
    assert len(page.get("plotly_chart")) == CHARTS
    config = PruneConfig(
        model="digits-mlp", method=method, sparsity=0.3, num_samples=100, damping=1.0, solver="spectral"
    )
    assert accuracy_of(page) == f"{workspace().evaluation(config).accuracy:.2f}\u00a0%"


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"pattern": "2:4", "without": "conv1"}, {"pattern": "2:4", "sparsity": None, "exclude": ("conv1",)}),
        ({"budget": "flops"}, {"budget": "flops"}),
        ({"flops-power": "0.3"}, {"flops_power": 0.3}),
        ({"scope": "erk"}, {"scope": "erk"}),
        ({"stages": "2", "stage-shape": "linear"}, {"stages": 2, "stage_shape": "linear"}),
        ({"batchnorm": "100"}, {"batchnorm_images": 100}),
        ({"images": "200"}, {"images": 200}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_every_way_to_prune(opened, settings, change):
    """Each control changes the run it names, and the command line below says so."""
    page = opened(model="digits-cnn", **{**SMALL, "sparsity": "0.7"}, **settings)
    assert not page.exception
    assert not page.error
    base = {"model": "digits-cnn", "sparsity": 0.7, "num_samples": 100, "damping": 1.0, "solver": "spectral"}
    config = PruneConfig(**{**base, **change})
    assert accuracy_of(page) == f"{workspace().evaluation(config).accuracy:.2f}\u00a0%"
    line = page.code[0].value
    for name, value in change.items():
        if value is not None:
            shown = value[0] if isinstance(value, tuple) else value
            assert f"--{name.replace('_', '-')} {shown}" in line


def test_a_pattern_that_does_not_divide_is_said(opened):
    """In words, with the layer's name and what to do; the other controls are still there."""
    page = opened(model="digits-cnn", pattern="2:4", **SMALL)
    assert not page.exception
    assert "conv1 (1)" in page.error[0].value
    assert "Exclude" in page.error[0].value
    assert page.multiselect(key="without")


def test_too_large_networks_have_no_exact_obs(opened):
    """It is not offered where it cannot run."""
    assert "exact-obs" in facts_of("digits-mlp").methods
    assert "exact-obs" not in facts_of("digits-cnn").methods
    page = opened(model="digits-cnn", **SMALL)
    assert "exact-obs" not in page.selectbox(key="method").options
