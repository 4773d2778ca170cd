"""From arrays as they came to a data set: labels checked, split where no test images came, normalised by its training images."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from woodfisher_core.data import DataSet, Split
from woodfisher_core.errors import InputError
from woodfisher_core.models import MODELS, get_model
from woodfisher_core.own.limits import CLASSES, FEWEST, IMAGES, LABEL_LENGTH, SIDE, TEST_VALUES

TEST_SHARE = 0.2
SPLIT_SEED = 0  # part of what a data set is: RandomState's stream is frozen (NEP 19)
# Of grey in colour: ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Images whose statistics are taken at once, in float64.
CHUNK = 1024


@dataclass(frozen=True)
class Side:
    """Images (n, C, H, W), uint8 or float32, and labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Raw:
    """What came: ``test`` is None where it is to be split off, ``mean`` and ``std`` where they are to be computed."""

    train: Side
    test: Side | None
    classes: tuple[str, ...] | None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    said: tuple[str, ...] = ()


def data_set(raw: Raw, model: str | None = None) -> tuple[DataSet, tuple[str, ...]]:
    """(the data set under an empty name, what is to be said of it).

    Where ``model`` names a network that reads the images in the other colours only (grey for colour, or colour for grey),
    they are converted.

    Raises:
        InputError: It is too large, too small, or its labels are none.
    """
    said = list(raw.said)
    sides = [raw.train] if raw.test is None else [raw.train, raw.test]
    _check_images(sides)
    classes = _classes(sides, raw.classes)
    if raw.test is None:
        sides = _divided(raw.train)
        said.append(
            f"No test images came: {len(sides[1].images):,} of {len(raw.train.images):,} were set apart, always the same."
        )
    for side, what in zip(sides, ("training", "test"), strict=True):
        if len(side.images) < FEWEST:
            raise InputError(f"data: expected at least {FEWEST} {what} images, got {len(side.images)}. Bring more.")
    if len(np.unique(sides[0].labels)) < 2:
        raise InputError(
            "data: all training images are of one class. Expected two at least: there is nothing to tell apart."
        )
    if sides[1].images.size > TEST_VALUES:
        raise InputError(
            f"data: the test images are {sides[1].images.size:,} values, and all must fit in memory at once. Expected at most "
            f"{TEST_VALUES:,}: bring fewer test images."
        )
    if model is not None and (converted := _recoloured(sides, model)) is not None:
        said.append(
            f"{get_model(model).label} reads {'colour' if converted[0].images.shape[1] == 3 else 'grey'} images: yours were "
            "converted."
        )
        sides = converted
    scale = 1.0 / 255.0 if sides[0].images.dtype == np.uint8 else 1.0
    mean, std = _normalisation(sides[0].images, scale, raw)
    if raw.mean is None:
        said.append(
            f"Normalised by mean {written(mean)} and standard deviation {written(std)}, which are those of your training "
            "images. If the network was trained on other numbers, bring an .npz with its `mean` and `std` (0 and 1 for none)."
        )
    splits = [
        Split(torch.from_numpy(side.images), torch.from_numpy(side.labels.astype(np.int64)), scale, mean, std)
        for side in sides
    ]
    return DataSet("", splits[0], splits[1], classes), tuple(said)


def _check_images(sides: list[Side]) -> None:
    shapes = [side.images.shape[1:] for side in sides]
    if shapes[0] != shapes[-1] or sides[0].images.dtype != sides[-1].images.dtype:
        raise InputError(
            f"data: training and test images differ: {'×'.join(map(str, shapes[0]))} {sides[0].images.dtype} and "
            f"{'×'.join(map(str, shapes[-1]))} {sides[-1].images.dtype}. Expected the same."
        )
    if not 1 <= min(shapes[0]) <= max(shapes[0]) <= SIDE:
        raise InputError(f"data: expected images of 1 to {SIDE} pixels a side, got {'×'.join(map(str, shapes[0]))}.")
    count = sum(len(side.images) for side in sides)
    if count > IMAGES:
        raise InputError(f"data: expected at most {IMAGES:,} images, got {count:,}. Bring fewer.")


def _classes(sides: list[Side], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the classes; every label has one."""
    labels = np.concatenate([side.labels for side in sides])
    if not len(labels):
        raise InputError("data: there are no images.")
    lowest, highest = int(labels.min()), int(labels.max())
    most = len(given) if given is not None else CLASSES
    if lowest < 0 or highest >= min(most, CLASSES):
        named = f"the {most} classes that are named" if given is not None else f"at most {CLASSES} classes"
        raise InputError(
            f"data: the labels go from {lowest} to {highest}. Expected {named}, counted from 0: 0 to {min(most, CLASSES) - 1}."
        )
    if given is None:
        return tuple(map(str, range(highest + 1)))
    if len(set(given)) < len(given):
        raise InputError("data: two classes have one name. Expected a name each.")
    plain = ("".join(letter for letter in name if letter.isprintable() and letter not in "`*[]<>$\\") for name in given)
    return tuple(name.strip()[:LABEL_LENGTH] or str(number) for number, name in enumerate(plain))


def _divided(side: Side) -> list[Side]:
    """Training and test images of one heap, by a fixed seed."""
    order = np.random.RandomState(SPLIT_SEED).permutation(len(side.images))
    first = len(order) - round(TEST_SHARE * len(order))
    return [Side(side.images[part], side.labels[part]) for part in (order[:first], order[first:])]


def _recoloured(sides: list[Side], model: str) -> list[Side] | None:
    """The images as ``model`` reads them where it reads them only so; else None."""
    channels, *size = sides[0].images.shape[1:]
    spec, other = get_model(model), 4 - channels
    if spec.outputs((channels, *size)) is not None or spec.outputs((other, *size)) is None:
        return None
    return [
        replace(side, images=_grey(side.images) if other == 1 else np.repeat(side.images, 3, axis=1)) for side in sides
    ]


def _grey(images: np.ndarray) -> np.ndarray:
    grey = np.empty((len(images), 1, *images.shape[2:]), images.dtype)
    for start in range(0, len(images), CHUNK):
        part = np.einsum("nchw,c->nhw", images[start : start + CHUNK].astype(np.float32), LUMA)
        grey[start : start + CHUNK, 0] = np.rint(part) if images.dtype == np.uint8 else part
    return grey


def _normalisation(
    images: np.ndarray, scale: float, raw: Raw
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Mean and standard deviation of the training pixels, one a channel, unless they were given."""
    channels = images.shape[1]
    if (raw.mean is None) != (raw.std is None):
        raise InputError("data: expected mean and std both, or neither: then the training images give them.")
    if raw.mean is not None:
        mean, std = raw.mean, raw.std
        if not len(mean) == len(std) == channels:
            raise InputError(
                f"data: expected {channels} numbers in mean and std, a channel each, got {len(mean)}, {len(std)}."
            )
    else:
        count, total, squares = 0, np.zeros(channels), np.zeros(channels)
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK].astype(np.float64) * scale
            count += part.size // channels
            total += part.sum((0, 2, 3))
            squares += np.square(part).sum((0, 2, 3))
        averages = total / count
        mean = tuple(map(float, averages))
        std = tuple(map(float, np.sqrt(np.maximum(squares / count - averages**2, 0.0))))
    if min(std) <= 0 or not np.isfinite([*mean, *std]).all():
        raise InputError(
            "data: expected training images that differ: the standard deviation of a channel is not above 0."
        )
    return (mean[0], std[0]) if channels == 1 else (mean, std)


def written(values: float | tuple[float, ...]) -> str:
    """``0.307``, or ``0.49, 0.48, 0.45`` of several channels."""
    return ", ".join(f"{value:.3g}" for value in ((values,) if isinstance(values, float) else values))


def fitting(shape: tuple[int, ...], classes: int) -> tuple[str, ...]:
    """The listed networks that read images of this shape in so many classes."""
    return tuple(name for name, spec in MODELS.items() if (spec.outputs(shape) or 0) >= classes)
