"""Methods side by side: what is compared, that settings never see the test set, and what few images means."""

import numpy as np
import pandas as pd
import pytest
import torch

from woodfisher_core.data.base import Split
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments import comparison as module
from woodfisher_core.experiments.comparison import (
    CHOICE_SEED,
    Series,
    all_methods,
    choices,
    chosen,
    curves,
    layer_wise_or_global,
    limited_data,
    summary,
    usable_methods,
)
from woodfisher_core.methods import METHODS
from woodfisher_core.options import Scope, Update
from woodfisher_core.sampling import sample_order

CONFIG = PruneConfig(model="digits-mlp", num_samples=60, held_out=0, device="cpu", damping=1e-2)


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def test_a_curve_is_single_runs(space):
    """Every row is what a run of that method, seed and sparsity gives on the test set."""
    series = [Series("WF", CONFIG), Series("lots", CONFIG.replace(method="random", update="none"))]
    table = curves(space, series, (0.5, 0.9), (0, 3))
    assert len(table) == 8
    for row in table.itertuples():
        config = dict(zip(("WF", "lots"), (one.config for one in series), strict=True))[row.label]
        result = Workspace().evaluation(config.replace(seed=row.seed, sparsity=row.sparsity))
        assert row.accuracy == result.accuracy
        assert row.loss == pytest.approx(result.loss, rel=1e-5)


def test_timed_curves_share_nothing(space):
    """Without sharing, the gradients of a second line are made again and charged to it."""
    series = [Series("one", CONFIG), Series("two", CONFIG)]
    shared = curves(Workspace(), series, (0.5,), (0,))
    apart = curves(space, series, (0.5,), (0,), timed=True)
    seconds = {name: dict(zip(t["label"], t["seconds"], strict=True)) for name, t in (("s", shared), ("a", apart))}
    assert seconds["a"]["two"] > seconds["s"]["two"]
    assert apart["accuracy"].tolist() == shared["accuracy"].tolist()


def test_a_broken_model_is_a_gap_not_an_end(space):
    """A line whose curvature cannot be inverted has NaN; the others stand."""
    series = [Series("broken", CONFIG.replace(method="exact-obs", update=None, damping=1e-9)), Series("WF", CONFIG)]
    table = curves(space, series, (0.5,), (0,))
    assert table[table["label"] == "broken"]["accuracy"].isna().all()
    assert table[table["label"] == "WF"]["accuracy"].notna().all()


def test_summary_is_mean_and_standard_error():
    """Over seeds: the mean, and the sample deviation over the root of their number."""
    values = {0.5: (90.0, 92.0, 97.0), 0.9: (10.0, 10.0, 10.0)}
    rows = [
        {"label": "a", "seed": seed, "sparsity": s, "accuracy": v, "loss": 0.0, "seconds": 2.0}
        for s, some in values.items()
        for seed, v in enumerate(some)
    ]
    found = summary(pd.DataFrame(rows)).set_index("sparsity")
    assert found.loc[0.5, "mean"] == pytest.approx(93.0)
    assert found.loc[0.5, "error"] == pytest.approx(np.std((90, 92, 97), ddof=1) / 3**0.5)
    assert found.loc[0.9, "error"] == 0.0
    assert (found["seconds"] == 2.0).all()
    assert summary(pd.DataFrame(rows[:1]))["error"].tolist() == [0.0]


def test_choices_cover_what_a_method_has():
    """Data-free methods have nothing to choose, second-order ones their updates, dampings and blocks."""
    assert list(choices(CONFIG.replace(method="magnitude", update=None))) == [
        CONFIG.replace(method="magnitude", update=None)
    ]
    found = list(choices(CONFIG))
    assert {one.update for one in found} == set(Update)
    assert {one.block_size for one in found} == {"layer", "network"}
    assert len({one.damping for one in found}) == len(module.DAMPINGS)
    assert {one.update for one in choices(CONFIG.replace(method="exact-obs", update=None))} == {Update.JOINT}


def test_settings_are_chosen_without_test_images_or_fisher_samples(monkeypatch):
    """Whatever is scored while choosing are training images, none of which a gradient came from."""
    space, seen = Workspace(), []
    space.problem(CONFIG)
    real = Split.samples

    def recorded(self, indices=None):
        seen.append(None if indices is None else set(np.asarray(indices).tolist()))
        return real(self, indices)

    monkeypatch.setattr(Split, "samples", recorded)
    best, score = chosen(space, CONFIG, (0.8,))
    total = len(space.problem(CONFIG).dataset.train)
    order = sample_order(total, CHOICE_SEED)
    fisher = set(order[: CONFIG.num_samples].tolist())
    scored = [indices for indices in seen if indices is not None and len(indices) > CONFIG.num_samples]
    assert scored
    assert not any(indices & fisher for indices in scored)
    assert None not in seen
    assert best.seed == CONFIG.seed
    tried = [module._score(space, one, (0.8,)) for one in choices(CONFIG.replace(seed=CHOICE_SEED))]
    assert score == max(tried)


def test_limited_data_uses_all_of_the_few(space):
    """With k images the Fisher has k samples, and the row is that run's."""
    table = limited_data(space, [Series("WF", CONFIG)], 0.8, (1, 30), (0, 1))
    assert sorted(zip(table["images"], table["seed"], strict=True)) == [(1, 0), (1, 1), (30, 0), (30, 1)]
    for row in table.itertuples():
        config = CONFIG.replace(num_samples=row.images, images=row.images, seed=row.seed, sparsity=0.8)
        assert row.accuracy == Workspace().evaluation(config).accuracy


def test_batchnorm_of_few_images_uses_the_same_few():
    """A line that re-estimates BatchNorm does so on its k images."""
    config = PruneConfig(
        model="digits-cnn", method="magnitude", held_out=0, device="cpu", batchnorm_images=5, num_samples=5
    )
    table = limited_data(Workspace(), [Series("m", config)], 0.8, (40,), (2,))
    wanted = config.replace(num_samples=40, images=40, batchnorm_images=40, seed=2, sparsity=0.8)
    assert table["accuracy"].tolist() == [Workspace().evaluation(wanted).accuracy]
    assert table["accuracy"].tolist() != [Workspace().evaluation(wanted.replace(batchnorm_images=0)).accuracy]


def test_the_lines_of_the_l_obs_figure():
    """L-OBS and WoodFisher by layer, WoodFisher over all, all with the joint update."""
    lines = layer_wise_or_global(CONFIG.replace(pattern=None))
    assert [(one.config.method, one.config.scope) for one in lines] == [
        ("l-obs", Scope.LAYER),
        ("woodfisher", Scope.LAYER),
        ("woodfisher", Scope.GLOBAL),
    ]
    assert {one.config.update for one in lines} == {Update.JOINT}


@pytest.mark.parametrize("change", [{}, {"scope": "erk"}, {"flops_power": 0.5}, {"budget": "flops"}], ids=str)
def test_every_method_that_fits_has_a_line(space, change):
    """All methods appear, also where the setting asks for what some cannot do."""
    lines = all_methods(space, CONFIG.replace(**change))
    assert tuple(one.config.method for one in lines) == usable_methods(2720) == tuple(METHODS)
    assert "exact-obs" not in usable_methods(32_360)


def test_forgetting_keeps_networks_and_changes_nothing(space):
    """After it everything but the network is made anew, to the same bits."""
    before = space.outcome(CONFIG)
    problem = space.problem(CONFIG)
    space.forget()
    after = space.outcome(CONFIG)
    assert space.problem(CONFIG) is problem
    assert after is not before
    assert torch.equal(before.weights, after.weights)
