"""Fine-tuning: learning rates, settings, and weights that stay at zero."""

import copy
import itertools
import math

import pytest
import torch
from cases import batch, network
from torch import nn

from woodfisher_core.data.base import Samples
from woodfisher_core.epoch import train_epoch
from woodfisher_core.errors import InputError
from woodfisher_core.fine_tuning import FineTuning, Optimizer, RateShape, hold_at_zero
from woodfisher_core.parameters import PrunableParameters


def samples(kind: str, count: int = 50) -> Samples:
    return Samples(*batch(kind, count))


def masks(model: nn.Module) -> dict[str, torch.Tensor]:
    parameters = PrunableParameters.from_model(model)
    keep = torch.rand(parameters.num_prunable, generator=torch.Generator().manual_seed(3)) >= 0.6
    return parameters.unflatten(keep)


def test_rates_by_hand():
    """Constant; half a cosine that starts at the full rate and would end at 0 one epoch later; steps."""
    assert [FineTuning(learning_rate=0.2, rate_shape="constant").rate(t, 4) for t in (1, 4)] == [0.2, 0.2]
    cosine = [FineTuning(learning_rate=0.2, rate_shape="cosine").rate(t, 4) for t in range(1, 5)]
    half = 0.1 * math.sqrt(0.5)
    assert cosine == pytest.approx([0.2, 0.1 + half, 0.1, 0.1 - half], rel=1e-12)
    steps = FineTuning(learning_rate=0.2, rate_shape="step", step_epochs=2, step_factor=0.5)
    assert [steps.rate(t, 9) for t in range(1, 7)] == pytest.approx([0.2, 0.2, 0.1, 0.1, 0.05, 0.05], rel=1e-12)


def test_cosine_is_pytorchs():
    """The closed form equals the scheduler that trained the shipped networks."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for epoch in range(1, 8):
        found = FineTuning(learning_rate=0.3, rate_shape="cosine").rate(epoch, 7)
        assert found == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("kind", ["mlp", "conv", "tied"])
@pytest.mark.parametrize("optimizer", list(Optimizer), ids=str)
def test_pruned_weights_and_their_momentum_stay_zero(kind, optimizer):
    """After every step: exact zeros (no −0) in the weight and in all the optimizer remembers of it, and only there."""
    model = copy.deepcopy(network(kind))
    descent = FineTuning(optimizer=optimizer, learning_rate=0.01, weight_decay=1e-3).optimizer_for(model)
    keep = masks(model)
    train_epoch(model, samples(kind), descent, torch.Generator(), batch_size=10)  # momentum everywhere
    hold_at_zero(model, keep, descent)
    steps = []

    def check() -> None:
        hold_at_zero(model, keep, descent)
        for name, kept in keep.items():
            weight = model.get_parameter(name)
            held = [t for t in descent.state[weight].values() if t.shape == weight.shape]
            assert len(held) == (1 if optimizer is Optimizer.SGD else 2)
            for tensor in (weight.detach(), *held):
                assert not tensor[~kept].any()
                assert not tensor[~kept].signbit().any()
                assert tensor[kept].any()
        steps.append(True)

    train_epoch(model, samples(kind), descent, torch.Generator(), batch_size=10, after_step=check)
    assert len(steps) == 5


def test_masked_training_is_training_of_the_survivors():
    """Three SGD steps with momentum and decay equal those written out in float64 on the surviving weights alone."""
    model = nn.Sequential(nn.Linear(6, 3, bias=False)).double()
    keep = masks(model)
    data = Samples(batch("mlp", 30)[0].double(), batch("mlp", 30)[1])
    tuning = FineTuning(learning_rate=0.1, momentum=0.8, weight_decay=0.02)
    descent = tuning.optimizer_for(model)
    hold_at_zero(model, keep, descent)
    weight, kept = model[0].weight.detach().clone(), keep["0.weight"]
    speed = torch.zeros_like(weight)
    train_epoch(
        model,
        data,
        descent,
        torch.Generator().manual_seed(4),
        batch_size=10,
        after_step=lambda: hold_at_zero(model, keep, descent),
    )
    for picked in torch.randperm(30, generator=torch.Generator().manual_seed(4)).split(10):
        inputs, targets = data.inputs[picked], data.targets[picked]
        error = (inputs @ weight.T).softmax(1) - nn.functional.one_hot(targets, 3)
        gradient = error.T @ inputs / 10 + 0.02 * weight
        speed = 0.8 * speed + gradient * kept
        weight = weight - 0.1 * speed
    assert torch.allclose(model[0].weight, weight, rtol=1e-12, atol=0.0)


def test_overflow_in_a_pruned_weight_is_still_zero():
    """A product with the mask would leave NaN."""
    model = copy.deepcopy(network("mlp"))
    keep = masks(model)
    with torch.no_grad():
        for name, kept in keep.items():
            model.get_parameter(name)[~kept] = math.inf
    hold_at_zero(model, keep, FineTuning().optimizer_for(model))
    assert all(not model.get_parameter(name)[~kept].any() for name, kept in keep.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lbfgs"}, "optimizer: expected one of sgd, adam, got 'lbfgs'"),
        ({"rate_shape": "linear"}, "rate shape: expected one of constant, cosine, step, got 'linear'"),
        ({"learning_rate": 0}, "learning rate: expected a positive number, got 0"),
        ({"learning_rate": math.nan}, "learning rate: expected a positive number, got nan"),
        ({"momentum": 1.0}, "momentum: expected a number from 0 to below 1, got 1.0"),
        ({"weight_decay": -1e-4}, "weight decay: expected a number of at least 0, got -0.0001"),
        ({"step_factor": 0.0}, "step factor: expected a number above 0, at most 1, got 0.0"),
        ({"step_epochs": 0}, "step epochs: expected a whole number of at least 1, got 0"),
        ({"batch_size": 1}, "batch size: expected a whole number of at least 2, got 1"),
        ({"precision": "float16"}, "precision: expected one of float32, bfloat16, got 'float16'"),
    ],
)
def test_bad_settings(settings, message):
    """Refused when made."""
    with pytest.raises(InputError, match=message):
        FineTuning(**settings)


def test_settings_carry_their_texts():
    """Every choice explains itself, and plain strings are taken for them."""
    assert all(choice.label and choice.help for choice in itertools.chain(Optimizer, RateShape))
    assert FineTuning(optimizer="adam").optimizer is Optimizer.ADAM
    assert isinstance(FineTuning(optimizer="adam").optimizer_for(network("mlp")), torch.optim.Adam)
