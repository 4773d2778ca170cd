"""The method ``structured``: what ``prune_channels`` does, as a method among others, and what it does with earlier zeros."""

from functools import cache

import pytest
import torch
from cases import TiedNet, seeded
from channel_nets import BUILDERS, build, data, inputs
from oracle import dense_fisher, kkt_step, norm_error
from torch import nn

from woodfisher_core.errors import InputError
from woodfisher_core.fisher import Blocks
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.methods import METHODS
from woodfisher_core.methods import structured as structured_method
from woodfisher_core.pruning import PruneResult, prune
from woodfisher_core.structured import StructuredOptions, find_channels, prune_channels, shrunk

KINDS = tuple(BUILDERS)
N = 40
SAME = {"num_samples": N, "damping": 1e-2, "sparsity": 0.3, "device": "cpu"}


def run(kind: str, model: nn.Module | None = None, **options) -> PruneResult:
    samples = data(kind, N * options.get("mini_batch", 1) * options.get("stages", 1))
    return prune(model or build(kind), [samples], method="structured", **{**SAME, **options})


def state_of(kind: str, **options) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(state, saliency of each channel) that ``prune_channels`` gives."""
    samples = data(kind, N * options.get("mini_batch", 1))
    result = prune_channels(build(kind), [samples], **{**SAME, **options})
    return result.masked(build(kind)).state_dict(), result.saliency


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    """Equal to rounding, with zeros at the same places."""
    assert set(found) == set(wanted)
    return all(
        torch.equal(found[name] == 0, tensor == 0) and norm_error(found[name].double(), tensor.double()) <= 1e-6
        for name, tensor in wanted.items()
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "channel_options"),
    [
        ({}, {}),
        ({"update": "none"}, {"update": "none"}),
        ({"budget": "flops"}, {"budget": "flops", "per": "flop"}),
        ({"mini_batch": 2}, {"mini_batch": 2}),
        ({"labels": "sampled", "seed": 7}, {"labels": "sampled", "seed": 7}),
    ],
    ids=["plain", "no update", "flops", "mini-batch", "sampled"],
)
def test_gives_what_prune_channels_gives(kind, options, channel_options):
    """Every tensor of the state: weights, biases, γ and β; the mask covers the weights among them."""
    result = run(kind, **options)
    wanted, _ = state_of(kind, **channel_options)
    assert same(result.state_dict(), wanted)
    assert set(result.masks()) == {name for name, tensor in wanted.items() if tensor.ndim > 1}
    assert all(not wanted[name][~keep].any() for name, keep in result.masks().items())
    others = {
        name for name, p in build(kind).named_parameters() if p.ndim == 1 and (kind, name) != ("separable", "2.weight")
    }
    assert set(result.outcome.tensors) == others  # PReLU's slope belongs to no channel
    assert options.get("budget") or result.sparsity >= 0.3


@pytest.mark.parametrize("change", [{"labels": "sampled"}, {"budget": "flops"}, {"damping": 10.0}, {"mini_batch": 2}])
def test_settings_matter(change):
    """What is passed on is not passed over."""
    assert not torch.equal(run("flat", **change).weights, run("flat").weights)


@pytest.mark.parametrize("kind", KINDS)
def test_the_statistic_by_hand(kind):
    """The least price a weight of all channels that a weight is part of; the largest of all where it is in none."""
    model = build(kind)
    channels = find_channels(model, inputs(kind, 4))
    _, saliency = state_of(kind)
    prices: dict[int, list[float]] = {}
    for group, value in zip(channels.groups, saliency.tolist(), strict=True):
        members = [place for place in group.members.tolist() if channels.countable[place]]
        for place in members:
            prices.setdefault(place, []).append(value / len(members))
    least = {place: min(values) for place, values in prices.items()}
    weights = channels.countable.nonzero().squeeze(1).tolist()
    wanted = [least.get(place, max(least.values())) for place in weights]
    assert norm_error(run(kind).saliency, torch.tensor(wanted, dtype=torch.float64)) <= 1e-6


def test_excluded_layers_neither_shrink_nor_move():
    """Nothing that touches them goes; their bias stays with them, that of others moves."""
    before = build("flat").state_dict()
    result = run("flat", exclude=["conv"])
    after = result.state_dict()
    assert result.parameters.names == ("fc1.weight", "fc2.weight")
    assert torch.equal(after["conv.weight"], before["conv.weight"])
    assert torch.equal(after["conv.bias"], before["conv.bias"])
    assert not torch.equal(after["fc2.bias"], before["fc2.bias"])
    assert same(after, state_of("flat", exclude=["conv"])[0])
    smaller = shrunk(result.applied_to(build("flat")), inputs("flat", 4))
    assert (smaller.conv.out_channels, smaller.fc1.in_features) == (4, 16)
    assert smaller.fc1.out_features < 6
    with pytest.raises(InputError, match=r"no channel of ResidualNet can be removed.*conv1: conv3 is excluded"):
        run("residual", exclude=["conv3"])


@pytest.mark.parametrize("budget", ["weights", "flops"])
def test_the_reach_is_named(budget):
    """6-10-5-3 keeps one unit of each hidden layer: 6 + 1 + 3 of 125 weights, used once each."""
    with pytest.raises(InputError, match=rf"reaches at most {1 - 10 / 125:.4f} of the .* got 0.95"):
        run("mlp", sparsity=0.95, budget=budget)
    result = run("mlp", sparsity=1 - 10 / 125, budget=budget)
    assert result.mask.kept == 10
    with pytest.raises(InputError, match="no channel of TiedNet can be removed"):
        prune(seeded(TiedNet), [(torch.ones(N, 8), torch.ones(N).long())], method="structured", **SAME)


def without(kind: str, names: dict[str, int], noise: float = 0.0):
    """(network, keep) with the channels of these sets gone from the weights; what else they have moved by ``noise``."""
    model = build(kind)
    channels = find_channels(model, inputs(kind, 4))
    gone = torch.zeros(channels.parameters.num_prunable, dtype=torch.bool)
    for group in channels.groups:
        if group.index == names.get(group.name):
            gone[group.members] = True
    theta = channels.parameters.flatten(model.state_dict())
    theta[gone & channels.countable] = 0.0
    theta[gone & ~channels.countable] += noise
    return channels.parameters.placed_in(model, theta), ~gone[channels.countable], gone, channels


@pytest.mark.parametrize("update", ["none", "joint"])
def test_channels_without_a_weight_left_go_for_good(update):
    """As after training with a mask, which moves their β by 3: at any sparsity, and first, with all their biases."""
    model, keep, gone, _ = without("residual", {"conv2": 1, "conv1": 2}, noise=3.0)
    still = run("residual", model, keep=keep, sparsity=0.0, update=update)
    assert torch.equal(still.mask.keep, keep)
    theta = torch.cat([still.state_dict()[name].reshape(-1) for name, _ in model.named_parameters()])
    before = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert not theta[gone].any()
    assert norm_error(theta[~gone], before[~gone]) <= 1e-7  # what nothing reads has no part in the loss
    share = 1 - int(keep.sum()) / len(keep)
    more = run("residual", model, keep=keep, sparsity=share + 0.05, update=update)
    assert more.sparsity >= share + 0.05
    assert not (more.mask.keep & ~keep).any()
    state = more.state_dict()
    assert all(state[name][1] == 0 for name in ("bn2.weight", "bn2.bias", "conv2.bias"))
    assert all(state[name][2] == 0 for name in ("bn1.bias", "bn3.bias"))
    smaller = shrunk(more.applied_to(model), inputs("residual", 4))
    assert sum(p.numel() for p in smaller.parameters() if p.ndim > 1) == more.mask.kept


def whole(dim: int) -> Blocks:
    return Blocks((Run(0, 1, dim),))


def test_earlier_zeros_count_and_stay():
    """Unstructured ones: as much less goes now as is gone already, and the rest moves by the Fisher of what is there."""
    kind, model = "residual", build("residual").double()
    dim = prune(model, [], method="magnitude", device="cpu", sparsity=0.0).parameters.num_prunable
    keep = torch.rand(dim, generator=torch.Generator().manual_seed(8)) < 0.7
    samples = [(data(kind, N)[0].double(), data(kind, N)[1])]
    asked = {**SAME, "method": "structured", "keep": keep}
    assert torch.equal(prune(model, samples, **{**asked, "sparsity": 0.2}).mask.keep, keep)
    result = prune(model, samples, **{**asked, "sparsity": 0.45})
    channels = find_channels(model, samples[0][0][:4])
    # One group alone takes it from 0.3 to 0.45 or beyond; by hand, which: the cheapest price a weight that is left.
    allowed = torch.ones(channels.parameters.num_prunable, dtype=torch.bool)
    allowed[channels.countable] = keep
    theta = torch.where(allowed, channels.parameters.flatten(model.state_dict()), 0.0)
    start = channels.parameters.placed_in(model, theta)
    rows = gradient_matrix(start, channels.parameters, samples, N)[:, allowed]
    fisher = dense_fisher(rows, whole(rows.shape[1]), SAME["damping"])
    inverse, place = torch.linalg.inv(fisher), allowed.cumsum(0) - 1
    prices = []
    for group in channels.groups:
        own = place[group.members[allowed[group.members]]]
        value = 0.5 * theta[allowed][own] @ torch.linalg.inv(inverse[own][:, own]) @ theta[allowed][own]
        prices.append(float(value) / int((channels.countable & allowed)[group.members].sum()))
    each = [
        min((price for price, group in zip(prices, channels.groups, strict=True) if at in group.members), default=0.0)
        for at in (channels.countable & allowed).nonzero()
    ]
    wanted = torch.tensor(each, dtype=torch.float64)
    assert norm_error(result.saliency[keep][wanted > 0], wanted[wanted > 0]) <= 1e-9
    left, gone = dict(channels.widths), torch.zeros_like(allowed)
    for number in sorted(range(len(prices)), key=prices.__getitem__):
        group = channels.groups[number]
        if 1 - int((allowed & ~gone & channels.countable).sum()) / dim >= 0.45:
            break
        if left[group.name] > 1:
            left[group.name] -= 1
            gone[group.members] = True
    wanted = allowed & ~gone
    assert torch.equal(result.mask.keep, wanted[channels.countable])
    step = kkt_step(fisher, whole(len(fisher)), theta[allowed], wanted[allowed])
    found = channels.parameters.flatten(result.state_dict())
    assert norm_error(found[allowed], theta[allowed] + step) <= 1e-9
    assert not found[~allowed].any()


@cache
def by_hand(kind: str, levels: tuple[float, ...]) -> list[PruneResult]:
    """One run after the other, on the next samples each, from the whole state that the last one left."""
    model, keep, results = build(kind), None, []
    x, y = data(kind, N * len(levels))
    for stage, level in enumerate(levels):
        part = slice(stage * N, (stage + 1) * N)
        results.append(
            prune(model, [(x[part], y[part])], method="structured", keep=keep, **{**SAME, "sparsity": level})
        )
        model, keep = results[-1].applied_to(model), results[-1].mask.keep
    return results


@pytest.mark.parametrize("kind", ["residual", "flat", "gated", "separable"])
def test_stages_carry_moved_biases(kind):
    """Two stages are two runs, the second on the network with the biases of the first; nothing comes back."""
    levels = (0.5 * (1 - 0.5**3), 0.5)
    first, last = by_hand(kind, levels)
    staged = run(kind, stages=2, sparsity=0.5)
    assert torch.equal(staged.mask.keep, last.mask.keep)
    assert same(staged.state_dict(), last.state_dict())
    assert not (last.mask.keep & ~first.mask.keep).any()
    for name, tensor in first.outcome.tensors.items():
        assert not staged.outcome.tensors[name][tensor == 0].any()
    # The same second stage without what the first did to biases ends elsewhere.
    x, y = data(kind, 2 * N)
    forgot = first.parameters.placed_in(build(kind), first.weights)
    other = prune(forgot, [(x[N:], y[N:])], method="structured", keep=first.mask.keep, **{**SAME, "sparsity": 0.5})
    moved = torch.cat([last.outcome.tensors[name] - other.outcome.tensors[name] for name in other.outcome.tensors])
    assert moved.abs().max() > 1e-3


def test_saliencies_are_kept_for_so_many_dampings(monkeypatch):
    """Going back to a damping costs nothing, until others have taken its place; what is kept is what would be made."""
    monkeypatch.setattr(structured_method, "DAMPINGS_KEPT", 2)
    model = build("residual")
    channels, batch = find_channels(model, inputs("residual", 2)), data("residual", 150)
    rows = gradient_matrix(model, channels.parameters, [batch], 150)
    theta = channels.parameters.flatten(model.state_dict())
    fisher = structured_method.ChannelFisher(channels, rows, theta, torch.ones(len(theta), dtype=torch.bool))
    options = [StructuredOptions(damping=damping) for damping in (1e-3, 1e-2, 1e-1)]
    first, second = (fisher.saliency(one) for one in options[:2])
    assert fisher.saliency(options[0]) is first
    fisher.saliency(options[2])
    assert fisher.saliency(options[1]) is second
    again = fisher.saliency(options[0])
    assert again is not first
    assert torch.equal(again, first)
    held = fisher._undamped
    assert held.eigenbasis is not None
    [group] = fisher.fisher.groups
    assert held.eigenbasis is group.eigenbasis
    shared = sum(tensor.nbytes for tensor in (held.gram, held.pulls, *held.eigenbasis, group.covariance(), group.rows))
    assert fisher.nbytes >= rows.nbytes + shared + 2 * first.nbytes


def test_what_the_method_declares():
    """It removes channels, and no other does; it says so where scopes and patterns are asked of it."""
    assert [name for name, method in METHODS.items() if method.removes_channels] == ["structured"]
    for change, message in (
        ({"scope": "layer"}, "scope: structured goes with global, got 'layer'"),
        ({"update": "independent"}, "update: structured goes with none, joint, got 'independent'"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "structured chooses its weights itself"),
        ({"flops_power": 0.3}, "structured chooses its weights itself"),
    ):
        with pytest.raises(InputError, match=message):
            run("mlp", **change)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["residual", "flat", "grouped"])
def test_the_same_on_a_gpu(kind):
    """The choice and the whole state, in two stages, which pass masks and tensors on."""
    here, there = run(kind, stages=2), run(kind, stages=2, device="cuda")
    assert torch.equal(there.mask.keep.cpu(), here.mask.keep)
    for name, tensor in here.state_dict().items():
        assert norm_error(there.state_dict()[name].cpu().double(), tensor.double()) <= 1e-3
