"""Accuracy and loss of a network at given weights, without touching the network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from woodfisher_core.errors import InputError

Loss = Callable[..., Tensor]
# A difference beyond so many of its standard errors is no luck: 95 % of a normal distribution, two-sided.
CONFIDENT = 1.96


@dataclass(frozen=True)
class Evaluation:
    """Results over n samples: ``accuracy`` in percent, ``loss`` the mean over samples (nats for cross-entropy).

    ``predictions`` and ``targets`` are (n,) integers on the CPU.
    """

    accuracy: float
    loss: float
    predictions: Tensor
    targets: Tensor

    @property
    def num_samples(self) -> int:
        return len(self.targets)

    @property
    def standard_error(self) -> float:
        """Binomial standard error of ``accuracy``, in percentage points: how far test-set noise alone can move it."""
        p = self.accuracy / 100.0
        return 100.0 * (p * (1.0 - p) / self.num_samples) ** 0.5

    def per_class(self, num_classes: int) -> list[float]:
        """Accuracy in percent among the samples of each class (NaN for a class without samples)."""
        right = (self.predictions == self.targets).to(torch.float64)
        counts = torch.bincount(self.targets, minlength=num_classes)
        hits = torch.bincount(self.targets, weights=right, minlength=num_classes)
        return (100.0 * hits / counts).tolist()


def paired_standard_error(first: Evaluation, second: Evaluation) -> float:
    """Standard error, in percentage points, of the difference of two accuracies on the same samples (McNemar 1947)."""
    differ = (first.predictions == first.targets) != (second.predictions == second.targets)
    return 100.0 * int(differ.sum()) ** 0.5 / first.num_samples


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    overrides: Mapping[str, Tensor] | None = None,
    *,
    loss: Loss = cross_entropy,
) -> Evaluation:
    """Evaluates ``model`` over (inputs, targets) batches, with tensors of ``overrides`` in place of its own.

    ``model`` must be in eval mode (BatchNorm with running statistics); ``loss`` is a mean over the batch.
    """
    if model.training:
        raise InputError("evaluate: expected the model in eval mode; call model.eval() first.")
    total, predictions, targets = 0.0, [], []
    with torch.no_grad():
        for inputs, wanted in batches:
            outputs = functional_call(model, dict(overrides or {}), (inputs,))
            total += float(loss(outputs, wanted)) * len(wanted)
            predictions.append(outputs.argmax(1).cpu())
            targets.append(wanted.cpu())
    if not targets:
        raise InputError("evaluate: expected at least one batch, got none.")
    predicted, wanted = torch.cat(predictions), torch.cat(targets)
    accuracy = 100.0 * int((predicted == wanted).sum()) / len(wanted)
    return Evaluation(accuracy, total / len(wanted), predicted, wanted)
