"""Which training samples a run uses. The order is a public contract: N samples are the first N of one permutation.

The permutation is ``numpy.random.RandomState(seed).permutation(n)``: NEP 19 freezes that stream for good, so a seed
names the same samples on every machine and version, and fewer samples are always a prefix of more.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from woodfisher_core.errors import InputError

# Offset between the stream that orders samples and the one that draws labels, so that they never coincide.
LABEL_STREAM = 0x5EED
# The same between the streams of consecutive stages.
STAGE_STREAM = 0x57A6E


def sample_order(total: int, seed: int) -> np.ndarray:
    """All ``total`` training indices in the order fixed by ``seed``."""
    return _permutation(total, seed).copy()


@lru_cache(maxsize=4, typed=True)
def _permutation(total: int, seed: int) -> np.ndarray:
    # Kept, since a page asks for one order many times over; not to be changed.
    return np.random.RandomState(seed).permutation(total)


def choose_samples(
    total: int,
    count: int,
    seed: int,
    indices: np.ndarray | None = None,
    images: int | None = None,
    stage: int = 0,
    knob: str = "--num-samples times --mini-batch",
) -> np.ndarray:
    """``count`` training-set indices: the first of the seed's order, or the given ``indices`` (whose number must fit).

    Where only ``images`` of the ``total`` exist, they are the first of that order. A later ``stage`` (from 1) takes the first of
    another order of the same ones, so that it sees fresh samples; given ``indices`` serve every stage. ``knob`` names in errors
    what asked.
    """
    if count < 1:
        raise InputError(f"number of samples: expected at least 1, got {count}. Raise --num-samples.")
    if count > total:
        raise InputError(
            f"number of samples: expected at most {total:,} (the training set), got {count:,} ({knob}). Lower it."
        )
    if indices is None:
        order = sample_order(total, seed)[:images]
        if stage:
            order = order[sample_order(len(order), (seed + stage * STAGE_STREAM) % 2**32)]
        return order[:count]
    if len(indices) != count:
        raise InputError(
            f"sample indices: expected {count:,} (--num-samples times --mini-batch), got {len(indices):,}. "
            "Make the two agree."
        )
    if indices.min() < 0 or indices.max() >= total:
        raise InputError(
            f"sample indices: expected values from 0 to {total - 1:,}, got {indices.min()} to {indices.max()}."
        )
    return indices


def held_out_samples(total: int, used: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Up to ``count`` training-set indices not in ``used``, taken from the far end of the seed's order."""
    order = sample_order(total, seed)[::-1]
    return order[~np.isin(order, used)][:count]


def read_indices(path: str | Path) -> np.ndarray:
    """Indices from a text file, one a line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"sample indices: expected a text file at {str(path)!r}, found none. Check --sample-indices.")
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        raise InputError(f"sample indices: {path.name} is no text file; expected one whole number a line.") from None
    values = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if not text.isascii() or not text.isdigit():
            raise InputError(f"sample indices: {path.name}, line {number}: expected a whole number, got {text[:40]!r}.")
        if len(text) > 18:  # beyond int64, and Python refuses to read really long ones
            raise InputError(
                f"sample indices: {path.name}, line {number}: {text[:40]} is more than any data set holds."
            )
        values.append(int(text))
    if not values:
        raise InputError(f"sample indices: {path.name} is empty; expected one whole number a line.")
    return np.array(values, dtype=np.int64)


def label_uniforms(count: int, seed: int) -> Tensor:
    """(count,) uniform numbers in [0, 1) that turn class probabilities into sampled labels; a prefix of any longer draw."""
    return torch.from_numpy(np.random.RandomState((seed + LABEL_STREAM) % 2**32).random_sample(count))
