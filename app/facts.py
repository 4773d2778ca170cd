"""What the controls must know of a network before it is loaded."""

from dataclasses import dataclass

import streamlit as st
from torch import nn

from woodfisher_core.data import find_root, get_dataset
from woodfisher_core.data.brought import DATA, is_here, is_own
from woodfisher_core.errors import InputError
from woodfisher_core.experiments.comparison import usable_methods
from woodfisher_core.models import ModelSpec, get_model
from woodfisher_core.parameters import PrunableParameters


@dataclass(frozen=True)
class Facts:
    """``dataset`` is the one asked for, else the first of the network's data sets that is here; ``methods`` are those that can
    take a network of its size."""

    dataset: str
    train_size: int
    test_size: int
    num_prunable: int
    layers: tuple[str, ...]
    has_batchnorm: bool
    methods: tuple[str, ...]


def facts_of(model: str, dataset: str | None = None) -> Facts:
    """The facts of the registered network ``model``, on one of the data sets that it reads."""
    spec = get_model(model)
    num_prunable, layers, has_batchnorm = _built(model)
    dataset = dataset or present(spec)
    data = get_dataset(dataset)
    if is_own(dataset) and not is_here(DATA, dataset):  # nothing is known of it; the page will say that it is missing
        data = get_dataset(spec.dataset)
    return Facts(
        dataset, data.train_size, data.test_size, num_prunable, layers, has_batchnorm, usable_methods(num_prunable)
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _built(model: str) -> tuple[int, tuple[str, ...], bool]:
    network = get_model(model).build()
    parameters = PrunableParameters.from_model(network)
    has_batchnorm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return parameters.num_prunable, parameters.modules, has_batchnorm


def present(spec: ModelSpec) -> str:
    """The first of the network's own data sets that is on this machine, or the first of all."""
    for name in spec.datasets:
        try:
            find_root(get_dataset(name))
            return name
        except InputError:
            continue
    return spec.dataset
