"""Bytes are those that such a file or tensor really has."""

import gzip

import numpy as np
import pytest
import torch

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.speed import pruned_network, smaller_network, structured_config
from woodfisher_core.experiments.storage import storage
from woodfisher_core.sparse import csr

CONFIGS = [
    PruneConfig(model="digits-mlp", method="magnitude", sparsity=0.7, num_samples=40, held_out=0),
    PruneConfig(model="digits-cnn", sparsity=0.8, num_samples=40, held_out=0, exclude=("fc",)),
]


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model)
def test_bytes_of_every_format(space, config):
    """Against real CSR tensors, packed bits and a gzip of the same numbers."""
    table = storage(space, config)["bytes"]
    problem = space.problem(config)
    state = pruned_network(space, config).state_dict()
    prunable = [state[name] for name in problem.parameters.names]
    others = sum(tensor.nbytes for name, tensor in state.items() if name not in problem.parameters.names)
    packed = [csr(weight.flatten(1)) for weight in prunable]
    assert table["dense"] == table["zeros"] == others + sum(weight.nbytes for weight in prunable)
    assert table["csr"] == others + sum(
        part.nbytes for found in packed for part in (found.crow_indices(), found.col_indices(), found.values())
    )
    bits = [np.packbits((weight != 0).numpy().reshape(-1)) for weight in prunable]
    assert table["bitmask"] == others + sum(b.nbytes for b in bits) + sum(4 * int((w != 0).sum()) for w in prunable)
    for name, tensors in (("zip", problem.model.state_dict()), ("zeros zip", state)):
        squeezed = len(gzip.compress(b"".join(tensor.numpy().tobytes() for tensor in tensors.values()), 6))
        assert table[name] == pytest.approx(squeezed, abs=32)  # their headers
    smaller = smaller_network(space, structured_config(config))
    assert table["structured"] == sum(tensor.nbytes for tensor in smaller.state_dict().values())


def test_shares_and_accuracies(space):
    table = storage(space, CONFIGS[0])
    assert table["share"].tolist() == pytest.approx((table["bytes"] / table["bytes"]["dense"]).tolist())
    dense, pruned = space.problem(CONFIGS[0]).dense.accuracy, space.evaluation(CONFIGS[0]).accuracy
    assert table["accuracy"].tolist()[:-1] == [dense, dense, pruned, pruned, pruned, pruned]


def test_nothing_pruned_is_larger_as_csr(space):
    """A value and an index each: twice as large, and a little."""
    table = storage(space, CONFIGS[0].replace(sparsity=0.0))
    assert 1.9 < table["share"]["csr"] < 2.1
    assert 1.0 < table["share"]["bitmask"] < 1.05
    assert torch.isfinite(torch.tensor(table["share"].to_numpy())).all()
