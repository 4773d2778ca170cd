"""Trials to compare: each is the run of its config, kept, and what fails says why and takes nothing else with it."""

import numpy as np
import pytest

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.comparison import Series, with_images
from woodfisher_core.experiments.trials import at, curve_of, has_trials, layers_of, over_images, over_sparsities, tried

CONFIG = PruneConfig(model="digits-mlp", num_samples=60, held_out=0, device="cpu", damping=1e-2)
MAGNITUDE = CONFIG.replace(method="magnitude", update="none")


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def test_a_trial_is_its_run(space):
    """Accuracy, loss, every answer and every layer's share are those of the run alone, in a workspace of its own."""
    for sparsity, trial in zip((0.5, 0.9), tried(space, CONFIG, (0.5, 0.9)), strict=True):
        own = Workspace()
        config = CONFIG.replace(sparsity=sparsity)
        result, mask = own.evaluation(config), own.outcome(config).mask
        assert trial.accuracy == result.accuracy
        assert trial.loss == pytest.approx(result.loss, rel=1e-5)
        assert trial.right.tolist() == (result.predictions == result.targets).tolist()
        assert trial.kept == mask.kept
        removed = [1 - float(mask.keep[layer.slice].double().mean()) for layer in own.problem(config).parameters.layers]
        assert trial.layers == pytest.approx(removed)


def test_what_was_tried_is_kept(monkeypatch):
    """Asked again, nothing runs; of a longer curve only the missing point does."""
    space, made = Workspace(), []
    real = Workspace.outcomes
    monkeypatch.setattr(
        Workspace, "outcomes", lambda self, c, s, *rest: made.append(list(s)) or real(self, c, s, *rest)
    )
    first = tried(space, MAGNITUDE, (0.5, 0.9))
    assert not has_trials(space, MAGNITUDE, (0.5, 0.7))
    assert tried(space, MAGNITUDE.replace(seed=3), (0.5, 0.7, 0.9))[::2] == first  # magnitude draws nothing
    assert made == [[0.5, 0.9], [0.7]]
    assert has_trials(space, MAGNITUDE, (0.5, 0.7, 0.9))


def test_a_failure_says_why_and_takes_nothing_with_it(space):
    """An inverse that breaks down, and a sparsity beyond reach."""
    broken = Series("broken", CONFIG.replace(method="exact-obs", update=None, damping=1e-9), "exact-obs")
    channels = Series("channels", CONFIG.replace(model="digits-cnn", method="structured", update=None), "structured")
    table = over_sparsities(space, [broken, Series("m", MAGNITUDE, "magnitude")], (0.5, 0.9), (0,))
    failed = table[table["label"] == "broken"]
    assert failed["accuracy"].isna().all()
    assert (failed["why"].str.len() > 20).all()
    assert table[table["label"] == "m"]["accuracy"].notna().all()
    near, far = tried(space, channels.config, (0.3, 0.999))
    assert near.why == ""
    assert "at most" in far.why
    assert [point.sparsity for point in curve_of(space, channels.config, (0.3, 0.999))] == [0.3]


def test_stopping_keeps_what_is_done():
    """Progress counts results, and what raises from it loses none of them."""
    space, told = Workspace(), []

    def stop(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if done:
            raise KeyboardInterrupt

    lines = [Series("m", MAGNITUDE, "magnitude"), Series("WF", CONFIG, "woodfisher")]
    with pytest.raises(KeyboardInterrupt):
        over_sparsities(space, lines, (0.5, 0.9), (0,), stop)
    assert told == [("m, seed 0", 0, 4), ("WF, seed 0", 2, 4)]
    assert has_trials(space, MAGNITUDE, (0.5, 0.9))


def test_few_images_are_all_there_is(space):
    """With k images the row is the run in which only they exist."""
    table = over_images(space, [Series("WF", CONFIG, "woodfisher")], 0.8, (5, 30), (0, 1))
    assert list(zip(table["seed"], table["images"], strict=True)) == [(0, 5), (0, 30), (1, 5), (1, 30)]
    for row in table.itertuples():
        config = CONFIG.replace(num_samples=row.images, images=row.images, seed=row.seed, sparsity=0.8)
        assert row.accuracy == Workspace().evaluation(config).accuracy
    assert with_images(CONFIG.replace(batchnorm_images=3), 20).batchnorm_images == 20


def test_layers_are_means_over_the_seeds(space):
    """Each layer's share, and all of them together the network's."""
    lines = [Series("WF", CONFIG, "woodfisher")]
    trials = at(space, lines, 0.8, (0, 1, 2))
    layers = layers_of(space, lines, trials)
    assert layers["sparsity"].tolist() == pytest.approx(np.mean([one.layers for one in trials["WF"]], axis=0).tolist())
    removed = (layers["sparsity"] * layers["total"]).sum()
    assert removed == pytest.approx(0.8 * layers["total"].sum(), abs=2)
