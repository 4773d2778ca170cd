"""Sparse layers compute what the dense ones with zeros do."""

import pytest
import torch
from torch import nn

from tests.cases import ConvNet, mlp
from woodfisher_core.errors import InputError
from woodfisher_core.sparse import CsrLinear, csr, with_csr, with_semi_structured


def sparse_mlp(sparsity: float = 0.7) -> nn.Module:
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight[torch.rand_like(layer.weight) < sparsity] = 0.0
    return model


def test_csr_holds_the_weights_that_are_not_zero():
    """By rows, with 32-bit indices, back to the very same matrix."""
    weight = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, -3.0]])
    packed = csr(weight)
    assert packed.crow_indices().tolist() == [0, 1, 1, 3]
    assert packed.col_indices().tolist() == [1, 0, 2]
    assert packed.values().tolist() == [2.0, 1.0, -3.0]
    assert {packed.crow_indices().dtype, packed.col_indices().dtype} == {torch.int32}
    assert torch.equal(packed.to_dense(), weight)


@pytest.mark.parametrize("shape", [(1, 6), (5, 6), (2, 3, 6)])
def test_the_csr_network_computes_the_same(shape):
    """Against float64; with inputs of any number of dimensions."""
    model = sparse_mlp()
    network, names = with_csr(model)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    wanted = mlp().double()
    wanted.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    got = network(inputs)
    assert names == ("0", "2")
    assert got.shape == (*shape[:-1], 3)
    torch.testing.assert_close(got.double(), wanted(inputs.double()), rtol=1e-5, atol=1e-6)


def test_the_model_stays_as_it_is():
    model = sparse_mlp()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network, _ = with_csr(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not network.training
    assert isinstance(network[0], CsrLinear)
    assert isinstance(network[4], nn.Linear)  # no zero in it


def test_a_layer_without_bias():
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight[0] = 0.0
    network, _ = with_csr(nn.Sequential(layer))
    inputs = torch.ones(2, 4)
    torch.testing.assert_close(network(inputs), layer(inputs))


@pytest.mark.parametrize("model", [mlp(), nn.Sequential(nn.Conv2d(1, 2, 3))], ids=["no zeros", "no Linear layer"])
def test_without_such_layers_it_says_so(model):
    with pytest.raises(InputError, match="expected a Linear layer with zeros, found none"):
        with_csr(model)


def test_convolutions_stay_dense():
    model = ConvNet().eval()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.fc.weight[0] = 0.0
    network, names = with_csr(model)
    assert names == ("fc",)
    assert isinstance(network.conv1, nn.Conv2d)


def test_two_of_four_needs_a_gpu():
    with pytest.raises(InputError, match=r"2:4: expected an NVIDIA GPU .* got cpu"):
        with_semi_structured(sparse_mlp())


@pytest.mark.gpu
def test_two_of_four_on_a_gpu():
    """Against the same half-precision weights multiplied densely."""
    torch.manual_seed(0)
    layer = nn.Linear(128, 64).cuda()
    with torch.no_grad():
        layer.weight.view(64, 32, 4)[..., :2] = 0.0
    network, names = with_semi_structured(nn.Sequential(layer))
    inputs = torch.randn(32, 128, device="cuda")
    assert names == ("0",)
    torch.testing.assert_close(network(inputs.half()).float(), layer(inputs), rtol=2e-2, atol=2e-2)
