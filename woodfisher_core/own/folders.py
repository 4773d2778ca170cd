"""A zip of folders of images, one folder a class: decoded in memory, no larger than a network here could read."""

import io
from collections import Counter
from collections.abc import Callable

import numpy as np
from PIL import Image

from woodfisher_core.errors import InputError
from woodfisher_core.own.archive import Archive, shown
from woodfisher_core.own.dataset import Raw, Side
from woodfisher_core.own.limits import IMAGES, SIDE, UNPACKED_BYTES, megabytes

SUFFIXES = (".png", ".jpg", ".jpeg")
TRAIN, TESTS = "train", ("test", "val", "valid", "validation")
EXPECTED = "train/<class>/1.png and test/<class>/1.png, or <class>/1.png"
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
Progress = Callable[[int, int], None]


def read_folders(archive: Archive, progress: Progress | None = None) -> Raw:
    """The images as they came, grey where all are, else in colour; classes are the folders, in the order of their names.

    Raises:
        InputError: Something is no image, of another size, or in no folder; the words say which file.
    """
    names = archive.names
    if not names:
        raise InputError(f"data: the archive is empty. Expected images: {EXPECTED}.")
    other = [name for name in names if not name.lower().endswith(SUFFIXES)]
    if other:
        raise InputError(
            f"data: {shown(other[0])} is no .png or .jpg{f', nor are {len(other) - 1:,} others' if len(other) > 1 else ''}. "
            "Expected images only: remove what else is there and zip it again."
        )
    if len(names) > IMAGES:
        raise InputError(f"data: expected at most {IMAGES:,} images, got {len(names):,}. Bring fewer.")
    placed = _placed(names)
    classes = sorted({folder for split, folder in placed.values() if split != "test"})
    if strange := sorted({folder for split, folder in placed.values() if folder not in classes}):
        raise InputError(f"data: the test images have a class that no training image has: {shown(strange[0])}.")
    images, grey = _decoded(archive, names, progress)
    labels = np.array([classes.index(placed[name][1]) for name in names])
    tested = np.array([placed[name][0] == "test" for name in names])
    stacked = np.stack(images)
    del images
    pixels = stacked[:, None, :, :, 0] if grey else stacked.transpose(0, 3, 1, 2)
    first = Side(np.ascontiguousarray(pixels[~tested]), labels[~tested])
    second = Side(np.ascontiguousarray(pixels[tested]), labels[tested]) if tested.any() else None
    return Raw(first, second, tuple(classes))


def _placed(names: list[str]) -> dict[str, tuple[str, str]]:
    """Name → (train, test or all; class)."""
    paths = {name: name.split("/")[:-1] for name in names}
    splits = (TRAIN, *TESTS)
    top = {path[0] for path in paths.values() if path}
    depths = set(map(len, paths.values()))
    # The folder itself was zipped, not what is in it.
    if len(top) == 1 and min(depths) > 1 and next(iter(top)).lower() not in splits:
        paths = {name: path[1:] for name, path in paths.items()}
        depths = set(map(len, paths.values()))
    if depths == {1}:
        return {name: ("all", path[0]) for name, path in paths.items()}
    if depths == {2} and {path[0].lower() for path in paths.values()} <= set(splits):
        return {name: (TRAIN if path[0].lower() == TRAIN else "test", path[1]) for name, path in paths.items()}
    common = Counter(len(path) for path in paths.values()).most_common(1)[0][0]
    odd = next((name for name, path in paths.items() if len(path) != common), names[0])
    raise InputError(f"data: cannot tell the class of {shown(odd)}. Expected {EXPECTED}.")


def _decoded(archive: Archive, names: list[str], progress: Progress | None) -> tuple[list[np.ndarray], bool]:
    """(images (H, W, 3) uint8, or (H, W, 1) where all are grey; whether they are)."""
    images: list[np.ndarray] = []
    size, grey = None, True
    for done, name in enumerate(names):
        if progress is not None and done % 256 == 0:
            progress(done, len(names))
        image = _image(archive.read(name), name)
        if size is None:
            size = image.size
            if len(names) * size[0] * size[1] > UNPACKED_BYTES:
                raise InputError(
                    f"data: {len(names):,} images of {size[1]}×{size[0]} pixels take more than {megabytes(UNPACKED_BYTES)}. "
                    "Bring fewer, or smaller ones."
                )
        if image.size != size:
            raise InputError(
                f"data: {shown(name)} has {image.size[1]}×{image.size[0]} pixels, {shown(names[0])} {size[1]}×{size[0]}. "
                "Expected one size: a network reads no other. Resize them first."
            )
        if image.mode in GREY:
            images.append(np.asarray(image.convert("L"))[:, :, None])
            continue
        if grey:
            grey = False
            if 3 * len(names) * size[0] * size[1] > UNPACKED_BYTES:
                raise InputError(
                    f"data: in colour these images take more than {megabytes(UNPACKED_BYTES)}. Bring fewer."
                )
        images.append(np.asarray(image.convert("RGB")))
    return (images, True) if grey else ([np.broadcast_to(image, (*image.shape[:2], 3)) for image in images], False)


def _image(content: bytes, name: str) -> Image.Image:
    """One image, decoded; its size is looked at before its pixels are."""
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"data: {shown(name)} says that it has millions of pixels. Expected at most {SIDE}×{SIDE}."
        ) from None
    except Exception:  # damaged bytes make these parsers raise almost anything
        raise InputError(f"data: {shown(name)} is no image, whatever its name says. Expected PNG or JPEG.") from None
    if max(image.size) > SIDE or min(image.size) < 1:
        raise InputError(
            f"data: {shown(name)} has {image.size[1]}×{image.size[0]} pixels. Expected at most {SIDE}×{SIDE}."
        )
    if image.mode not in GREY + COLOUR:
        raise InputError(f"data: {shown(name)} is in mode {image.mode}. Expected 8 bits a channel, grey or colour.")
    try:
        image.load()
    except Exception as error:
        raise InputError(f"data: {shown(name)} is damaged ({type(error).__name__}). Copy it again.") from None
    return image
