"""Training: each recipe against an optimiser written out here, variations of images, and snapshots that change nothing."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from woodfisher_core.data import Samples, get_dataset
from woodfisher_core.data.augmentation import SHIFT, augmented
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import evaluate
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.zoo import train_and_save
from woodfisher_core.models import ModelSpec, get_model
from woodfisher_core.models.base import TrainingRecipe
from woodfisher_core.training import WARM_UP, train


def digits(count: int | None = None) -> Samples:
    return get_dataset("digits").load(None).train.samples(range(count or 1297))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_adam_recipe_is_what_made_the_shipped_weights():
    """Bit for bit the loop of before: Adam, cosine by epochs, one generator for the order alone."""
    recipe, samples = (
        TrainingRecipe(epochs=3, batch_size=100, learning_rate=2e-3, weight_decay=1e-3, seed=4),
        digits(301),
    )
    build = get_model("digits-mlp").build
    torch.manual_seed(4)
    model = build().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    order = torch.Generator().manual_seed(4)
    for _ in range(3):
        shuffled = torch.randperm(301, generator=order)
        for start in (0, 100, 200):  # the last sample stands alone and is left out
            picked = shuffled[start : start + 100]
            optimizer.zero_grad()
            cross_entropy(model(samples.inputs[picked]), samples.targets[picked]).backward()
            optimizer.step()
        scheduler.step()
    assert same(weights(train(build, samples, recipe)), weights(model))


def test_sgd_is_nesterov_with_warm_up_and_cosine():
    """A softmax regression trained in NumPy, float64, one batch an epoch so that the order does not matter."""
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(20, 5)), rng.integers(0, 3, 20)
    samples = Samples(torch.tensor(x, dtype=torch.float32), torch.tensor(targets))
    recipe = TrainingRecipe(epochs=20, batch_size=20, learning_rate=0.5, weight_decay=0.01, optimizer="sgd")
    torch.manual_seed(0)
    w = nn.Linear(5, 3, bias=False).weight.detach().numpy().astype(float)
    velocity = np.zeros_like(w)
    rise = round(WARM_UP * 20)
    for step in range(20):
        rate = 0.5 * ((step + 1) / rise if step < rise else (1 + math.cos(math.pi * (step - rise) / (20 - rise))) / 2)
        scores = np.exp(x @ w.T)
        error = scores / scores.sum(1, keepdims=True) - np.eye(3)[targets]
        gradient = error.T @ x / 20 + 0.01 * w
        velocity = 0.9 * velocity + gradient
        w = w - rate * (gradient + 0.9 * velocity)
    got = train(lambda: nn.Linear(5, 3, bias=False), samples, recipe).weight.detach().numpy()
    np.testing.assert_allclose(got, w, rtol=2e-4, atol=2e-5)


def test_images_are_shifted_and_mirrored():
    """Each result is one of the 81 shifts, mirrored or not, of its own image over zeros; all ways occur; seeds repeat."""
    images = torch.rand(60, 2, 6, 5, generator=torch.Generator().manual_seed(1)) + 0.5
    results = augmented(images, torch.Generator().manual_seed(2))
    assert torch.equal(results, augmented(images, torch.Generator().manual_seed(2)))
    assert not torch.equal(results, augmented(images, torch.Generator().manual_seed(3)))
    found = []
    for image, result in zip(images.numpy(), results.numpy(), strict=True):
        ways = []
        for down in range(-SHIFT, SHIFT + 1):
            for right in range(-SHIFT, SHIFT + 1):
                moved = np.zeros_like(image)
                for row in range(6):
                    for column in range(5):
                        if 0 <= row + down < 6 and 0 <= column + right < 5:
                            moved[:, row, column] = image[:, row + down, column + right]
                ways += [
                    (down, right, flip)
                    for flip in (0, 1)
                    if np.array_equal(moved[..., ::-1] if flip else moved, result)
                ]
        assert len(ways) == 1
        found += ways
    assert {way[2] for way in found} == {0, 1}
    assert all(len({way[axis] for way in found}) > SHIFT for axis in (0, 1))


RECIPES = {
    "adam": TrainingRecipe(epochs=4, batch_size=50, learning_rate=3e-3),
    "sgd": TrainingRecipe(
        epochs=4, batch_size=50, learning_rate=0.1, optimizer="sgd", augment=True, precision="bfloat16"
    ),
}


class Stopped(Exception):
    """Stands for whatever ends a training early."""


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, recipe):
    """Optimiser, rate, order and variations of the images go on where they were, bit for bit."""
    build, samples, file = get_model("digits-cnn").build, digits(230), tmp_path / "new" / "snapshot"
    losses: list[tuple[int, float]] = []
    whole = train(build, samples, recipe, report=lambda *said: losses.append(said))
    again: list[tuple[int, float]] = []

    def stop(epoch: int, loss: float) -> None:
        again.append((epoch, loss))
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(build, samples, recipe, report=stop, snapshot=file)
    resumed = train(build, samples, recipe, report=lambda *said: again.append(said), snapshot=file)
    assert same(weights(resumed), weights(whole))
    assert again == losses
    assert [epoch for epoch, _ in losses] == [1, 2, 3, 4]
    assert losses[-1][1] < losses[0][1]
    finished = train(build, samples, recipe, report=stop, snapshot=file)  # nothing is left to do
    assert same(weights(finished), weights(whole))


def test_foreign_or_damaged_snapshots_are_refused(tmp_path):
    build, samples, file, recipe = get_model("digits-mlp").build, digits(60), tmp_path / "snapshot", RECIPES["adam"]
    train(build, samples, dataclasses.replace(recipe, epochs=1), snapshot=file)
    with pytest.raises(InputError, match=r"epochs 1 \(here 4\)"):
        train(build, samples, recipe, snapshot=file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="snapshot"):
        train(build, samples, recipe, snapshot=file)


def test_bfloat16_learns_and_leaves_float32():
    """Products in bfloat16: the network still learns, and comes back as any other."""
    recipe = dataclasses.replace(RECIPES["sgd"], epochs=4, augment=False)
    model = train(get_model("digits-cnn").build, digits(), recipe)
    state = weights(model)
    assert {t.dtype for t in state.values()} == {torch.float32, torch.int64}
    assert all(t.is_contiguous() for t in model.state_dict().values())
    assert not model.training
    assert evaluate(model, get_dataset("digits").load(None).test.samples().batches(500)).accuracy > 90
    one = [
        train(get_model("digits-cnn").build, digits(100), dataclasses.replace(recipe, epochs=1, precision=precision))
        for precision in ("bfloat16", "float32")
    ]
    assert not same(weights(one[0]), weights(one[1]))


@pytest.mark.parametrize("field", ["optimizer", "precision"])
def test_unknown_choices_are_refused(field):
    with pytest.raises(InputError, match=rf"{field}: expected one of .*, got 'other'"):
        TrainingRecipe(epochs=1, **{field: "other"})


def test_networks_may_read_several_data_sets():
    """The first is the default; others are refused with all that would do."""
    spec = get_model("resnet20")
    assert PruneConfig(model="resnet20").dataset == spec.dataset == "cifar10"
    assert PruneConfig(model="resnet20", dataset="cifar10-jpeg").dataset == "cifar10-jpeg"
    with pytest.raises(InputError, match="resnet20 reads cifar10 or cifar10-jpeg, got 'mnist'"):
        PruneConfig(model="resnet20", dataset="mnist")
    single = ModelSpec("x", "X", "An x.", "digits", nn.Identity)
    assert (single.datasets, single.dataset) == (("digits",), "digits")


def test_a_network_without_shipped_weights_says_what_to_do():
    spec = ModelSpec("unheard-of", "X", "An x.", "digits", nn.Identity)
    with pytest.raises(
        InputError, match=r"no trained weights ship for unheard-of.*--weights.*train --model unheard-of"
    ):
        spec.shipped_weights()
    assert get_model("digits-mlp").shipped_weights().is_file()


def test_the_card_names_the_data_and_the_recipe(tmp_path):
    """What anyone needs to make the same weights again."""
    _, result = train_and_save("digits-mlp", tmp_path, epochs=2, dataset="digits")
    card = (tmp_path / "digits-mlp.md").read_text()
    assert "| data | digits: Digits (8×8) (" in card
    assert f"| {result.accuracy:.2f} % ± " in card
    assert "on Digits (8×8)" in card
    assert "Adam, 2 epochs, batch 64, learning rate 0.002 (cosine)" in card
    assert "train --model digits-mlp --seed 0 --epochs 2" in card
    with pytest.raises(InputError, match="digits-mlp reads digits, got 'mnist'"):
        train_and_save("digits-mlp", tmp_path, epochs=1, dataset="mnist")
