"""What a registered network is: an architecture, the data it reads and the weights shipped for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyper-parameters of ``python -m woodfisher_core train``; the shipped weights were made with these."""

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """A registered network; ``build()`` returns it freshly initialised in training mode."""

    name: str
    label: str
    description: str
    dataset: str
    build: Callable[[], nn.Module]
    recipe: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(epochs=30))

    @property
    def weights_file(self) -> Path:
        """The shipped weights."""
        return WEIGHTS_FOLDER / f"{self.name}.safetensors"

    @property
    def card_file(self) -> Path:
        """The model card beside them."""
        return WEIGHTS_FOLDER / f"{self.name}.md"
