"""Pruning statistics against their definitions, one weight at a time."""

import pytest
import torch
from cases import batch, network
from oracle import norm_error

from woodfisher_core import scores
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.masks import select
from woodfisher_core.options import Scope
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.pruning import prune

PARAMETERS = PrunableParameters.from_model(network("conv"))  # layers of 27, 108 and 12 weights
DIM = PARAMETERS.num_prunable


def random_weights(seed: int, ties: bool = False) -> torch.Tensor:
    weights = torch.randn(DIM, generator=torch.Generator().manual_seed(seed))
    return weights.mul(2).round() if ties else weights


def lamp_by_definition(weights: torch.Tensor) -> list[float]:
    """w_u² over the sum of w_v² for all v of the layer that are not pruned before u: larger, or equal and no later."""
    values, out = weights.double().tolist(), []
    for layer in PARAMETERS.layers:
        for u in range(layer.offset, layer.end):
            own = range(layer.offset, layer.end)
            above = [v for v in own if abs(values[v]) > abs(values[u]) or (abs(values[v]) == abs(values[u]) and v <= u)]
            out.append(values[u] ** 2 / sum(values[v] ** 2 for v in above) if values[u] else 0.0)
    return out


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_lamp_by_a_double_loop(seed, ties):
    """Every score, ties and zeros among them."""
    weights = random_weights(seed, ties)
    found = scores.lamp(weights, PARAMETERS)
    assert found.dtype is torch.float64
    assert found.tolist() == pytest.approx(lamp_by_definition(weights), rel=1e-12)


def test_lamp_orders_each_layer_by_magnitude():
    """Inside a layer the order is that of |w|; the largest weight of each scores 1, so that no layer is ever emptied."""
    weights = random_weights(0)
    found = scores.lamp(weights, PARAMETERS)
    for layer in PARAMETERS.layers:
        own = slice(layer.offset, layer.end)
        assert torch.equal(found[own].argsort(), weights[own].abs().argsort())
        assert float(found[own].max()) == 1.0
    (mask,) = select(found, [0.97], Scope.GLOBAL, PARAMETERS)
    assert all(bool(mask.keep[layer.slice].any()) for layer in PARAMETERS.layers)


def test_lamp_does_not_see_the_scale_of_a_layer():
    """A layer's weights times any factor, tiny ones too, score as before; a layer of zeros scores zero."""
    weights = random_weights(1)
    found = scores.lamp(weights, PARAMETERS)
    for factor in (3.0, 1e-15, 1e15):
        scaled = weights.double()
        scaled[PARAMETERS.layers[1].slice] *= factor
        assert torch.allclose(scores.lamp(scaled, PARAMETERS), found, rtol=1e-12, atol=0)
    weights[PARAMETERS.layers[0].slice] = 0.0
    assert not scores.lamp(weights, PARAMETERS)[PARAMETERS.layers[0].slice].any()


def test_first_order():
    """|w g| of each weight, whatever the signs, in float64."""
    weights, gradient = random_weights(0), torch.linspace(-1, 1, DIM, dtype=torch.float64)
    wanted = [abs(w * g) for w, g in zip(weights.double().tolist(), gradient.tolist(), strict=True)]
    assert scores.first_order(weights, gradient).tolist() == wanted
    assert scores.first_order(-weights, -gradient).tolist() == wanted


@pytest.mark.parametrize("kind", ["mlp", "conv", "tied"])
@pytest.mark.parametrize("mini_batch", [1, 3])
def test_statistics_of_whole_runs(kind, mini_batch):
    """Each first-order and magnitude method ranks by its own definition on the rows of the very samples it was given."""
    model, parameters = network(kind), PrunableParameters.from_model(network(kind))
    weights = parameters.flatten(model.state_dict()).double()
    rows = gradient_matrix(model, parameters, [batch(kind, 30)], 30 // mini_batch, mini_batch=mini_batch).double()
    wanted = {
        "magnitude": weights.abs(),
        "snip": (weights * rows.sum(0) / len(rows)).abs(),
        "taylor": sum((weights * row).abs() for row in rows) / len(rows),
        "diagonal-fisher": sum(0.5 * (weights * row).square() for row in rows) / len(rows),
    }
    for method, statistic in wanted.items():
        options = {"method": method, "num_samples": 30 // mini_batch, "mini_batch": mini_batch, "sparsity": 0.5}
        result = prune(model, [batch(kind, 30)], device="cpu", **options)
        assert norm_error(result.saliency, statistic) <= 1e-12
        assert float(statistic[result.mask.keep].min()) >= float(statistic[~result.mask.keep].max())


def test_random_is_the_seeds_own():
    """Uniform numbers, the same for a seed on every run and every network of that size, others for another seed."""
    runs = [prune(network("conv"), [], method="random", seed=seed, sparsity=0.5, device="cpu") for seed in (0, 0, 1)]
    first, again, other = (run.saliency for run in runs)
    assert torch.equal(first, again)
    assert (first != other).all()
    assert 0.0 <= float(first.min()) < 0.05 < 0.95 < float(first.max()) < 1.0
    assert runs[0].mask.ties == 0
