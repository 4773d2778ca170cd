"""Which parameters make up a channel, which channels can go, and why others cannot."""

import copy

import pytest
import torch
from cases import TiedNet, seeded
from channel_nets import (
    AddsInput,
    ChannelsLastFlat,
    FixedSize,
    build,
    inputs,
    mlp,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from woodfisher_core.errors import InputError
from woodfisher_core.models import get_model, mobilenet_v1, resnet20
from woodfisher_core.structured import all_parameters, find_channels


def marked(model: nn.Module, **places) -> list[int]:
    """Flat places of the marked entries: keyword ``conv1__weight`` → index into that parameter, in the model's order."""
    flat = []
    for name, parameter in model.named_parameters():
        mark = torch.zeros(parameter.shape, dtype=torch.bool)
        for index in places.get(name.replace(".", "__"), ()):
            mark[index] = True
        flat.append(mark.reshape(-1))
    return torch.cat(flat).nonzero().squeeze(1).tolist()


def found(model: nn.Module, example: torch.Tensor, **options) -> dict[tuple[str, int], list[int]]:
    channels = find_channels(model, example, **options)
    return {(group.name, group.index): group.members.tolist() for group in channels.groups}


def test_theta_is_every_weight_bias_and_scale_in_order():
    """θ of a network of Linear, Conv and BatchNorm layers is its parameters end to end."""
    model = build("residual")
    parameters = all_parameters(model)
    assert parameters.names == tuple(name for name, _ in model.named_parameters())
    wanted = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    assert torch.equal(parameters.flatten(model.state_dict()), wanted)


def test_residual_groups_are_those_written_by_hand():
    """Residual partners share a group; a channel inside the block has its own."""
    model = build("residual")
    every, wanted = slice(None), {}
    for i in range(3):
        wanted["conv1", i] = marked(
            model,
            conv1__weight=[i],
            bn1__weight=[i],
            bn1__bias=[i],
            conv2__weight=[(every, i)],
            conv3__weight=[i],
            bn3__weight=[i],
            bn3__bias=[i],
            fc__weight=[(every, i)],
        )
    for j in range(4):
        wanted["conv2", j] = marked(
            model,
            conv2__weight=[j],
            conv2__bias=[j],
            bn2__weight=[j],
            bn2__bias=[j],
            conv3__weight=[(every, j)],
        )
    assert found(model, inputs("residual", 2)) == wanted


def test_readers_are_the_input_slices():
    """Of a residual set: the block's first layer and the head, not the filters that make the channel."""
    model = build("residual")
    every = slice(None)
    channels = find_channels(model, inputs("residual", 2))
    readers = {(group.name, group.index): group.readers.tolist() for group in channels.groups}
    wanted = {("conv1", i): marked(model, conv2__weight=[(every, i)], fc__weight=[(every, i)]) for i in range(3)}
    wanted |= {("conv2", j): marked(model, conv3__weight=[(every, j)]) for j in range(4)}
    assert readers == wanted
    for group in channels.groups:
        assert set(group.readers.tolist()) < set(group.members.tolist())


@pytest.mark.parametrize("kind", ["concat", "gated", "separable", "grouped", "flat"])
def test_only_readers_carry_a_channel_on(kind):
    """Outputs take no notice of a channel's filter, bias and scale once its readers are zero, but do before."""
    model = build(kind)
    x = inputs(kind, 8)
    channels = find_channels(model, x)
    theta = channels.parameters.flatten(model.state_dict())

    def outputs(values: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return channels.parameters.placed_in(model, values)(x)

    for group in channels.groups:
        cut = theta.clone()
        cut[group.readers] = 0.0
        noisy, rest = cut.clone(), group.members[~torch.isin(group.members, group.readers)]
        noisy[rest] += 1.0
        assert torch.allclose(outputs(noisy), outputs(cut), rtol=0, atol=1e-6)
        louder = theta.clone()
        louder[rest] += 1.0
        assert not torch.allclose(outputs(louder), outputs(theta), rtol=0, atol=1e-6)


def test_flatten_gives_a_channel_several_columns():
    model = build("flat")
    groups = found(model, inputs("flat", 2))
    columns = (slice(None), slice(8, 12))
    assert groups["conv", 2] == marked(model, conv__weight=[2], conv__bias=[2], fc1__weight=[columns])
    assert groups["fc1", 5] == marked(model, fc1__weight=[5], fc1__bias=[5], fc2__weight=[(slice(None), 5)])
    assert len(groups) == 4 + 6


def test_concatenation_shifts_the_columns():
    model = build("concat")
    groups = found(model, inputs("concat", 2))
    every = slice(None)
    assert groups["left", 1] == marked(model, left__weight=[1], left__bias=[1], both__weight=[(every, 1)])
    assert groups["right", 1] == marked(model, right__weight=[1], right__bias=[1], both__weight=[(every, 4)])
    assert len(groups) == 3 + 4 + 4


def test_gated_channels_go_with_their_gates():
    model = build("gated")
    groups = found(model, inputs("gated", 2))
    every = slice(None)
    assert groups["conv", 3] == marked(
        model,
        conv__weight=[3],
        conv__bias=[3],
        squeeze__weight=[(every, 3)],
        excite__weight=[3],
        excite__bias=[3],
        fc__weight=[(every, 3)],
    )
    assert sorted({name for name, _ in groups}) == ["conv", "squeeze"]


def test_depthwise_channels_pass_through():
    """Its only input slice is its own filter; BatchNorm without γ and β adds nothing; PReLU with one slope stays."""
    model = build("separable")
    groups = found(model, inputs("separable", 2))
    wanted = {
        "0__weight": [1],
        "0__bias": [1],
        "1__weight": [1],
        "1__bias": [1],
        "3__weight": [1],
        "3__bias": [1],
        "6__weight": [(slice(None), 1)],
    }
    theta = set(all_parameters(model).names)
    slope = [name for name, _ in model.named_parameters() if name not in theta]
    assert slope == ["2.weight"]
    without = copy.deepcopy(model)
    without[2] = nn.ReLU()
    assert groups["0", 1] == marked(without, **wanted)
    assert sorted({name for name, _ in groups}) == ["0", "6"]


def test_grouped_convolutions_lose_a_channel_in_every_group():
    """Channels i and i + 4 feed the two groups of a convolution, i and i + 3 leave it: they go together."""
    model = build("grouped")
    groups = found(model, inputs("grouped", 2))
    every = slice(None)
    # Input 1 of the first group is column 1 of its filters (rows 0 to 2), input 5 that of the second's (rows 3 to 5).
    assert groups["0", 1] == marked(model, **{"0__weight": [1, 5], "0__bias": [1, 5], "2__weight": [(every, 1)]})
    both = [(every, slice(8, 12)), (every, slice(20, 24))]
    own = {f"{layer}__{part}": [2, 5] for layer in (2, 3) for part in ("weight", "bias")}
    assert groups["2", 2] == marked(model, **own, **{"6__weight": both})
    assert len(groups) == 4 + 3


def test_every_channel_of_resnet20_is_listed_once():
    """Three residual sets of 16, 32, 64 and nine inner ones; filters are split among their sets' channels."""
    model = seeded(resnet20.build).eval()
    channels = find_channels(model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    inner = {f"layer{s}.{b}.conv1": 16 * 2 ** (s - 1) for s in (1, 2, 3) for b in range(3)}
    outer = {"conv1": 16, "layer2.0.conv2": 32, "layer3.0.conv2": 64}
    assert channels.widths == inner | outer
    owned = torch.zeros(channels.parameters.num_prunable, dtype=torch.int64)
    for group in channels.groups:
        owned[group.members] += 1
    named = channels.parameters.unflatten(owned)
    assert (named["conv1.weight"] == 1).all()  # no set reads the image
    assert (named["layer2.1.conv2.weight"] == 2).all()
    assert (named["fc.bias"] == 0).all()
    assert (named["bn1.weight"] == 1).all()
    assert channels.blocked == {"fc": "its channels are outputs of the network"}


def test_multiply_adds_by_hand_and_by_torch():
    """out positions × out × in/groups × k², and half of what torch's own counter calls FLOPs."""
    model = build("separable")
    channels = find_channels(model, inputs("separable", 5))
    assert channels.multiply_adds == 16 * 4 * 9 + 16 * 4 * 9 + 16 * 5 * 4 + 5 * 3
    assert channels.num_parameters == (36 + 4) + 8 + 1 + (36 + 4) + (20 + 5) + (15 + 3)
    assert int(channels.uses.sum()) == 16 * 36 + 16 * 36 + 16 * 20 + 15


@pytest.mark.parametrize("name", ["resnet20", "mobilenet", "digits-cnn", "residual", "grouped", "signal", "flat"])
def test_multiply_adds_equal_torchs_counter(name):
    if name == "resnet20":
        model, example = seeded(resnet20.build), torch.zeros(1, 3, 32, 32)
    elif name == "mobilenet":
        model, example = seeded(lambda: mobilenet_v1.build(10)), torch.zeros(1, 3, 32, 32)
    elif name == "digits-cnn":
        model, example = seeded(get_model(name).build), torch.zeros(1, 1, 8, 8)
    else:
        model, example = build(name), inputs(name, 1)
    counted = find_channels(model.eval(), example).multiply_adds
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    assert counted == counter.get_total_flops() / 2


def test_a_layer_used_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.again(self.again(self.first(x)).relu()))

    model = seeded(Twice)
    assert find_channels(model, torch.ones(3, 4)).multiply_adds == 16 + 2 * 16 + 8
    # A channel of it is input and output at once, and is that of the layer before.
    groups = found(model, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert groups["first", 1] == marked(
        model,
        first__weight=[1],
        first__bias=[1],
        again__weight=[1, (slice(None), 1)],
        again__bias=[1],
        last__weight=[(slice(None), 1)],
    )


@pytest.mark.parametrize("blocked", ["conv", "fc1"])
def test_excluded_layers_block_what_touches_them(blocked):
    """Neither an excluded layer's channels nor those it reads can go, and its parameters are not in θ."""
    model = build("flat")
    names = {"conv": {"fc1"}, "fc1": set()}[blocked]
    if not names:
        with pytest.raises(
            InputError, match="conv: fc1 is excluded; fc1: fc1 is excluded; fc2: its channels are outputs"
        ):
            find_channels(model, inputs("flat", 2), blocked)
        return
    channels = find_channels(model, inputs("flat", 2), blocked)
    assert set(channels.widths) == names
    assert channels.blocked["conv"] == "conv is excluded"
    assert not [name for name in channels.parameters.names if name.startswith("conv")]


def test_unknown_exclusion_is_refused():
    with pytest.raises(InputError, match="no prunable layer matches 'fc9'"):
        find_channels(build("flat"), inputs("flat", 2), ["fc9"])


WHAT_CANNOT = {
    "outputs": (lambda: nn.Sequential(nn.Linear(6, 3)), "0: its channels are outputs of the network"),
    "one channel": (lambda: nn.Sequential(nn.Linear(6, 1), nn.ReLU(), nn.Linear(1, 3)), "one channel, which must stay"),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        r"0: 1 \(LayerNorm\) cannot lose a channel here",
    ),
    "slopes": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.PReLU(4), nn.Linear(4, 3)),
        r"0: 1 \(PReLU\) cannot lose a channel here",
    ),
}


@pytest.mark.parametrize("name", list(WHAT_CANNOT))
def test_where_nothing_can_go_the_error_says_why(name):
    make, why = WHAT_CANNOT[name]
    with pytest.raises(InputError, match=f"no channel of Sequential can be removed.*{why}"):
        find_channels(seeded(make), inputs("mlp", 2))


def test_tied_weights_stay():
    with pytest.raises(InputError, match=r"first: first shares its weight with another layer \(tied\)"):
        find_channels(seeded(TiedNet), torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("make", "kind", "left"), [(ChannelsLastFlat, "flat", "fc1"), (AddsInput, "mlp", "fc2")])
def test_what_the_graph_gets_wrong_is_found_by_trying(make, kind, left):
    """Where zeroed and removed channels differ the set is blocked; sound sets stay."""
    channels = find_channels(seeded(make), inputs(kind, 4))
    assert set(channels.widths) == {left}
    (wrong,) = set(channels.blocked) - {"fc2" if left == "fc1" else "fc3"}
    assert channels.blocked[wrong].startswith("removing them changes what the network computes")


def test_a_size_written_into_the_code_is_found_by_trying():
    channels = find_channels(seeded(FixedSize), inputs("mlp", 4))
    assert set(channels.widths) == {"fc2"}
    assert "stops it running" in channels.blocked["fc1"]


def test_a_network_that_answers_at_random_is_refused():
    """Where outputs differ without any change, trying would blame the channels."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.last(nn.functional.dropout(self.first(x), 0.5, training=True))

    with pytest.raises(InputError, match="Noisy gives other outputs each time, or NaN"):
        seeded(lambda: find_channels(Noisy(), inputs("mlp", 4)))
    with pytest.raises(InputError, match="or NaN, on the example"):
        find_channels(mlp().eval(), inputs("mlp", 4).fill_(float("nan")))


def test_a_layer_that_is_not_used():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = mlp(), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    channels = find_channels(seeded(Spare), inputs("mlp", 2))
    assert channels.blocked["spare"] == "it takes no part in computing the outputs"
    assert set(channels.widths) == {"used.0", "used.2"}


def test_the_model_is_left_alone():
    """Training mode, gradients' flags, hooks and values stay as they were; frozen parameters and no_grad do not matter."""
    model = build("residual").train()
    model.conv1.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        channels = find_channels(model, inputs("residual", 2))
    assert len(channels.groups) == 7
    assert model.training
    assert not model.conv1.weight.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
