"""The partition of the flat vector into Fisher blocks."""

import pytest
from cases import network

from woodfisher_core.errors import InputError
from woodfisher_core.fisher import Blocks
from woodfisher_core.parameters import PrunableParameters

PARAMETERS = PrunableParameters.from_model(network("mlp"))  # layers of 60, 50 and 15 weights


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        ("network", [125]),
        ("layer", [60, 50, 15]),
        (1000, [60, 50, 15]),
        (20, [20, 20, 20, 20, 20, 10, 15]),
        ("20", [20, 20, 20, 20, 20, 10, 15]),
        (1, [1] * 125),
    ],
)
def test_blocks_tile_the_vector_without_crossing_layers(size, lengths):
    """Blocks follow one another from 0 to d; the last of a layer may be shorter."""
    blocks = Blocks.of(PARAMETERS, size)
    slices = list(blocks.slices())
    assert [s.stop - s.start for s in slices] == lengths
    assert [s.start for s in slices] == [sum(lengths[:i]) for i in range(len(lengths))]
    assert (blocks.dim, blocks.count, blocks.largest) == (125, len(lengths), max(lengths))


@pytest.mark.parametrize("size", [0, -3, 1.5, "half", "", None, True, float("nan"), float("inf"), "1e400"])
def test_bad_sizes(size):
    """Anything but a positive whole number, layer or network is refused, and shown."""
    with pytest.raises(
        InputError, match="block size: expected a whole number of at least 1, 'layer' or 'network', got"
    ):
        Blocks.of(PARAMETERS, size)
