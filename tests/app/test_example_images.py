"""Example images are drawn as they are: upright, grey or in colour."""

import numpy as np

from app.charts import flipped_examples


def test_colour_images_are_drawn_pixel_by_pixel():
    """Their own numbers, the first row on top, each on axes of its own."""
    images = [np.arange(48, dtype=np.uint8).reshape(4, 4, 3) + k for k in range(3)]
    figure = flipped_examples(images, ["a", "b", "c"])
    assert [trace.type for trace in figure.data] == ["image"] * 3
    assert all(np.array_equal(trace.z, image) for trace, image in zip(figure.data, images, strict=True))
    assert len({trace.yaxis for trace in figure.data}) == 3
    assert {axis.autorange for axis in figure.select_yaxes()} == {"reversed"}


def test_grey_images_are_upright():
    """Row 0 of the image is row 0 of an axis that runs downwards."""
    image = np.arange(12.0).reshape(3, 4)
    figure = flipped_examples([image], ["a"])
    assert np.array_equal(figure.data[0].z, image)
    assert figure.layout.yaxis.autorange == "reversed"
