"""Pictures of layers: every cell against the weight it stands for."""

import numpy as np
import pytest
import torch
from torch import nn

from woodfisher_core.experiments.layer_pictures import Picture, input_views
from woodfisher_core.experiments.weights import indices
from woodfisher_core.parameters import PrunableParameters


def layers_of(*modules: nn.Module):
    parameters = PrunableParameters.from_model(nn.ModuleList(modules))
    flat = torch.randn(parameters.num_prunable, generator=torch.Generator().manual_seed(1))
    return parameters, flat


@pytest.mark.parametrize(
    "module",
    [nn.Linear(5, 3), nn.Conv2d(2, 3, (2, 3)), nn.Conv1d(2, 3, 4), nn.Conv3d(2, 2, (1, 2, 3)), nn.Conv2d(4, 2, 1)],
)
def test_every_weight_has_a_cell_of_its_own(module):
    """The cell at a weight's place holds it; all other cells are gaps."""
    parameters, flat = layers_of(nn.Linear(2, 2), module)
    layer = parameters.layers[1]
    picture = Picture(layer)
    drawn = picture.of_weights(flat)
    rows, columns = picture.places(range(layer.offset, layer.end))
    assert len(set(zip(rows, columns, strict=True))) == layer.numel
    for position, row, column in zip(range(layer.offset, layer.end), rows, columns, strict=True):
        assert drawn.loc[row, column] == pytest.approx(float(flat[position]))
    assert int(drawn.notna().sum().sum()) == layer.numel
    assert picture.weights_a_cell == 1


def test_outputs_go_down_and_inputs_to_the_right():
    parameters, flat = layers_of(nn.Linear(5, 3))
    picture = Picture(parameters.layers[0])
    np.testing.assert_allclose(picture.of_weights(flat).to_numpy(), flat.view(3, 5).numpy())
    assert picture.ticks(0) == {0.0: "0", 1.0: "1", 2.0: "2"}
    assert list(Picture(PrunableParameters.from_model(nn.Linear(64, 2)).layers[0]).ticks(1).values()) == [
        "0", "10", "20", "30", "40", "50", "60",
    ]  # fmt: skip


def test_ticks_stand_at_the_middle_of_a_kernel():
    parameters, _ = layers_of(nn.Conv2d(2, 3, 3))
    assert Picture(parameters.layers[0]).ticks(1) == {1.0: "0", 5.0: "1"}


@pytest.mark.parametrize("most", [5, 12, 24])
@pytest.mark.parametrize("module", [nn.Linear(13, 7), nn.Conv2d(5, 4, 3)])
def test_shared_cells_show_the_largest_and_the_share_kept(module, most):
    """Against a dictionary of lists: who falls into a cell, by its place."""
    parameters, flat = layers_of(module)
    layer = parameters.layers[0]
    keep = torch.rand(layer.numel, generator=torch.Generator().manual_seed(2)) < 0.4
    picture = Picture(layer, most)
    weights, mask = picture.of_weights(flat), picture.of_mask(keep)
    assert weights.size <= most
    cells: dict[tuple[float, float], list[int]] = {}
    for position, row, column in zip(range(layer.numel), *picture.places(range(layer.numel)), strict=True):
        cells.setdefault((row, column), []).append(position)
    assert len(cells) == weights.size
    for (row, column), members in cells.items():
        largest = max((float(flat[i]) for i in members), key=abs)
        assert weights.loc[row, column] == pytest.approx(largest)
        assert mask.loc[row, column] == pytest.approx(sum(bool(keep[i]) for i in members) / len(members))
    assert max(map(len, cells.values())) == picture.weights_a_cell
    outs = {indices(layer, position)[0] for position in cells[min(cells)]}
    assert outs == set(range(picture.step[0]))


def test_what_is_not_there_stays_blank():
    """NaN weights leave a shared cell only where all of its weights are NaN."""
    parameters, flat = layers_of(nn.Linear(4, 2))
    flat[:4] = torch.tensor([float("nan"), float("nan"), float("nan"), 3.0])
    drawn = Picture(parameters.layers[0], 4).of_weights(flat).to_numpy()
    assert drawn.shape == (2, 2)
    assert np.isnan(drawn[0, 0])
    assert drawn[0, 1] == 3.0
    assert not np.isnan(drawn[1]).any()


def test_neurons_see_their_input_as_an_image():
    """A Linear layer over 2×3 images: kept weights at their pixels, the fullest neuron first, no removed one drawn."""
    parameters, flat = layers_of(nn.Linear(6, 4))
    keep = torch.tensor([1, 0, 0, 0, 0, 0] + [1] * 6 + [0] * 6 + [1, 1, 0, 0, 0, 1], dtype=torch.bool)
    views = input_views(parameters.layers[0], flat, keep, (1, 2, 3), most=3)
    assert list(views.neurons["neuron"]) == [1, 3, 0]
    assert list(views.neurons["kept"]) == [6, 3, 1]
    assert views.left_out == 1
    for one in views.neurons.itertuples():
        seen = views.picture.to_numpy()[one.top : one.top + one.height, one.left : one.left + one.width]
        own = flat.view(4, 2, 3)[one.neuron].numpy()
        kept = keep.view(4, 2, 3)[one.neuron].numpy()
        np.testing.assert_array_equal(np.isnan(seen), ~kept)
        np.testing.assert_allclose(seen[kept], own[kept])
    assert int(views.picture.notna().sum().sum()) == 10


def test_channels_stand_side_by_side():
    parameters, flat = layers_of(nn.Conv2d(2, 1, 3))
    views = input_views(parameters.layers[0], flat, torch.ones(18, dtype=torch.bool), (2, 8, 8))
    one = views.neurons.iloc[0]
    assert (one["height"], one["width"]) == (3, 6)
    seen = views.picture.to_numpy()[one["top"] :, :]
    np.testing.assert_allclose(seen, np.hstack(list(flat.view(2, 3, 3).numpy())))


@pytest.mark.parametrize(
    ("module", "shape"), [(nn.Linear(5, 2), (1, 2, 3)), (nn.Conv1d(1, 2, 3), (1, 8, 8)), (nn.Linear(6, 2), (6,))]
)
def test_what_reads_no_images_gives_none(module, shape):
    parameters, flat = layers_of(module)
    keep = torch.ones(len(flat), dtype=torch.bool)
    assert input_views(parameters.layers[0], flat, keep, shape) is None
