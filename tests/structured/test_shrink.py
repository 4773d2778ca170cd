"""The smaller network behind any zeros: it computes the same, and nothing that can go is left in it."""

import copy
from functools import cache

import pytest
import torch
from cases import TiedNet, seeded
from channel_nets import BUILDERS, build, data, inputs, mlp, settled
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from woodfisher_core.checkpoints import load_into, load_state
from woodfisher_core.data import get_dataset
from woodfisher_core.errors import InputError
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.gradual import prune_gradually
from woodfisher_core.models import get_model
from woodfisher_core.pruning import prune
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.structured import Sizes, channels_if_any, prune_channels, shrunk, sizes

KINDS = tuple(BUILDERS)


def difference(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Largest difference of their outputs, relative to the largest output."""
    with torch.no_grad():
        wanted, got = one(x), other(x)
    return float((got - wanted).abs().max() / wanted.abs().max())


def same_state(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def pruned(kind: str, **options):
    return prune_channels(build(kind), [data(kind, 40)], **{"num_samples": 40, "device": "cpu", **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparsity", [0.2, 0.5])
def test_finds_again_what_structured_pruning_removed(kind, sparsity):
    """From the zeros alone: the very network that is left when the chosen channels are removed."""
    result = pruned(kind, sparsity=sparsity)
    masked = result.masked(build(kind))
    before = copy.deepcopy(masked.state_dict())
    smaller = shrunk(masked, inputs(kind, 4))
    assert same_state(smaller, result.removed(build(kind)))
    assert same_state(smaller, shrunk(masked, inputs(kind, 4), channels_if_any(build(kind), inputs(kind, 2))))
    assert parameters_of(smaller) == result.parameters_after < result.parameters_before
    assert difference(masked, smaller, inputs(kind, 16, seed=5)) <= 1e-5
    assert all(torch.equal(before[name], tensor) for name, tensor in masked.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_biases_and_scales_of_dead_channels_may_be_anything(kind):
    """As after training with a mask of the weights: bias, γ and β of a channel whose weights are all zero are not."""
    result = pruned(kind, sparsity=0.4)
    parameters = result.channels.parameters
    noise = torch.randn(len(result.keep), generator=torch.Generator().manual_seed(4))
    free = ~result.keep & ~result.channels.countable
    assert free.any()
    moved = parameters.placed_in(build(kind), torch.where(free, noise, result.weights))
    smaller = shrunk(moved, inputs(kind, 4))
    assert same_state(smaller, result.removed(build(kind)))
    assert difference(moved, smaller, inputs(kind, 16, seed=5)) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_unstructured_zeros(kind, sparsity):
    """Single weights by magnitude: same outputs, at times fewer parameters, and a second look finds nothing more."""
    model = prune(build(kind), [], method="magnitude", sparsity=sparsity, device="cpu").applied_to(build(kind))
    smaller = shrunk(model, inputs(kind, 4))
    assert difference(model, smaller, inputs(kind, 16, seed=5)) <= 1e-5
    assert parameters_of(smaller) <= parameters_of(model)
    if kind != "grouped":  # with one channel left a group it has become depthwise, and then loses channels singly
        assert same_state(shrunk(smaller, inputs(kind, 4)), smaller)
    if sparsity == 0.95:
        assert parameters_of(smaller) < parameters_of(model)


def test_what_only_unread_channels_read_goes_too():
    """6-10-5-3: nothing reads the first two of the five, which alone read the first four of the ten."""
    model = build("mlp")
    with torch.no_grad():
        model[4].weight[:, :2] = 0.0
        model[2].weight[2:, :4] = 0.0
    smaller = shrunk(model, inputs("mlp", 4))
    assert [tuple(smaller[n].weight.shape) for n in (0, 2, 4)] == [(6, 6), (3, 6), (3, 3)]
    assert torch.equal(smaller[0].weight, model[0].weight[4:])
    assert torch.equal(smaller[2].weight, model[2].weight[2:, 4:])
    assert difference(model, smaller, inputs("mlp", 16, seed=5)) <= 1e-5
    with torch.no_grad():
        model[2].weight[4, 3] = 1e-20  # however little, it is read
    assert shrunk(model, inputs("mlp", 4))[0].out_features == 7


def test_a_zero_filter_that_is_read_stays():
    """Its bias goes on to the next layer."""
    model = build("mlp")
    with torch.no_grad():
        model[0].weight[3] = 0.0
    smaller = shrunk(model, inputs("mlp", 4))
    assert same_state(smaller, model)


@pytest.mark.parametrize("kind", ["mlp", "residual", "grouped"])
def test_one_channel_of_each_set_stays(kind):
    """All weights zero: one channel (one a group of the grouped convolution) is left, and the outputs are the last bias."""
    model = build(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()
    smaller = shrunk(model, inputs(kind, 4))
    widths = [m.weight.shape[0] for m in smaller.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert widths == {"mlp": [1, 1, 3], "residual": [1, 1, 1, 2], "grouped": [2, 2, 3]}[kind]
    assert difference(model, smaller, inputs(kind, 8)) <= 1e-5


@pytest.mark.parametrize(
    "make", [mlp, TiedNet, lambda: nn.Linear(6, 3), BUILDERS["residual"]], ids=["mlp", "tied", "linear", "residual"]
)
def test_nothing_to_remove_is_an_equal_copy(make):
    """Also where no channel could ever go; the copy is apart from the model, in the same mode."""
    model = settled(seeded(make)).train()
    shape = {"TiedNet": (8,), "ResidualNet": (1, 6, 6)}.get(type(model).__name__, (6,))
    smaller = shrunk(model, torch.randn(4, *shape, generator=torch.Generator().manual_seed(1)))
    assert same_state(smaller, model)
    assert smaller.training
    assert model.training
    assert not {p.data_ptr() for p in smaller.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_type_mode_and_frozen_parameters_are_kept():
    """Float64, training mode and what does not train stay as they are."""
    model = pruned("residual", sparsity=0.4).masked(build("residual")).double().train()
    model.bn1.weight.requires_grad_(False)
    smaller = shrunk(model, inputs("residual", 4).double())
    assert {parameter.dtype for parameter in smaller.parameters()} == {torch.float64}
    assert smaller.training
    assert [name for name, parameter in smaller.named_parameters() if not parameter.requires_grad] == ["bn1.weight"]


class Normed(nn.Module):
    """Divides hidden units by their norm, which no layer holds and no zero filter shows."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x).relu()
        return self.fc3(self.fc2(x / x.square().sum(1, keepdim=True).sqrt()).relu())


def test_what_is_read_beside_layers_stays():
    """No weight reads two units of fc1, but their norm does: they stay; fc2's unread unit goes."""
    model = seeded(Normed).eval()
    with torch.no_grad():
        model.fc2.weight[:, :2] = 0.0
        model.fc3.weight[:, 4] = 0.0
    smaller = shrunk(model, inputs("mlp", 4))
    assert (smaller.fc1.out_features, smaller.fc2.out_features) == (8, 4)
    assert difference(model, smaller, inputs("mlp", 16, seed=5)) <= 1e-5


class Restless(nn.Module):
    """Never the same twice, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.dropout(self.fc1(x).relu(), training=True))


class Calm(Restless):
    """Of the same architecture."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x).relu())


@pytest.mark.parametrize("known", [False, True])
def test_bad_models(known):
    """What cannot be compared is refused in words, whether its channels are known or not."""
    channels = channels_if_any(seeded(Calm), inputs("mlp", 4)) if known else None
    with pytest.raises(InputError, match="gives other outputs each time"):
        shrunk(seeded(Restless), inputs("mlp", 4), channels)
    model = build("mlp")
    channels = channels_if_any(model, inputs("mlp", 4)) if known else None
    with torch.no_grad():
        model[0].bias[0] = float("nan")
    with pytest.raises(InputError, match="its parameters hold NaN"):
        shrunk(model, inputs("mlp", 4), channels)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes(kind):
    """Parameters counted one by one, multiply-adds as torch counts them."""

    def multiply_adds(model: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(inputs(kind, 1))
        return counter.get_total_flops() // 2

    model = pruned(kind, sparsity=0.4).masked(build(kind))
    smaller = shrunk(model, inputs(kind, 4))
    found = sizes(model, smaller, inputs(kind, 4))
    counts = parameters_of(smaller), parameters_of(model), multiply_adds(smaller), multiply_adds(model)
    assert found == Sizes(*counts)
    assert counts[0] < counts[1]
    assert counts[2] < counts[3]


@cache
def digits():
    return get_dataset("digits").load(None)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_after_gradual_pruning(optimizer):
    """Two structured steps with training between: the momentum of before moves biases of channels that went, and yet the
    network can be cut down to its mask, and computes the same."""
    spec = get_model("digits-cnn")
    model = spec.build()
    load_into(model, load_state(spec.weights_file), "digits-cnn")
    train, test = digits().train.samples(range(300)), digits().test.samples(range(200))
    result = prune_gradually(
        model,
        train,
        schedule=GradualSchedule(initial=0.2, final=0.5, end_epoch=2),
        epochs=3,
        evaluate=test,
        tuning=FineTuning(learning_rate=0.001, optimizer=optimizer),
        options={"method": "structured", "num_samples": 100, "damping": 0.1},
        device="cpu",
    )
    kept = [1 - record.sparsity for record in result.records]
    assert kept[0] > kept[1] == kept[2]
    assert [record.sparsity >= record.level for record in result.records] == [True] * 3
    tuned = result.applied_to(model).eval()
    smaller = shrunk(tuned, test.inputs[:4])
    assert difference(tuned, smaller, test.inputs) <= 1e-5
    weights = [parameter.numel() for parameter in smaller.parameters() if parameter.ndim > 1]
    assert sum(weights) == int(result.keep.sum())
    gone = result.masks()["conv2.weight"].flatten(1).any(1).logical_not()
    assert smaller.conv2.out_channels == int((~gone).sum()) < 16
    assert tuned.bn2.bias[gone].count_nonzero() > 0
