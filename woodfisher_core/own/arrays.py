"""Images and labels of an ``.npz`` file: every array's head is checked against its bytes before numpy makes an array of it."""

import io
import math

import numpy as np

from woodfisher_core.errors import InputError
from woodfisher_core.own.archive import Archive, shown
from woodfisher_core.own.dataset import Raw, Side
from woodfisher_core.own.limits import CLASSES

SUFFIX = ".npy"
SPLIT = ("train_images", "train_labels", "test_images", "test_labels")
TOGETHER = ("images", "labels")
# May stand beside them.
EXTRAS = ("mean", "std", "classes")
EXPECTED = f"the arrays {', '.join(SPLIT)}; or {' and '.join(TOGETHER)}"
# Of an array's head, a Python literal: numpy's own bound.
HEAD_CHARACTERS = 10_000
# Images have four, all else one.
MOST_DIMENSIONS = 4


def read_npz(archive: Archive) -> Raw:
    """The arrays as they came.

    Raises:
        InputError: They are not what was expected; the words say which and why.
    """
    there = {name.removesuffix(SUFFIX) for name in archive.names if name.endswith(SUFFIX)}
    wanted = next((names for names in (SPLIT, TOGETHER) if there.issuperset(names)), None)
    if wanted is None:
        found = ", ".join(map(shown, sorted(there)[:6])) or "none"
        raise InputError(f"data: expected {EXPECTED}; found {found}. Write them with numpy.savez_compressed.")
    arrays = {name: _array(archive, name) for name in (*wanted, *(name for name in EXTRAS if name in there))}
    sides = tuple(
        Side(_images(arrays[images], images), _labels(arrays[labels], labels))
        for images, labels in zip(wanted[::2], wanted[1::2], strict=True)
    )
    for side, images, labels in zip(sides, wanted[::2], wanted[1::2], strict=True):
        if len(side.images) != len(side.labels):
            raise InputError(
                f"data: expected a label for each image, got {len(side.images):,} {images} and {len(side.labels):,} {labels}."
            )
    ignored = sorted(there - set(arrays))
    said = (f"Ignored: {', '.join(map(shown, ignored[:6]))}.",) if ignored else ()
    return Raw(
        sides[0],
        sides[1] if len(sides) > 1 else None,
        _classes(arrays["classes"]) if "classes" in arrays else None,
        *(_per_channel(arrays[name], name) if name in arrays else None for name in ("mean", "std")),
        said,
    )


def _array(archive: Archive, name: str) -> np.ndarray:
    content = archive.read(name + SUFFIX)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[version](stream, max_header_size=HEAD_CHARACTERS)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise InputError(f"data: the head of {name} is damaged, or no array of numpy's. Save it again.") from None
    if dtype.hasobject:
        raise InputError(
            f"data: {name} holds Python objects, which only a pickle could bring, and opening a pickle can run any program. It "
            "was not opened. Expected plain numbers: lists of unequal length become objects."
        )
    if dtype.itemsize == 0 or len(shape) > MOST_DIMENSIONS:  # of nothing there may be any number, in no bytes at all
        raise InputError(
            f"data: {name}: expected numbers or names in at most {MOST_DIMENSIONS} dimensions, got {dtype} in {len(shape)}. "
            "Save it again."
        )
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise InputError(
            f"data: {name} says that it is {'×'.join(map(str, shape))} of {dtype}, {math.prod(shape) * dtype.itemsize:,} bytes; "
            f"{len(content) - stream.tell():,} are there. It is damaged, or made to harm."
        )
    stream.seek(0)
    try:
        return np.lib.format.read_array(stream, allow_pickle=False, max_header_size=HEAD_CHARACTERS)
    except (ValueError, TypeError):  # sides beyond what numpy counts to, beside one of 0
        raise InputError(f"data: {name} has a shape that numpy cannot make. Save it again.") from None


def _images(array: np.ndarray, name: str) -> np.ndarray:
    """(n, C, H, W), uint8 or float32."""
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"data: {name}: expected uint8 from 0 to 255 or floating point, got {array.dtype}.")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise InputError(
            f"data: {name}: expected (images, height, width), with channels before or after, got {array.ndim} dimensions, "
            f"{'×'.join(map(str, array.shape))}. Reshape it."
        )
    if array.shape[1] not in (1, 3):
        if array.shape[3] not in (1, 3):
            raise InputError(
                f"data: {name}: expected 1 or 3 channels in the second or the last place, got {'×'.join(map(str, array.shape))}."
            )
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array if array.dtype == np.uint8 else _float32(array, name))


def _float32(array: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"data: {name} holds {int((~np.isfinite(array)).sum()):,} values that are NaN or infinite.")
    return array


def _labels(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(
            f"data: {name}: expected whole numbers in one dimension, got {array.dtype} in {array.ndim}. One number an image, "
            "counting classes from 0."
        )
    return array


def _classes(array: np.ndarray) -> tuple[str, ...]:
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InputError(f"data: classes: expected names in one dimension, got {array.dtype} in {array.ndim}.")
    if len(array) > CLASSES:  # before each is a string of its own
        raise InputError(f"data: classes: expected at most {CLASSES:,} names, got {len(array):,}. Bring fewer classes.")
    return tuple(str(name) for name in array)


def _per_channel(array: np.ndarray, name: str) -> tuple[float, ...]:
    values = np.atleast_1d(array)
    if values.dtype.kind not in "fiu" or values.ndim != 1 or len(values) not in (1, 3) or not np.isfinite(values).all():
        raise InputError(f"data: {name}: expected a finite number a channel, got {shown(repr(array)[:60])}.")
    return tuple(float(value) for value in values)
