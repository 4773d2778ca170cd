"""The epoch every trainer shares: the loop written out, its mean loss, augmentation, bfloat16 and divergence."""

import copy

import pytest
import torch
from cases import batch, network
from torch.nn.functional import cross_entropy

from woodfisher_core.data.base import Samples
from woodfisher_core.epoch import train_epoch
from woodfisher_core.errors import NumericalError
from woodfisher_core.fine_tuning import FineTuning


def samples(kind: str, count: int = 50) -> Samples:
    return Samples(*batch(kind, count))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_epoch_is_the_loop_written_out(kind):
    """Same bits as a plain loop with Adam in train mode, over every sample once in a random order but for a last single one."""
    data, model, wanted = samples(kind), copy.deepcopy(network(kind)), copy.deepcopy(network(kind)).train()
    calls = []
    mean = train_epoch(
        model,
        data,
        torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1),
        torch.Generator().manual_seed(5),
        batch_size=7,
        after_step=lambda: calls.append(True),
    )
    adam, losses = torch.optim.Adam(wanted.parameters(), lr=0.01, weight_decay=0.1), []
    order = torch.randperm(50, generator=torch.Generator().manual_seed(5))
    for start in range(0, 49, 7):
        picked = order[start : start + 7]
        value = cross_entropy(wanted(data.inputs[picked]), data.targets[picked])
        adam.zero_grad()
        value.backward()
        adam.step()
        losses.append(value.item())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in wanted.state_dict().items())
    assert mean == pytest.approx(sum(losses) / 7, rel=1e-5)
    assert model.training
    assert len(calls) == 7


def test_mean_loss_weighs_batches_by_their_size():
    """At learning rate zero it is the loss over all samples; a batch of one is left out."""
    model, data = copy.deepcopy(network("mlp")), samples("mlp", 50)
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    wanted = cross_entropy(model(data.inputs), data.targets).item()
    assert train_epoch(model, data, still, torch.Generator(), batch_size=16) == pytest.approx(wanted, rel=1e-5)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))[:49]
    wanted = cross_entropy(model(data.inputs[order]), data.targets[order]).item()
    found = train_epoch(model, data, still, torch.Generator().manual_seed(1), batch_size=7)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_augmentation_moves_images_by_the_generator():
    """It changes what is learned, and is the same again from the same generator."""
    data = Samples(torch.randn(20, 1, 6, 6, generator=torch.Generator().manual_seed(0)), batch("conv", 20)[1])

    def learned(augment: bool) -> torch.Tensor:
        model = copy.deepcopy(network("conv"))
        train_epoch(model, data, FineTuning().optimizer_for(model), torch.Generator(), batch_size=5, augment=augment)
        return model.fc.weight.detach()

    assert torch.equal(learned(True), learned(True))
    assert not torch.equal(learned(True), learned(False))


def test_bfloat16_products():
    """Near the float32 result, not equal to it; weights stay float32 and as they lay in memory."""
    found = {}
    for low in (False, True):
        model = copy.deepcopy(network("conv"))
        descent = FineTuning(learning_rate=0.05).optimizer_for(model)
        train_epoch(model, samples("conv"), descent, torch.Generator(), batch_size=10, bfloat16=low)
        found[low] = model.conv2.weight.detach()
    assert found[True].dtype is torch.float32
    assert found[True].is_contiguous()
    moved = (found[False] - network("conv").conv2.weight).norm()
    assert 0.0 < (found[True] - found[False]).norm() < 0.2 * moved


def test_divergence_is_said():
    """A loss that is no number ends the run with the knob to turn."""
    model = copy.deepcopy(network("mlp"))
    wild = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(NumericalError, match=r"the loss became (nan|inf)\. Use a lower learning rate"):
        train_epoch(model, samples("mlp"), wild, torch.Generator(), batch_size=10)
