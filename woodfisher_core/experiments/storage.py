"""How many bytes a pruned network takes in each format, indices counted."""

import zlib
from collections.abc import Mapping
from contextlib import suppress

import pandas as pd
from torch import Tensor

from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import result_key
from woodfisher_core.experiments.speed import pruned_network, smaller_network, structured_config
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.parameters import PrunableParameters

# Of a position in a row, or of a row's beginning, as sparse kernels read them.
INDEX_BYTES = 4
LABELS = {
    "dense": "as it is",
    "zip": "dense, compressed",
    "zeros": "zeros stored",
    "zeros zip": "zeros, compressed",
    "csr": "CSR",
    "bitmask": "one bit a weight, and values",
    "structured": "structured, smaller",
}


def storage(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    """Bytes of all tensors of one setting's network (weights, biases, BatchNorm's), a row a format, indexed by its name.

    Columns: ``label``, ``bytes``, ``share`` (of the dense network's), ``accuracy`` (percent). ``structured`` is missing where
    the method that takes whole channels cannot give that sparsity.
    """
    config = space.resolve(config)
    key = ("storage", result_key(config), result_key(structured_config(config)))
    return space.results.get(
        key, lambda: _storage(space, config), lambda table: int(table.memory_usage(deep=True).sum())
    )


def _storage(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    problem = space.problem(config)
    dense, pruned = problem.model.state_dict(), pruned_network(space, config).state_dict()
    before, after = problem.dense.accuracy, space.evaluation(config).accuracy
    found = {
        "dense": (plain_bytes(dense), before),
        "zip": (compressed_bytes(dense), before),
        "zeros": (plain_bytes(pruned), after),
        "zeros zip": (compressed_bytes(pruned), after),
        "csr": (csr_bytes(pruned, problem.parameters), after),
        "bitmask": (bitmask_bytes(pruned, problem.parameters), after),
    }
    other = structured_config(config)
    with suppress(WoodFisherError):  # whoever measures it is told why
        found["structured"] = plain_bytes(smaller_network(space, other).state_dict()), space.evaluation(other).accuracy
    rows = [(LABELS[name], size, size / found["dense"][0], accuracy) for name, (size, accuracy) in found.items()]
    columns = ["label", "bytes", "share", "accuracy"]
    return pd.DataFrame(rows, index=pd.Index(list(found), name="format"), columns=columns)


def plain_bytes(state: Mapping[str, Tensor]) -> int:
    """Of all tensors, every number as it is."""
    return sum(tensor.nbytes for tensor in state.values())


def compressed_bytes(state: Mapping[str, Tensor]) -> int:
    """Of all tensors, deflated (zlib's level 6, as in a zip file or gzip)."""
    squeeze = zlib.compressobj(6)
    parts = [squeeze.compress(tensor.detach().cpu().contiguous().numpy().tobytes()) for tensor in state.values()]
    return sum(map(len, parts)) + len(squeeze.flush())


def csr_bytes(state: Mapping[str, Tensor], parameters: PrunableParameters) -> int:
    """Prunable layers as matrices of output channels by everything else, in CSR: a value and an index a kept weight, a pointer
    a row and one more; all other tensors as they are."""
    total = plain_bytes(state)
    for layer in parameters.layers:
        weight = state[layer.name]
        kept = int((weight != 0).sum())
        total += kept * (weight.element_size() + INDEX_BYTES) + (len(weight) + 1) * INDEX_BYTES - weight.nbytes
    return total


def bitmask_bytes(state: Mapping[str, Tensor], parameters: PrunableParameters) -> int:
    """Prunable layers as one bit a weight and the values that stay; all other tensors as they are."""
    total = plain_bytes(state)
    for layer in parameters.layers:
        weight = state[layer.name]
        total += -(-weight.numel() // 8) + int((weight != 0).sum()) * weight.element_size() - weight.nbytes
    return total
