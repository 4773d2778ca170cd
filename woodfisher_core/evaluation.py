"""Accuracy and loss of a network at given weights, without touching the network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from scipy.stats import binom
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

    @property
    def guessing(self) -> tuple[float, float]:
        """(accuracy of always answering with the most frequent class, how far luck may be above it in 95 %), in percent."""
        p = float(torch.bincount(self.targets).max()) / self.num_samples
        return 100.0 * p, 100.0 * CONFIDENT * (p * (1.0 - p) / self.num_samples) ** 0.5

    def per_class(self, num_classes: int) -> list[float]:
        """Accuracy in percent among the samples of each class (NaN for a class without samples)."""
        right = (self.predictions == self.targets).to(torch.float64)
        counts = torch.bincount(self.targets, minlength=num_classes)
        hits = torch.bincount(self.targets, weights=right, minlength=num_classes)
        return (100.0 * hits / counts).tolist()


def paired_standard_error(first: Evaluation, second: Evaluation) -> float:
    """Standard error, in percentage points, of the difference of two accuracies on the same samples.

    So wide that ``CONFIDENT`` of it are the margin of McNemar's exact test (see :func:`lead_by_luck`).
    """
    differ = (first.predictions == first.targets) != (second.predictions == second.targets)
    return 100.0 * lead_by_luck(int(differ.sum())) / CONFIDENT / first.num_samples


def lead_by_luck(differing: int) -> float:
    """How far ahead, in samples, luck may bring one side where ``differing`` are right on one side alone (McNemar 1947).

    Up to and including it a fair coin for each of them is as far off in more than 5 % of all cases: with five or fewer always.
    The binomial law itself: the normal one (1.96 √differing) is too bold below about 25 samples.
    """
    if not differing:
        return 0.0
    # The most heads that are still in the lower 2.5 %, and one sample more would not be enough.
    lowest = int(binom.ppf(0.025, differing, 0.5))
    lowest -= binom.cdf(lowest, differing, 0.5) > 0.025
    return float(differing - 2 * lowest - 1)


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
    return _evaluation(total, torch.cat(predictions), torch.cat(targets))


def evaluation_of(outputs: Tensor, targets: Tensor) -> Evaluation:
    """The result where a network gave ``outputs`` (n, classes) for ``targets`` (n,); its loss is the cross-entropy."""
    total = float(cross_entropy(outputs, targets)) * len(targets)
    return _evaluation(total, outputs.argmax(1).cpu(), targets.cpu())


def _evaluation(total_loss: float, predictions: Tensor, targets: Tensor) -> Evaluation:
    accuracy = 100.0 * int((predictions == targets).sum()) / len(targets)
    return Evaluation(accuracy, total_loss / len(targets), predictions, targets)
