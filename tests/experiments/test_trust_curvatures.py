"""Spectra and curvatures of a few weights against dense float64 matrices."""

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.curvatures import block_curvatures, likeness
from woodfisher_core.experiments.spectrum import effective_directions, spectrum
from woodfisher_core.options import Labels
from woodfisher_core.timing import Stopwatch


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def setting(**changes) -> PruneConfig:
    return PruneConfig(**{"model": "digits-mlp", "num_samples": 50, "device": "cpu", **changes})


@pytest.mark.parametrize("block", ["1", "100", "layer", "network"])
@pytest.mark.parametrize("count", [50, 300])
def test_spectrum(space, block, count):
    """Largest first in each layer: the eigenvalues of the dense blocks, and nothing of what is zero."""
    config = setting(num_samples=count, block_size=block)
    table = spectrum(space, config)
    rows = space.rows(config, Stopwatch()).double().numpy()
    parameters = space.problem(config).parameters
    parts = {"all layers": [slice(0, rows.shape[1])]} if block == "network" else {}
    if not parts:
        for layer in parameters.layers:
            width = layer.numel if block == "layer" else int(block)
            edges = range(layer.offset, layer.end, width)
            parts[layer.module] = [slice(a, min(a + width, layer.end)) for a in edges]
    assert list(table["layer"].unique()) == list(parts)
    for layer, slices in parts.items():
        values = np.concatenate([np.linalg.svd(rows[:, s], compute_uv=False) ** 2 / count for s in slices])
        values = np.sort(values)[::-1]
        own = table[table["layer"] == layer]
        assert own["rank"].tolist() == list(range(1, len(own) + 1))
        assert own["dimension"].iloc[0] == sum(s.stop - s.start for s in slices)
        np.testing.assert_allclose(own["eigenvalue"], values[: len(own)], rtol=1e-6, atol=1e-12)
        assert (values[len(own) :] < 1e-10).all()
        assert len(own) <= count * len(slices)


def test_effective_directions(space):
    table = spectrum(space, setting())
    values = table["eigenvalue"].to_numpy()
    found = effective_directions(table, [1e-12, 1e-3, 1e3]).set_index("damping")
    assert found.loc[1e-3, "above"] == (values > 1e-3).sum()
    assert found.loc[1e-3, "effective"] == pytest.approx(sum(v / (v + 1e-3) for v in values))
    assert found["effective"].is_monotonic_decreasing
    assert found.loc[1e3, "above"] == 0


@pytest.mark.parametrize(("layer", "place"), [("fc3", 0.0), ("fc2", 0.5), ("fc1", 1.0)])
def test_block_curvatures(space, layer, place):
    """The Hessian by differentiating the loss twice in a few weights, the Fishers from the workspace's own gradients."""
    size, config = 6, setting()
    found = block_curvatures(space, config, layer, size, place)
    problem = space.problem(config)
    where = next(one for one in problem.parameters.layers if one.module == layer)
    assert (
        found.positions.tolist()[0 if place == 0 else -1]
        == {0.0: 0, 0.5: (where.numel - 6) // 2 + 5, 1.0: where.numel - 1}[place]
    )
    picked = torch.from_numpy(found.positions) + where.offset
    samples = problem.train_samples(space.samples(config)[0])
    state = {name: tensor.double() for name, tensor in problem.model.state_dict().items()}

    def loss(few):
        flat = problem.weights.double().index_copy(0, picked, few)
        weights = {**state, **problem.parameters.unflatten(flat)}
        return cross_entropy(functional_call(problem.model, weights, (samples.inputs.double(),)), samples.targets)

    exact = hessian(loss, problem.weights.double()[picked])
    np.testing.assert_allclose(found.hessian, exact.numpy(), rtol=1e-7, atol=1e-12)
    for labels, matrix in ((Labels.TRUE, found.true), (Labels.SAMPLED, found.sampled)):
        rows = space.rows(config.replace(labels=labels), Stopwatch())[:, picked].double().numpy()
        np.testing.assert_allclose(matrix, sum(np.outer(g, g) for g in rows) / len(rows), rtol=1e-4, atol=1e-10)
    assert found.num_images == 50


def test_a_small_layer_gives_all_it_has(space):
    assert block_curvatures(space, setting(model="digits-cnn", num_samples=5), "conv1", 64, 0.3).hessian.shape == (
        64,
        64,
    )
    with pytest.raises(InputError, match="1 to 64 weights"):
        block_curvatures(space, setting(), "fc1", 65)
    with pytest.raises(InputError, match="expected one of fc1, fc2, fc3"):
        block_curvatures(space, setting(), "fc9", 5)
    with pytest.raises(InputError, match="place from 0 to 1"):
        block_curvatures(space, setting(), "fc1", 5, 1.5)


def test_likeness():
    first = np.array([[2.0, 1.0], [1.0, 3.0]])
    same = likeness(2 * first, first)
    assert (same.correlation, same.cosine, same.size) == pytest.approx((1.0, 1.0, 2.0))
    opposite = likeness(-first, first)
    assert (opposite.correlation, opposite.cosine, opposite.size) == pytest.approx((-1.0, -1.0, 1.0))
    assert likeness(np.diag([1.0, 0.0]), np.diag([0.0, 1.0])).cosine == 0.0
    assert np.isnan(likeness(np.zeros((2, 2)), first).cosine)
