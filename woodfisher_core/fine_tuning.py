"""Training on with a mask: settings, learning rates and the optimizer of fine-tuning, and what keeps pruned weights at zero."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from woodfisher_core.checks import real_number, whole_number
from woodfisher_core.errors import InputError
from woodfisher_core.models.base import PRECISIONS
from woodfisher_core.options import Choice


class Optimizer(Choice):
    """What follows the gradient."""

    SGD = ("sgd", "SGD with momentum", "One learning rate for all weights; the paper's choice for fine-tuning.")
    ADAM = ("adam", "Adam", "A learning rate of its own for each weight, from the gradients it has seen.")


class RateShape(Choice):
    """How the learning rate changes over the epochs."""

    CONSTANT = ("constant", "Constant", "The same in every epoch.", r"\eta_t=\eta")
    COSINE = (
        "cosine",
        "Cosine",
        "Falls along half a cosine, to nearly nothing in the last epoch.",
        r"\eta_t=\tfrac{\eta}{2}\left(1+\cos\frac{\pi(t-1)}{T}\right)",
    )
    STEP = (
        "step",
        "Steps",
        "Falls by the same factor every few epochs.",
        r"\eta_t=\eta\,\gamma^{\lfloor(t-1)/k\rfloor}",
    )


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Settings of training after pruning. Plain strings become their enum; bad values raise.

    ``momentum`` is SGD's (Adam has its usual two); ``step_epochs`` k and ``step_factor`` γ are the step shape's. ``augment``
    shifts each image by up to 4 pixels and mirrors half of them: not for digits. ``precision`` bfloat16 is that of the products
    only, as in :class:`TrainingRecipe`; weights and momentum keep theirs.
    """

    optimizer: Optimizer = Optimizer.SGD
    learning_rate: float = 0.01
    rate_shape: RateShape = RateShape.COSINE
    step_epochs: int = 10
    step_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 64
    augment: bool = False
    precision: str = "float32"

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - frozen after this
        put("optimizer", Optimizer.parse(self.optimizer, "optimizer"))
        put("rate_shape", RateShape.parse(self.rate_shape, "rate shape"))
        put("step_epochs", whole_number("step epochs", self.step_epochs, 1))
        put("batch_size", whole_number("batch size", self.batch_size, 2))  # BatchNorm has no variance on one sample
        for name, expected, usable in (
            ("learning_rate", "a positive number", lambda x: x > 0),
            ("step_factor", "a number above 0, at most 1", lambda x: 0 < x <= 1),
            ("momentum", "a number from 0 to below 1", lambda x: 0 <= x < 1),
            ("weight_decay", "a number of at least 0", lambda x: x >= 0),
        ):
            put(name, real_number(name.replace("_", " "), getattr(self, name), expected, usable))
        put("augment", bool(self.augment))
        if self.precision not in PRECISIONS:
            raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}.")

    def rate(self, epoch: int, epochs: int) -> float:
        """The learning rate of ``epoch``, counted from 1, of ``epochs``."""
        if self.rate_shape is RateShape.COSINE:
            return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * (epoch - 1) / epochs))
        if self.rate_shape is RateShape.STEP:
            return self.learning_rate * self.step_factor ** ((epoch - 1) // self.step_epochs)
        return self.learning_rate

    def optimizer_for(self, model: nn.Module) -> torch.optim.Optimizer:
        """A new optimizer of all parameters of ``model``."""
        if self.optimizer is Optimizer.ADAM:
            return torch.optim.Adam(model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            model.parameters(), lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )


def hold_at_zero(model: nn.Module, masks: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Sets pruned weights, and what ``optimizer`` remembers of them, to exact zeros, in place.

    Args:
        model: Its tied weights are one tensor, which the mask of either name covers.
        masks: Parameter name → bool, True where a weight stays.
        optimizer: Every tensor of a weight's shape in its state is zeroed with it: momentum, Adam's two moments.
    """
    with torch.no_grad():
        for name, keep in masks.items():
            weight = model.get_parameter(name)
            gone = ~keep
            # Not a product: that leaves −0 behind, and NaN where a step overflowed.
            weight.masked_fill_(gone, 0.0)
            for remembered in optimizer.state.get(weight, {}).values():
                if isinstance(remembered, Tensor) and remembered.shape == weight.shape:
                    remembered.masked_fill_(gone, 0.0)
