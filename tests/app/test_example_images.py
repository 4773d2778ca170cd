"""Example images are drawn as they are: upright, grey or in colour, each under its caption."""

import numpy as np

from app.charts import flipped_examples


def tiles(figure, height: int, width: int) -> list[np.ndarray]:
    """The opaque parts of the picture, row by row."""
    picture = np.asarray(figure.data[0].z)
    rows = np.flatnonzero(picture[:, :, 3].any(axis=1))[::height]
    columns = np.flatnonzero(picture[:, :, 3].any(axis=0))[::width]
    found = [picture[top : top + height, left : left + width] for top in rows for left in columns]
    return [tile for tile in found if tile[:, :, 3].all()]


def test_colour_images_are_drawn_pixel_by_pixel():
    """Their own numbers, the first row on top, six in a row, nothing else opaque."""
    images = [np.arange(48, dtype=np.uint8).reshape(4, 4, 3) + k for k in range(8)]
    figure = flipped_examples(images, list("abcdefgh"))
    assert [trace.type for trace in figure.data] == ["image"]
    assert all(np.array_equal(tile[:, :, :3], image) for tile, image in zip(tiles(figure, 4, 4), images, strict=True))
    assert np.asarray(figure.data[0].z)[:, :, 3].sum() == 255 * 16 * 8


def test_grey_images_are_upright():
    """The largest number is black, the smallest white, the first row on top; an even image is white."""
    image = np.arange(12.0).reshape(3, 4)
    first, second = tiles(flipped_examples([image, np.ones((3, 4))], ["a", "b"]), 3, 4)
    assert (first[0, 0, 0], first[2, 3, 0]) == (255, 0)
    assert np.array_equal(first[:, :, 0].ravel(), np.sort(first[:, :, 0].ravel())[::-1])
    assert (second[:, :, 0] == 255).all()


def test_captions_stand_over_their_images():
    """Each over the middle of its own."""
    figure = flipped_examples([np.eye(4)] * 7, [f"{k}: a → b" for k in range(7)])
    written = figure.layout.annotations
    assert [a.text for a in written] == [f"{k}: a → b" for k in range(7)]
    picture = np.asarray(figure.data[0].z)
    for annotation in written:
        below, column = int(annotation.y + 0.5), int(annotation.x + 0.5)
        assert picture[below, column, 3] == 255
        assert picture[below - 1, column, 3] == 0


def test_nothing_to_show_is_an_empty_picture():
    """No image, no caption."""
    figure = flipped_examples([], [])
    assert not np.asarray(figure.data[0].z).any()
    assert not figure.layout.annotations
