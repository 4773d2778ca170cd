"""Multiply-adds: how often each weight works, budgets in their units, and statistics weighed by them."""

import copy

import pytest
import torch
from cases import batch, network, seeded
from torch import Tensor, nn

from woodfisher_core.flops import positions, spread
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.pruning import prune


class Odd(nn.Module):
    """Strides, paddings, groups, a layer used twice, one on a sequence and one never used, on (n, 2, 9, 7)."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(2, 4, 3, stride=2, padding=1)  # 9×7 → 5×4
        self.grouped = nn.Conv2d(4, 4, (1, 3), padding=(0, 1), groups=2)  # stays 5×4; twice
        self.wide = nn.Conv2d(4, 6, 2, dilation=2)  # → 3×2
        self.line = nn.Conv1d(6, 3, 2)  # over 6 places → 5
        self.each = nn.Linear(3, 2)  # at each of the 5
        self.spare = nn.Linear(3, 3)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.grouped(self.strided(x)))
        x = self.line(self.wide(x).flatten(2)).transpose(1, 2)
        return self.head(self.each(x).flatten(1))


COUNTS = {"strided": 20, "grouped": 2 * 20, "wide": 6, "line": 5, "each": 5, "spare": 0, "head": 1}


def macs_by_formula(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Multiply-adds of each module from its shapes: every output value costs (inputs of its group × kernel) products."""
    found: dict[str, int] = {}

    def hook(name: str):
        def count(module: nn.Module, _args: tuple, output: Tensor) -> None:
            if isinstance(module, nn.Linear):
                one = module.in_features
            else:
                one = module.in_channels // module.groups * int(torch.tensor(module.kernel_size).prod())
            found[name] = found.get(name, 0) + output[0].numel() * one

        return count

    model = copy.deepcopy(model).eval()
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            module.register_forward_hook(hook(name))
    model(inputs)
    return found


def test_hand_counts():
    """Output places of each layer: twice for a layer used twice, none for one that is not used; the batch does not count."""
    model, inputs = seeded(Odd), torch.randn(3, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    parameters = PrunableParameters.from_model(model)
    found = positions(model, parameters, inputs)
    assert found.dtype is torch.float64
    for layer in parameters.layers:
        assert found[layer.slice].tolist() == [COUNTS[layer.module]] * layer.numel
    formula = macs_by_formula(model, inputs)
    assert {la.module: int(found[la.slice].sum()) for la in parameters.layers} == {"spare": 0, **formula}


def test_tied_weights_count_once_a_use():
    """One weight of two layers works twice a sample; an excluded layer has no place in the vector."""
    model = network("tied")
    parameters = PrunableParameters.from_model(model)
    assert positions(model, parameters, batch("tied", 2)[0]).tolist() == [2.0] * 64 + [1.0] * 24
    head = PrunableParameters.from_model(model, ["first"])
    assert positions(model, head, batch("tied", 2)[0]).tolist() == [1.0] * 24


def test_the_model_stays_as_it_is():
    """Modes of every module, hooks and BatchNorm's statistics."""
    model = copy.deepcopy(network("conv")).train()
    model.bn.eval()  # frozen BatchNorm in a network that trains
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    counted = positions(model, PrunableParameters.from_model(model), batch("conv", 4)[0])
    assert counted.unique().tolist() == [1.0, 16.0, 36.0]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        positions(model, PrunableParameters.from_model(model), torch.zeros(1, 2, 6, 6))
    assert not any(module._forward_hooks for module in model.modules())


def test_spread():
    parameters = PrunableParameters.from_model(network("conv"))
    assert spread(parameters, [1.5, 0.0, 2.0], "cpu").tolist() == [1.5] * 27 + [0.0] * 108 + [2.0] * 12


def run(**options):
    return prune(network("conv"), [batch("conv", 30)], **{"num_samples": 30, "device": "cpu", **options})


COSTS = torch.tensor([36.0] * 27 + [16.0] * 108 + [1.0] * 12, dtype=torch.float64)


@pytest.mark.parametrize("method", ["magnitude", "woodfisher"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.6, 0.95])
def test_a_flop_budget_end_to_end(method, sparsity):
    """What stays does at most 1 − s of the multiply-adds, and one weight more would do too many."""
    result = run(method=method, sparsity=sparsity, budget="flops")
    keep, budget = result.mask.keep, (1 - sparsity) * float(COSTS.sum())
    spent = float(COSTS[keep].sum())
    assert spent <= budget * (1 + 1e-12)
    if sparsity:
        following = int(torch.where(keep, -torch.inf, result.saliency).argmax())
        assert spent + float(COSTS[following]) > budget
        assert float(result.saliency[keep].min()) >= float(result.saliency[following])
        assert abs(result.sparsity - sparsity) > 1e-3
    else:
        assert keep.all()


def test_a_flop_budget_in_every_layer():
    """In each layer the same share of the multiply-adds, which are the same for all of its weights."""
    result = run(sparsity=0.5, budget="flops", scope="layer")
    assert [int(keep.sum()) for keep in result.masks().values()] == [13, 54, 6]


def test_flops_power():
    """β = 0 changes nothing; β divides the statistic by c^β; a large one empties early layers first."""
    plain, zero = run(sparsity=0.5), run(sparsity=0.5, flops_power=0.0)
    assert torch.equal(plain.saliency, zero.saliency)
    assert torch.equal(plain.weights, zero.weights)
    third = run(sparsity=0.5, flops_power=0.3)
    assert torch.allclose(third.saliency * COSTS**0.3, plain.saliency, rtol=1e-12, atol=0)
    strong = run(sparsity=0.5, flops_power=50.0)
    assert [int(keep.sum()) for keep in strong.masks().values()] == [0, 73 - 12, 12]
    assert [int(keep.sum()) for keep in plain.masks().values()] != [0, 73 - 12, 12]


def test_weights_that_are_never_used_are_cheap_to_keep():
    """A layer the output does not depend on costs nothing: neither the power nor the budget divides by zero."""
    model = seeded(Odd).eval()
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randn(6, 2, 9, 7, generator=generator), torch.randint(3, (6,), generator=generator))]
    for options in ({"flops_power": 1.0}, {"budget": "flops"}, {"budget": "flops", "scope": "layer"}):
        result = prune(model, data, num_samples=6, method="magnitude", sparsity=0.5, device="cpu", **options)
        assert torch.isfinite(result.saliency).all()
        assert 0 < result.mask.kept < result.parameters.num_prunable
