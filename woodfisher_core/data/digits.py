"""scikit-learn's digits: 1,797 real 8×8 images that ship inside the library, so nothing is downloaded."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from woodfisher_core.data.base import DataSet, DataSetSpec, Split

TRAIN_SIZE = 1297  # leaves 500 for the test set
SPLIT_SEED = 0  # part of the data set's definition: RandomState's stream is frozen (NEP 19)
PIXEL_MAX = 16.0
MEAN, STD = 0.3056, 0.3758  # of the training pixels scaled to [0, 1]


@lru_cache(maxsize=1)
def _load(_root: Path | None) -> DataSet:
    raw = load_digits()
    order = np.random.RandomState(SPLIT_SEED).permutation(len(raw.target))
    images = torch.tensor(raw.images, dtype=torch.uint8).unsqueeze(1)
    targets = torch.tensor(raw.target, dtype=torch.int64)

    def split(indices: np.ndarray) -> Split:
        picked = torch.from_numpy(indices)
        return Split(images[picked], targets[picked], 1.0 / PIXEL_MAX, MEAN, STD)

    return DataSet("digits", split(order[:TRAIN_SIZE]), split(order[TRAIN_SIZE:]), tuple("0123456789"))


SPEC = DataSetSpec(
    name="digits",
    label="Digits (8×8)",
    description="1,797 handwritten digits of 8×8 pixels from scikit-learn: 1,297 to train on, 500 to test on.",
    load=_load,
    train_size=TRAIN_SIZE,
    test_size=1797 - TRAIN_SIZE,
    source="E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
)
