"""What a registered network is: an architecture, the data it reads and the weights shipped for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from woodfisher_core.data import brought
from woodfisher_core.data.own import describe
from woodfisher_core.errors import InputError

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
# In the place of a file: the weights of this package.
SHIPPED = "shipped"
OPTIMIZERS = ("adam", "sgd")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyper-parameters of ``python -m woodfisher_core train``; the shipped weights were made with these.

    ``adam`` starts at ``learning_rate`` and falls along a cosine, epoch by epoch; ``sgd`` (Nesterov momentum 0.9) rises to it
    and falls along a cosine, step by step. ``augment`` shifts each image by up to 4 pixels and mirrors half of them.
    ``bfloat16`` computes products in bfloat16 (weights stay float32), with channels last in memory.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0
    optimizer: str = "adam"
    augment: bool = False
    precision: str = "float32"

    def __post_init__(self):
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise InputError(f"{name}: expected one of {', '.join(known)}, got {value!r}.")


@dataclass(frozen=True)
class ModelSpec:
    """A registered network; ``build()`` returns it freshly initialised in training mode.

    ``datasets`` names the data sets it reads, the default first; a single name may stand for a tuple of one.
    """

    name: str
    label: str
    description: str
    datasets: tuple[str, ...] | str
    build: Callable[[], nn.Module]
    recipe: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(epochs=30))

    def __post_init__(self):
        if isinstance(self.datasets, str):
            object.__setattr__(self, "datasets", (self.datasets,))

    @property
    def dataset(self) -> str:
        """The data set it reads where none is named."""
        return self.datasets[0]

    def check_dataset(self, name: str) -> str:
        """``name``, if this network reads that data set; one that a user brought must have images and classes that fit.

        Raises:
            InputError: It does not.
        """
        if brought.is_own(name):
            if brought.is_here(brought.DATA, name):  # elsewhere it may be: a run kept there can still be read here
                found = describe(name)
                self.check_images(found.shape, len(found.classes))
            return name
        if name not in self.datasets:
            raise InputError(f"dataset: {self.name} reads {' or '.join(self.datasets)}, got {name!r}.")
        return name

    def outputs(self, shape: tuple[int, int, int]) -> int | None:
        """Number of outputs for images (C, H, W) of this ``shape``; None where the network cannot read them."""
        return _outputs(self, tuple(shape))

    def check_images(self, shape: tuple[int, int, int], classes: int) -> None:
        """Whether images (C, H, W) of this ``shape`` in so many ``classes`` fit.

        Raises:
            InputError: They do not.
        """
        given, outputs = "×".join(map(str, shape)), self.outputs(shape)
        if outputs is None:
            raise InputError(
                f"dataset: {self.name} cannot read images of {given} (channels × height × width). Choose the network that these "
                "images are for, or bring images of another size."
            )
        if classes > outputs:
            raise InputError(
                f"dataset: {self.name} tells {outputs} classes apart, the data has {classes}. Labels count from 0."
            )

    @property
    def weights_file(self) -> Path:
        """The shipped weights."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"

    @property
    def card_file(self) -> Path:
        """The model card beside them."""
        return WEIGHTS_FOLDER / f"{self.name}.md"

    def shipped_weights(self) -> Path:
        """``weights_file``, if it is there.

        Raises:
            InputError: No weights ship for this network here.
        """
        if not self.weights_file.is_file():
            raise InputError(
                f"weights: no trained weights ship for {self.name} here. Give a file with --weights, or train it with: "
                f"python -m woodfisher_core train --model {self.name} --output {WEIGHTS_FOLDER}"
            )
        return self.weights_file

    def weights_at(self, weights: str) -> Path:
        """The file that ``weights`` means: ``"shipped"`` those of this package, ``own-…`` brought ones, else a path.

        Raises:
            InputError: It names what is not here.
        """
        if weights == SHIPPED:
            return self.shipped_weights()
        if not brought.is_own(weights):
            return Path(weights)
        brought.stamp_of(brought.WEIGHTS, weights)
        brought.used(brought.WEIGHTS, weights)
        return brought.own_file(brought.WEIGHTS, weights)


@lru_cache(maxsize=256)
def _outputs(spec: ModelSpec, shape: tuple[int, int, int]) -> int | None:
    """Tried on the meta device: shapes without numbers."""
    with torch.device("meta"), torch.no_grad():
        network = spec.build().eval()
        try:
            outputs = network(torch.zeros(1, *shape))
        except RuntimeError:  # what torch says where shapes do not fit
            return None
    return outputs.shape[1]
