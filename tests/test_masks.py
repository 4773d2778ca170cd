"""From saliency to mask: the official count, ties by index, layer scope and nesting."""

import itertools
import math

import pytest
import torch
from cases import network

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.masks import kept_count, select
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
