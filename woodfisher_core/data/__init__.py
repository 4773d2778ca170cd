"""Data sets by name. A new one is one file here and one line in ``DATASETS``."""

from woodfisher_core.data import cifar10, digits, mnist
from woodfisher_core.data.base import DataSet, DataSetSpec, Samples, Split, cache_folder, find_root
from woodfisher_core.data.brought import is_own
from woodfisher_core.data.own import own_spec
from woodfisher_core.errors import InputError

DATASETS: dict[str, DataSetSpec] = {
    spec.name: spec for spec in (digits.SPEC, mnist.SPEC, cifar10.SPEC, cifar10.JPEG_SPEC)
}


def get_dataset(name: str) -> DataSetSpec:
    """The registered data set ``name``, or one that a user brought (``own-…``)."""
    if is_own(name):
        return own_spec(name)
    if name not in DATASETS:
        raise InputError(f"dataset: expected one of {', '.join(DATASETS)}, got {name!r}.")
    return DATASETS[name]


__all__ = ["DATASETS", "DataSet", "DataSetSpec", "Samples", "Split", "cache_folder", "find_root", "get_dataset"]
