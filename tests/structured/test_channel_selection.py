"""Which channels go: order, counts with overlaps, both budgets, and what cannot be reached."""

import itertools

import pytest
import torch
from channel_nets import build, inputs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.options import Budget
from woodfisher_core.structured import Per, find_channels, reachable, select_groups
from woodfisher_core.structured.removal import without_channels

KINDS = ("mlp", "residual", "flat", "concat", "gated", "separable", "grouped", "signal")
BUDGETS = list(Budget)


def case(kind: str, seed: int = 0):
    model = build(kind)
    channels = find_channels(model, inputs(kind, 2))
    generator = torch.Generator().manual_seed(seed)
    return model, channels, torch.rand(len(channels.groups), dtype=torch.float64, generator=generator)


def size(model: nn.Module, budget: Budget, example: torch.Tensor) -> int:
    """Linear and Conv weights of ``model``, or torch's own count of its multiply-adds for one sample."""
    if budget is Budget.WEIGHTS:
        return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example[:1])
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_stops_at_the_first_channel_that_reaches_the_share(kind, budget):
    """Shares are those of the network that is really left; one channel fewer would not do; order is by saliency."""
    model, channels, saliency = case(kind)
    before = size(model, budget, inputs(kind, 2))
    for selection, wanted in zip(
        select_groups(channels, saliency, [0.1, 0.25, 0.4], budget=budget, per=Per.CHANNEL),
        [0.1, 0.25, 0.4],
        strict=True,
    ):
        chosen = [channels.groups[number] for number in selection.order]
        after = size(without_channels(model, chosen), budget, inputs(kind, 2))
        assert selection.share == pytest.approx(1 - after / before, abs=1e-12)
        assert selection.share >= wanted
        fewer = size(without_channels(model, chosen[:-1]), budget, inputs(kind, 2))
        assert 1 - fewer / before < wanted
        assert list(selection.order) == sorted(selection.order, key=lambda number: float(saliency[number]))
        gone = torch.zeros(len(selection.keep), dtype=torch.bool)
        for group in chosen:
            gone[group.members] = True
        assert torch.equal(selection.keep, ~gone)


def test_overlaps_count_once():
    """Two channels of neighbouring layers share one weight: 6-10-5-3 loses 6 + 5 + 10 + 3 − 1 weights, by hand."""
    _, channels, saliency = case("mlp")
    saliency[:] = 1.0
    first = next(n for n, group in enumerate(channels.groups) if group.name == "0")
    second = next(n for n, group in enumerate(channels.groups) if group.name == "2")
    saliency[first], saliency[second] = 0.1, 0.2
    assert int(channels.countable.sum()) == 60 + 50 + 15
    (selection,) = select_groups(channels, saliency, [0.1], per=Per.CHANNEL)
    assert selection.order == (first, second)
    assert selection.share == 23 / 125
    # Their biases go too, but are not counted.
    assert int((~selection.keep).sum()) == 25


@pytest.mark.parametrize("kind", KINDS)
def test_never_the_last_channel(kind):
    """At the most that can be reached every set keeps one channel, or as many as asked; more is refused with that number."""
    _, channels, saliency = case(kind)
    for least in (1, 2):
        with pytest.raises(InputError, match="reaches at most") as caught:
            select_groups(channels, saliency, [0.99], min_channels=least)
        most = float(str(caught.value).partition("at most ")[2].partition(" ")[0])
        (selection,) = select_groups(channels, saliency, [most - 1e-4], min_channels=least)
        left = dict(channels.widths)
        for number in selection.order:
            left[channels.groups[number].name] -= 1
        assert set(left.values()) == {least}
        assert selection.share == pytest.approx(most, abs=1e-4)
        assert f"at least {least} stay in each layer), got 0.99. Lower the sparsity or min_channels" in str(
            caught.value
        )


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_selections_nest(budget):
    """A higher sparsity takes what a lower one took and more; zero takes nothing; the order asked in does not matter."""
    _, channels, saliency = case("flat")
    sparsities = [0.5, 0.0, 0.2, 0.35]
    found = dict(zip(sparsities, select_groups(channels, saliency, sparsities, budget=budget), strict=True))
    assert found[0.0].order == ()
    assert found[0.0].keep.all()
    for low, high in itertools.pairwise(sorted(found)):
        assert found[high].order[: len(found[low].order)] == found[low].order
        assert found[high].share >= high > found[low].share or found[high].order == found[low].order
    assert len(found[0.5].order) > len(found[0.2].order) > 0


def test_saliency_is_divided_by_what_a_channel_frees():
    """A channel of ``left`` in the concatenation frees 9 weights of its own and 36 of the reader's."""
    _, channels, _ = case("concat")
    of_weight = torch.tensor([int(channels.countable[group.members].sum()) for group in channels.groups])
    assert of_weight.tolist() == [9 + 36] * 7 + [7 * 9 + 3] * 4
    of_flop = torch.tensor([int(channels.uses[group.members].sum()) for group in channels.groups])
    assert of_flop.tolist() == [16 * 9 + 4 * 36] * 7 + [4 * 7 * 9 + 3] * 4
    saliency = torch.linspace(1.0, 1.5, 11, dtype=torch.float64)
    for per, freed in ((Per.CHANNEL, torch.ones(11)), (Per.WEIGHT, of_weight), (Per.FLOP, of_flop)):
        (selection,) = select_groups(channels, saliency, [0.7], per=per)
        ranked = (saliency / freed).argsort(stable=True).tolist()
        assert list(selection.order) == [number for number in ranked if number in selection.order]
        assert selection.order[0] == (7 if per is Per.WEIGHT else 0)


def test_ties_go_in_model_order():
    _, channels, saliency = case("flat")
    saliency[:] = 1.0
    (selection,) = select_groups(channels, saliency, [0.4], per=Per.CHANNEL)
    assert selection.order == tuple(range(len(selection.order)))


def test_a_share_that_is_met_exactly():
    """Rounding in sparsity × total never takes one channel too many: every share that occurs is met by its own channels."""
    _, channels, saliency = case("mlp")
    (all_of_them,) = select_groups(channels, saliency, [0.9])
    total = int(channels.countable.sum())
    for length in range(1, len(all_of_them.order)):
        gone = torch.zeros_like(channels.countable)
        for number in all_of_them.order[:length]:
            gone[channels.groups[number].members] = True
        share = int((gone & channels.countable).sum()) / total
        assert len(select_groups(channels, saliency, [share])[0].order) == length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_reachable_is_the_most_that_can_be_asked_for(kind, budget):
    """That share is given, and leaves one channel of each set; any more is refused with it."""
    _, channels, saliency = case(kind)
    most = reachable(channels, saliency, budget=budget)
    (selection,) = select_groups(channels, saliency, [most], budget=budget)
    assert selection.share == most
    assert len(selection.order) == len(channels.groups) - len(channels.widths)
    with pytest.raises(InputError, match=f"reaches at most {most:.4f}"):
        select_groups(channels, saliency, [most + 1e-6], budget=budget)


@pytest.mark.parametrize("per", list(Per), ids=str)
def test_what_is_gone_goes_first(per):
    """Channels without a weight left, however salient, at every sparsity; their weights count as freed from the start."""
    _, channels, saliency = case("flat")
    saliency[2], saliency[7] = 1e6, 1e6
    allowed = torch.ones(len(channels.uses), dtype=torch.bool)
    for number in (2, 7):
        allowed[channels.groups[number].members] = False
    allowed |= ~channels.countable  # biases of what is gone may still be there
    for budget in BUDGETS:
        price = channels.countable.long() if budget is Budget.WEIGHTS else channels.uses
        gone = int(price[~allowed].sum()) / int(price.sum())
        most = reachable(channels, saliency, per=per, budget=budget, allowed=allowed)
        idle, met, more, last = select_groups(
            channels, saliency, [0.0, gone, gone + 1e-3, most], per=per, budget=budget, allowed=allowed
        )
        assert idle.order == met.order == (2, 7)
        assert idle.share == gone
        assert not idle.keep[channels.groups[2].members].any()
        assert more.order[:2] == (2, 7)
        assert len(more.order) == 3
        assert more.share > gone
        assert len(last.order) == 8
        assert last.share == most == reachable(channels, saliency, per=per, budget=budget)


def test_a_price_counts_only_the_weights_that_are_left():
    """Units of fc1 that cost the same: the one with most weights left is the cheapest for each, though it comes last."""
    _, channels, saliency = case("flat")
    saliency[:4], saliency[4:] = 1e3, 1.0
    allowed = torch.ones(len(channels.uses), dtype=torch.bool)
    for number in range(4, 9):
        members = channels.groups[number].members
        allowed[members[channels.countable[members]][: 9 - number]] = False
    (selection,) = select_groups(channels, saliency, [0.3], allowed=allowed)
    assert selection.order == (9, 8, 7, 6, 5)[: len(selection.order)]
    assert len(selection.order) >= 2


def test_a_set_of_which_nothing_is_left_keeps_one():
    """Its last channel stays in the network, as the shape must."""
    _, channels, saliency = case("flat")
    allowed = ~channels.countable
    (selection,) = select_groups(channels, saliency, [0.5], allowed=allowed)
    assert len(selection.order) == 8
    assert selection.share == 1.0


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan"), "0.5"])
def test_bad_sparsity(sparsity):
    _, channels, saliency = case("mlp")
    with pytest.raises(InputError, match="sparsity: expected a fraction from 0 to below 1"):
        select_groups(channels, saliency, [sparsity])


def test_bad_saliency():
    _, channels, saliency = case("mlp")
    saliency[2] = float("nan")
    with pytest.raises(NumericalError, match="1 are NaN"):
        select_groups(channels, saliency, [0.5])
    with pytest.raises(InputError, match=r"expected one of each of 15 groups, got \(3,\)"):
        select_groups(channels, saliency[:3], [0.5])


def test_words_are_checked_and_taken_for_the_options_they_name():
    _, channels, saliency = case("concat")
    (by_word,) = select_groups(channels, saliency, [0.4], per="weight", budget="flops")
    (by_member,) = select_groups(channels, saliency, [0.4], per=Per.WEIGHT, budget=Budget.FLOPS)
    assert by_word.order == by_member.order
    with pytest.raises(InputError, match="per: expected one of channel, weight, flop, got 'layer'"):
        select_groups(channels, saliency, [0.4], per="layer")
