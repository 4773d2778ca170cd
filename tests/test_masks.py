"""From saliency to mask: the official count, ties by index, scopes and budgets, nesting, and what is gone already."""

import itertools
import math

import pytest
import torch
from cases import network
from torch import nn

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.masks import erk_densities, kept_count, select
from woodfisher_core.options import Scope
from woodfisher_core.parameters import PrunableParameters

PARAMETERS = PrunableParameters.from_model(network("mlp"))  # layers of 60, 50 and 15 weights
DIM = 125
BAD_SPARSITIES = (-0.1, 1.0, 1.5, 95, float("nan"), float("inf"), "0.5", None)


def saliency(seed: int = 0) -> torch.Tensor:
    return torch.rand(DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("total", "sparsity", "kept"),
    [(32360, 0.95, 1618), (32360, 0.0, 32360), (10, 0.5, 4), (10, 0.45, 5), (3, 0.9, 0), (1, 0.0, 1), (1, 0.5, 0)],
)
def test_official_count(total, sparsity, kept):
    """k − 1 of them stay, k the floating-point ceiling: at 32,360 and 0.95 that is 1,618, not 1,617."""
    assert kept_count(total, sparsity) == kept


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.3, 0.5, 0.9, 0.95, 0.999])
def test_keeps_what_lies_strictly_above_the_kth_largest(sparsity):
    """Without ties the mask is the official one: saliency > its k-th largest value."""
    values = saliency()
    (mask,) = select(values, [sparsity], Scope.GLOBAL, PARAMETERS)
    k = math.ceil(DIM * (1 - sparsity))
    official = values > values.sort(descending=True).values[k - 1] if sparsity else torch.ones(DIM, dtype=torch.bool)
    assert torch.equal(mask.keep, official)
    assert mask.kept == int(official.sum())
    assert mask.sparsity == 1 - mask.kept / DIM
    assert mask.ties == 0


def test_threshold_is_the_largest_value_that_goes():
    """The threshold separates what stays from what goes, and is −inf where nothing goes."""
    values = saliency()
    (mask,) = select(values, [0.7], Scope.GLOBAL, PARAMETERS)
    assert mask.thresholds == (float(values[~mask.keep].max()),)
    assert float(values[mask.keep].min()) > mask.thresholds[0]
    assert select(values, [0.0], Scope.GLOBAL, PARAMETERS)[0].thresholds == (-math.inf,)


def test_ties_go_by_index_and_are_counted():
    """Among equal saliencies the first weights stay; the count says how many shared the threshold."""
    values = torch.zeros(DIM, dtype=torch.float64)
    values[100:105] = 1.0
    (mask,) = select(values, [0.8], Scope.GLOBAL, PARAMETERS)
    count = kept_count(DIM, 0.8)
    assert mask.keep.nonzero().squeeze(1).tolist() == sorted([*range(count - 5), *range(100, 105)])
    assert mask.ties == DIM - 5
    assert mask.kept == count


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_layer_scope(sparsity):
    """Each layer keeps its own official count and has its own threshold."""
    values = saliency()
    (mask,) = select(values, [sparsity], Scope.LAYER, PARAMETERS)
    for layer, threshold in zip(PARAMETERS.layers, mask.thresholds, strict=True):
        keep = mask.keep[layer.slice]
        assert int(keep.sum()) == kept_count(layer.numel, sparsity)
        assert torch.equal(keep, values[layer.slice] > threshold)


@pytest.mark.parametrize("scope", list(Scope), ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_masks_nest(scope, ties):
    """A higher sparsity keeps a subset of what a lower one keeps, with ties too."""
    values = saliency().mul(6).round() if ties else saliency()
    masks = [mask.keep for mask in select(values, [p / 20 for p in range(20)], scope, PARAMETERS)]
    assert all((above <= below).all() for below, above in itertools.pairwise(masks))
    assert masks[0].sum() > masks[-1].sum()


def test_infinite_saliency_is_kept():
    """A weight that must never go may have infinite saliency."""
    values = saliency()
    values[77] = math.inf
    assert select(values, [0.98], Scope.GLOBAL, PARAMETERS)[0].keep[77]


@pytest.mark.parametrize("sparsity", BAD_SPARSITIES)
def test_bad_sparsity(sparsity):
    """Only fractions from 0 to below 1, and the message shows what came."""
    with pytest.raises(InputError, match="sparsity: expected a fraction from 0 to below 1, got "):
        select(saliency(), [sparsity], Scope.GLOBAL, PARAMETERS)


def test_nan_saliency():
    """NaN is never ranked."""
    values = saliency()
    values[3:5] = math.nan
    with pytest.raises(NumericalError, match="2 values are NaN"):
        select(values, [0.5], Scope.GLOBAL, PARAMETERS)


def sized(*layers: nn.Module) -> PrunableParameters:
    return PrunableParameters.from_model(nn.Sequential(*layers))


def test_erk_by_hand():
    """Three layers of 100, 10 and 6 weights at 60 %: the two small ones would keep more than all, the large one has the rest.

    Raw densities 20/100, 7/10 and 5/6 for 20, 7 and 5 weights: of a budget of 46.4 the scale is 46.4/32 = 1.45, so the last two
    are full; 30.4 of 100 is left for the first. At 90 % the scale is 11.6/32 and none is full.
    """
    parameters = sized(nn.Linear(10, 10), nn.Linear(5, 2), nn.Linear(2, 3))
    assert erk_densities(parameters, 0.6) == pytest.approx([0.304, 1.0, 1.0])
    assert erk_densities(parameters, 0.9) == pytest.approx([0.0725, 0.25375, 11.6 / 32 * 5 / 6])
    assert erk_densities(parameters, 0.0) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("sparsity", [0.0, 0.02, 0.1, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    "parameters",
    [
        PARAMETERS,
        PrunableParameters.from_model(network("conv")),
        sized(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, (1, 5)), nn.Linear(32, 10), nn.Linear(300, 100)),
        sized(nn.Linear(7, 3)),
    ],
    ids=["mlp", "conv", "mixed", "one layer"],
)
def test_erk_shares_out_the_budget(parameters, sparsity):
    """Densities add up to what stays, none is above 1, and those below it are in proportion to Σ dims / Π dims."""
    densities = erk_densities(parameters, sparsity)
    sizes = [layer.numel for layer in parameters.layers]
    stays = sum(density * size for density, size in zip(densities, sizes, strict=True))
    assert stays == pytest.approx((1 - sparsity) * sum(sizes))
    assert all(0 < density <= 1 for density in densities)
    scales = [d / (sum(layer.shape) / layer.numel) for d, layer in zip(densities, parameters.layers, strict=True)]
    below = [scale for scale, density in zip(scales, densities, strict=True) if density < 1]
    assert below == pytest.approx(below[:1] * len(below))
    # A full layer has no more than its share: the others' scale would have filled it.
    assert all(scale <= below[0] * (1 + 1e-9) for scale in scales if below)


@pytest.mark.parametrize("seed", range(20))
def test_erk_keeps_everything_at_sparsity_zero(seed):
    """Rounding costs no layer its last weight, whatever the sizes."""
    sizes = torch.randint(1, 40, (12, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    parameters = sized(*(nn.Linear(a, b, bias=False) for a, b in sizes))
    assert erk_densities(parameters, 0.0) == [1.0] * 12
    values = torch.rand(parameters.num_prunable, generator=torch.Generator().manual_seed(seed))
    assert select(values, [0.0], Scope.ERK, parameters)[0].keep.all()


@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.8])
def test_erk_masks(sparsity):
    """Each layer keeps the official count of its own density, its largest; at sparsity 0 everything stays."""
    values = saliency()
    (mask,) = select(values, [sparsity], Scope.ERK, PARAMETERS)
    for layer, density, threshold in zip(
        PARAMETERS.layers, erk_densities(PARAMETERS, sparsity), mask.thresholds, strict=True
    ):
        keep = mask.keep[layer.slice]
        assert int(keep.sum()) == kept_count(layer.numel, 1 - density)
        assert torch.equal(keep, values[layer.slice] > threshold)
    assert bool(mask.keep.all()) == (sparsity == 0.0)


def random_costs(seed: int, kinds: int) -> torch.Tensor:
    """One cost a layer, or one a weight, some of them zero."""
    generator = torch.Generator().manual_seed(seed)
    if kinds == 1:
        return torch.tensor([49.0, 9.0, 0.0], dtype=torch.float64)[[0] * 60 + [1] * 50 + [2] * 15]
    return torch.randint(kinds, (DIM,), generator=generator).double()


@pytest.mark.parametrize("scope", [Scope.GLOBAL, Scope.LAYER], ids=str)
@pytest.mark.parametrize("kinds", [1, 5])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.73, 0.98])
def test_a_budget_of_costs_by_brute_force(scope, kinds, sparsity):
    """Weights are kept one by one, the most salient first, until the next would cost more than 1 − s of the whole."""
    values, costs = saliency(), random_costs(3, kinds)
    (mask,) = select(values, [sparsity], scope, PARAMETERS, costs=costs)
    groups = [range(DIM)] if scope is Scope.GLOBAL else [range(la.offset, la.end) for la in PARAMETERS.layers]
    for group in groups:
        allowed, spent, kept = (1 - sparsity) * sum(float(costs[i]) for i in group), 0.0, set()
        for index in sorted(group, key=lambda i: (-float(values[i]), i)):
            if spent + float(costs[index]) > allowed + 1e-9:
                break
            spent += float(costs[index])
            kept.add(index)
        assert {i for i in group if mask.keep[i]} == kept
        assert float(costs[list(group)] @ mask.keep[list(group)].double()) <= allowed + 1e-9
    assert bool(mask.keep.all()) == (sparsity == 0.0)


def test_a_budget_of_equal_costs_is_a_budget_of_weights():
    """Where every weight costs the same, the fraction of the costs is that of the weights (rounded down, not k − 1)."""
    values = saliency()
    for sparsity in (0.0, 0.25, 0.5, 0.9):
        (mask,) = select(values, [sparsity], Scope.GLOBAL, PARAMETERS, costs=torch.full((DIM,), 0.1))
        assert mask.kept == math.floor(DIM * (1 - sparsity) + 1e-9)
        assert float(values[mask.keep].min()) >= float(values.sort(descending=True).values[mask.kept - 1])


@pytest.mark.parametrize("scope", list(Scope), ids=str)
@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.9])
def test_what_is_gone_goes_first_and_never_comes_back(scope, sparsity):
    """Weights outside ``allowed`` count as the least salient of all: the others are pruned only beyond them."""
    values = saliency()
    values[::3] += 10.0  # those that are gone would be the first to stay
    allowed = torch.ones(DIM, dtype=torch.bool)
    allowed[::3] = False
    (mask,) = select(values, [sparsity], scope, PARAMETERS, allowed=allowed)
    assert not (mask.keep & ~allowed).any()
    (plain,) = select(values.where(allowed, torch.tensor(-1.0, dtype=torch.float64)), [sparsity], scope, PARAMETERS)
    assert torch.equal(mask.keep, plain.keep & allowed)
    if scope is Scope.GLOBAL:
        assert mask.kept == min(kept_count(DIM, sparsity), int(allowed.sum()))
    (same,) = select(values, [sparsity], scope, PARAMETERS, allowed=torch.ones_like(allowed))
    assert torch.equal(same.keep, select(values, [sparsity], scope, PARAMETERS)[0].keep)


def test_thresholds_and_ties_of_what_is_left():
    """A threshold below everything that is left is −inf, and what is gone already ties with nothing."""
    allowed = torch.arange(DIM) < 40
    (few,) = select(saliency(), [0.5], Scope.GLOBAL, PARAMETERS, allowed=allowed)
    assert (few.kept, few.thresholds, few.ties) == (40, (-math.inf,), 0)
    (more,) = select(saliency(), [0.9], Scope.GLOBAL, PARAMETERS, allowed=allowed)
    assert more.kept == kept_count(DIM, 0.9)
    assert more.thresholds == (float(saliency()[allowed & ~more.keep].max()),)


def test_a_budget_counts_what_is_left():
    """What is gone costs nothing any more: the budget is spent on the others, in their order."""
    values, costs = saliency(), random_costs(5, 4)
    allowed = torch.rand(DIM, generator=torch.Generator().manual_seed(1)) < 0.7
    (mask,) = select(values, [0.6], Scope.GLOBAL, PARAMETERS, allowed=allowed, costs=costs)
    left = [i for i in values.argsort(descending=True).tolist() if allowed[i]]
    kept = [i for i in left if mask.keep[i]]
    assert kept == left[: len(kept)]
    spent = float(costs[kept].sum())
    assert spent <= 0.4 * float(costs.sum()) < spent + float(costs[left[len(kept)]])
