"""One-shot accuracies that others published for networks that are here, without fine-tuning; in percent, on the test set.

All from table 1 of Benbaki et al. (CHITA, ICML 2023), whose MP (global magnitude) and WF (WoodFisher) columns are those of
Yu et al. (CBS, ICML 2022). Settings from the CBS scripts. Their weights and samples are others than ours.
"""

from dataclasses import dataclass

SOURCE = "Benbaki et al. 2023, table 1"


@dataclass(frozen=True)
class Column:
    """One published curve: ``method`` is the registered method it is about, ``setting`` how it was made, ``dense`` the
    accuracy of the network that was pruned."""

    model: str
    datasets: tuple[str, ...]
    label: str
    method: str
    setting: str
    dense: float
    sparsities: tuple[float, ...]
    accuracies: tuple[float, ...]


MLPNET_DENSE, RESNET20_DENSE = 93.97, 91.36
MLPNET_SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
RESNET20_SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_CIFAR10 = ("cifar10", "cifar10-jpeg")
COLUMNS = (
    Column(
        "mlpnet",
        ("mnist",),
        "MP",
        "magnitude",
        "global magnitude",
        MLPNET_DENSE,
        MLPNET_SPARSITIES,
        (93.93, 93.78, 93.62, 92.89, 90.30, 83.64, 32.25),
    ),
    Column(
        "mlpnet",
        ("mnist",),
        "WF",
        "woodfisher",
        "N = 10,000, λ = 1e-3, one block over the network, independent update × 0.9",
        MLPNET_DENSE,
        MLPNET_SPARSITIES,
        (94.02, 93.82, 93.77, 93.57, 91.69, 85.54, 38.26),
    ),
    Column(
        "resnet20",
        _CIFAR10,
        "MP",
        "magnitude",
        "global magnitude",
        RESNET20_DENSE,
        RESNET20_SPARSITIES,
        (90.77, 89.98, 88.44, 85.24, 78.79, 54.01, 11.79),
    ),
    Column(
        "resnet20",
        _CIFAR10,
        "WF",
        "woodfisher",
        "N = 1,000, λ = 1e-5, a block a layer, the block convolutions only",
        RESNET20_DENSE,
        RESNET20_SPARSITIES,
        (91.37, 91.15, 90.23, 87.96, 81.05, 62.63, 11.49),
    ),
)


def columns_of(model: str, dataset: str) -> tuple[Column, ...]:
    """What was published for this network on this data; empty for most."""
    return tuple(one for one in COLUMNS if one.model == model and dataset in one.datasets)
