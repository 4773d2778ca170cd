"""A layer's weights as a picture: the matrix, the tiled kernels of a convolution, or each neuron's view of the input."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

import numpy as np
import pandas as pd
from torch import Tensor

from woodfisher_core.parameters import Layer

# Cells of one picture; above that several weights share a cell.
MOST_CELLS = 10_000
NEURONS = 20
COLUMNS = 5


@dataclass(frozen=True)
class Picture:
    """How the weights (out, in[, kernel …]) of ``layer`` lie in a plane: outputs downwards, inputs to the right.

    Each kernel is a tile, with an empty line between tiles; where that takes more than ``most`` cells a cell is a whole
    kernel, then several neighbouring ones.
    """

    layer: Layer
    most: int = MOST_CELLS

    @property
    def kernel(self) -> tuple[int, int]:
        """(height, width) of one kernel, 1 × 1 for a Linear layer; all but the last dimension are its height."""
        *rest, width = self.layer.shape[2:] or (1,)
        return prod(rest), width

    @cached_property
    def tiled(self) -> bool:
        """Whether every weight has a cell of its own."""
        return prod(self._tiled_shape()) <= self.most

    def _tiled_shape(self) -> tuple[int, int]:
        (out, into), (height, width) = self.layer.shape[:2], self.kernel
        gap = self._gap()
        return out * (height + gap) - gap, into * (width + gap) - gap

    def _gap(self) -> int:
        return 0 if self.kernel == (1, 1) else 1

    @cached_property
    def step(self) -> tuple[int, int]:
        """How many outputs and inputs share a cell."""
        out, into = self.layer.shape[:2]
        steps = [1, 1]
        while not self.tiled and ceil(out / steps[0]) * ceil(into / steps[1]) > self.most:
            longer = int(into / steps[1] >= out / steps[0])
            steps[longer] += 1
        return steps[0], steps[1]

    @property
    def weights_a_cell(self) -> int:
        """How many weights a full cell stands for."""
        return 1 if self.tiled else prod(self.step) * prod(self.kernel)

    def places(self, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(row, column) coordinates of the weights at these ``positions`` of the flat vector."""
        local = np.asarray(positions, dtype=np.int64) - self.layer.offset
        height, width = self.kernel
        out, into, down, right = np.unravel_index(local, (*self.layer.shape[:2], height, width))
        if self.tiled:
            return out * (height + self._gap()) + down, into * (width + self._gap()) + right
        return self._middle(out // self.step[0], 0), self._middle(into // self.step[1], 1)

    def _middle(self, cell: np.ndarray, axis: int) -> np.ndarray:
        return cell * self.step[axis] + (self.step[axis] - 1) / 2

    def of_weights(self, flat: Tensor) -> pd.DataFrame:
        """The picture of a whole (d,) vector's part; a shared cell shows its largest in size; gaps are NaN.

        Index and columns are the coordinates of :meth:`places`.
        """
        values = flat[self.layer.slice].cpu().numpy().astype(float)
        if self.tiled:
            return self._tiles(values)
        cells = self._cells(values)
        largest = np.where(np.isnan(cells), -1.0, np.abs(cells)).argmax(axis=-1)
        return self._framed(np.take_along_axis(cells, largest[..., None], -1)[..., 0])

    def of_mask(self, keep: Tensor) -> pd.DataFrame:
        """The share of each cell's weights that is kept, of a (d,) mask: 0 or 1 where a cell is a weight."""
        values = keep[self.layer.slice].cpu().numpy().astype(float)
        return self._tiles(values) if self.tiled else self._framed(np.nanmean(self._cells(values), axis=-1))

    def ticks(self, axis: int, most: int = 10) -> dict[float, str]:
        """Coordinate → number of the output (axis 0) or input (axis 1), at most ``most`` of them."""
        count, size, gap = self.layer.shape[axis], self.kernel[axis], self._gap()
        every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if count / n <= most)
        stride, middle = (size + gap, (size - 1) / 2) if self.tiled else (1, 0.0)
        return {number * stride + middle: str(number) for number in range(0, count, every)}

    def _tiles(self, values: np.ndarray) -> pd.DataFrame:
        picture = np.full(self._tiled_shape(), np.nan)
        positions = np.arange(self.layer.offset, self.layer.end)
        picture[self.places(positions)] = values
        return pd.DataFrame(picture)

    def _cells(self, values: np.ndarray) -> np.ndarray:
        """(rows, columns, weights a cell), the last ones filled up with NaN."""
        (out, into), (down, right) = self.layer.shape[:2], self.step
        weights = values.reshape(out, into, -1)
        weights = np.pad(weights, ((0, -out % down), (0, -into % right), (0, 0)), constant_values=np.nan)
        rows, columns = weights.shape[0] // down, weights.shape[1] // right
        return weights.reshape(rows, down, columns, right, -1).transpose(0, 2, 1, 3, 4).reshape(rows, columns, -1)

    def _framed(self, cells: np.ndarray) -> pd.DataFrame:
        rows, columns = (self._middle(np.arange(n), axis) for axis, n in enumerate(cells.shape))
        return pd.DataFrame(cells, rows, columns)


@dataclass(frozen=True)
class InputViews:
    """What each neuron of a first layer looks at, as images of the input, those that keep most first.

    ``picture`` holds removed weights and gaps as NaN; ``neurons`` has a row an image: ``neuron``, ``kept``, ``total``, and
    ``top``, ``left``, ``height``, ``width`` of its place; ``left_out`` counts neurons not shown.
    """

    picture: pd.DataFrame
    neurons: pd.DataFrame
    left_out: int


def input_views(
    layer: Layer, weights: Tensor, keep: Tensor, input_shape: Sequence[int], most: int = NEURONS
) -> InputViews | None:
    """The first ``most`` neurons' kept weights; None where the layer does not read images of ``input_shape`` (C, H, W).

    A Linear layer's image has the shape of the input, a convolution's that of its kernel; channels stand side by side.
    """
    linear = len(layer.shape) == 2
    if len(input_shape) != 3 or (layer.shape[1] != prod(input_shape) if linear else len(layer.shape) != 4):
        return None
    channels, height, width = tuple(input_shape) if linear else layer.shape[1:]
    values = weights[layer.slice].cpu().numpy().astype(float).reshape(-1, channels, height, width)
    kept = keep[layer.slice].cpu().numpy().reshape(values.shape)
    counts = kept.reshape(len(kept), -1).sum(1)
    shown = np.argsort(-counts, kind="stable")[:most]
    # From (channels, height, width) to one image: channels side by side.
    images = np.where(kept, values, np.nan)[shown].transpose(0, 2, 1, 3).reshape(len(shown), height, channels * width)
    wide, columns = channels * width, min(COLUMNS, len(shown))
    rows = ceil(len(shown) / columns)
    label = max(1, round(0.3 * height))  # free lines above each image, for its name
    picture = np.full((rows * (height + label), columns * (wide + 1) - 1), np.nan)
    places = []
    for at, (neuron, image) in enumerate(zip(shown, images, strict=True)):
        top, left = (at // columns) * (height + label) + label, (at % columns) * (wide + 1)
        picture[top : top + height, left : left + wide] = image
        places.append((int(neuron), int(counts[neuron]), values[0].size, top, left, height, wide))
    names = ["neuron", "kept", "total", "top", "left", "height", "width"]
    return InputViews(pd.DataFrame(picture), pd.DataFrame(places, columns=names), len(values) - len(shown))
