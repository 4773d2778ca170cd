"""Which tensors are prunable and where they lie in the flat vector."""

import copy

import pytest
import torch
from cases import network
from torch import nn
from torch.nn.utils import parametrizations, prune

from woodfisher_core.errors import InputError
from woodfisher_core.parameters import PrunableParameters


@pytest.mark.parametrize(
    ("kind", "names", "numbers"),
    [
        ("mlp", ("0.weight", "2.weight", "4.weight"), (60, 50, 15)),
        ("conv", ("conv1.weight", "conv2.weight", "fc.weight"), (27, 108, 12)),
        ("tied", ("first.weight", "head.weight"), (64, 24)),
    ],
)
def test_weights_of_linear_and_conv_layers(kind, names, numbers):
    """Weights only, no biases nor BatchNorm, end to end in the model's order; tied weights once."""
    parameters = PrunableParameters.from_model(network(kind))
    assert parameters.names == names
    assert tuple(layer.numel for layer in parameters.layers) == numbers
    assert [layer.offset for layer in parameters.layers] == [sum(numbers[:i]) for i in range(len(numbers))]
    assert parameters.num_prunable == sum(numbers)


def test_flatten_and_unflatten_are_inverse():
    """Flattening follows the layers' offsets, and unflattening undoes it without a copy."""
    model = network("conv")
    parameters = PrunableParameters.from_model(model)
    flat = parameters.flatten(model.state_dict())
    for layer in parameters.layers:
        own = model.state_dict()[layer.name]
        assert torch.equal(flat[layer.slice], own.reshape(-1))
        assert torch.equal(parameters.unflatten(flat)[layer.name], own)
    assert parameters.unflatten(flat)["fc.weight"].data_ptr() == flat[135:].data_ptr()


def test_tied_weights_are_written_under_every_name():
    """Both names of a tied weight get the new values; the given state is not changed."""
    model = network("tied")
    parameters = PrunableParameters.from_model(model)
    state = model.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    written = parameters.written_into(state, torch.arange(88.0))
    assert parameters.layers[0].aliases == ("second.weight",)
    assert torch.equal(written["first.weight"], torch.arange(64.0).view(8, 8))
    assert torch.equal(written["second.weight"], written["first.weight"])
    assert all(torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize(
    ("kind", "exclude", "left"),
    [
        ("conv", ["fc"], ("conv1.weight", "conv2.weight")),
        ("conv", ["fc.weight"], ("conv1.weight", "conv2.weight")),
        ("conv", ["conv*"], ("fc.weight",)),
        ("conv", ["conv1", "fc"], ("conv2.weight",)),
        ("tied", ["second"], ("head.weight",)),
    ],
)
def test_exclude(kind, exclude, left):
    """Layers go by module name, parameter name, pattern or alias; offsets close up."""
    parameters = PrunableParameters.from_model(network(kind), exclude)
    assert parameters.names == left
    assert parameters.layers[0].offset == 0


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (["fc9"], "no prunable layer matches 'fc9'; prunable layers are conv1, conv2, fc"),
        (["conv1", "bn"], "no prunable layer matches 'bn'"),
        (["*"], "no prunable weights"),
    ],
)
def test_bad_exclude(exclude, message):
    """A pattern that matches nothing, or everything, is refused."""
    with pytest.raises(InputError, match=message):
        PrunableParameters.from_model(network("conv"), exclude)


def test_nothing_to_prune():
    """A module without Linear or Conv layers is named."""
    with pytest.raises(InputError, match="got BatchNorm1d"):
        PrunableParameters.from_model(nn.BatchNorm1d(3))


@pytest.mark.parametrize("wrap", [lambda m: prune.identity(m, "weight"), parametrizations.weight_norm])
def test_computed_weights_are_refused(wrap):
    """A weight that is computed from others cannot be pruned as it stands."""
    model = copy.deepcopy(network("mlp"))
    wrap(model[0])
    with pytest.raises(InputError, match="layer '0': its weight is computed"):
        PrunableParameters.from_model(model)


def test_wrong_flat_length():
    """A flat vector of another length is refused with both numbers."""
    with pytest.raises(InputError, match=r"expected shape \(125,\), got \(124,\)"):
        PrunableParameters.from_model(network("mlp")).unflatten(torch.zeros(124))
