"""A registered network with its data, loaded and measured once: what every run on it starts from."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from woodfisher_core.batchnorm import mismatch, reestimate
from woodfisher_core.checkpoints import load_into, load_state, state_hash
from woodfisher_core.data import DataSet, Samples, find_root, get_dataset
from woodfisher_core.devices import compute_device, resolve_device
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation, evaluate
from woodfisher_core.experiments.config import SHIPPED, PruneConfig
from woodfisher_core.models import get_model
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import choose_samples, sample_order
from woodfisher_core.structured import EXAMPLES, Channels, channels_if_any, shrunk

# Training images that tell whether a checkpoint's BatchNorm statistics fit.
CHECKED_IMAGES = 256
# Images a batch while statistics are estimated anew: as in training, or all of fewer.
REPAIR_BATCH = 256


@dataclass(frozen=True)
class Problem:
    """A network in eval mode on its device, its prunable weights (d,), its data and its dense result on the test set.

    ``test_indices`` say which test images those of ``test`` are; ``broken_batchnorm`` names
    the BatchNorm layers whose stored statistics do not fit the training images.
    """

    model: nn.Module
    parameters: PrunableParameters
    weights: Tensor
    weights_hash: str
    dataset: DataSet
    test: Samples
    test_indices: np.ndarray
    dense: Evaluation
    device: torch.device
    broken_batchnorm: tuple[str, ...] = ()

    def evaluate(
        self, weights: Tensor | None, samples: Samples, tensors: Mapping[str, Tensor] | None = None
    ) -> Evaluation:
        """Result on ``samples`` with the flat ``weights`` (None: the dense ones) and other ``tensors`` by name in place."""
        overrides = {} if weights is None else self.parameters.unflatten(weights.to(self.device))
        overrides = {**overrides, **(tensors or {})}
        return evaluate(self.model, samples.for_evaluation(), overrides)

    def some_tests(self, count: int) -> Samples:
        """``count`` of the test images, always the same."""
        chosen = torch.from_numpy(_test_indices(len(self.test), count)).to(self.device)
        return Samples(self.test.inputs[chosen], self.test.targets[chosen])

    def train_samples(self, indices) -> Samples:
        """Training samples on the network's device."""
        return self.dataset.train.samples(indices).to(self.device)

    def placed(self, weights: Tensor, tensors: Mapping[str, Tensor]) -> nn.Module:
        """A copy of the network with the flat ``weights`` (d,) and other ``tensors`` by name in place."""
        return self.parameters.placed_in(self.model, weights, tensors)

    def channels(self) -> Channels:
        """Those of the network, for :meth:`shrunk` at any weights."""
        return channels_if_any(self.model, self.test.inputs[:EXAMPLES])

    def shrunk(self, weights: Tensor, tensors: Mapping[str, Tensor], channels: Channels | None = None) -> nn.Module:
        """What is left of :meth:`placed` without the channels that nothing reads; ``channels`` where they are known.

        Raises:
            InputError: The weights (d,) are not all finite.
        """
        return shrunk(self.placed(weights, tensors), self.test.inputs[:EXAMPLES], channels)

    @property
    def nbytes(self) -> int:
        tensors = (self.weights, self.test.inputs, self.dataset.train.images, self.dataset.test.images)
        return sum(tensor.nbytes for tensor in tensors)


def load_problem(config: PruneConfig) -> Problem:
    """Loads the network, its weights and its data, and measures the dense accuracy.

    Warns where weights given by path hold BatchNorm statistics that do not fit the training images.
    """
    spec = get_model(config.model)
    data_spec = get_dataset(config.dataset)
    device = resolve_device(config.device)
    model = spec.build()
    path = spec.weights_at(config.weights)
    state = load_state(path)
    load_into(model, state, str(path))
    dataset = data_spec.load(find_root(data_spec, config.data_dir))
    model = model.to(device).eval().requires_grad_(False)
    if config.repair_batchnorm:
        _repair_batchnorm(model, dataset, config)
    broken = () if config.weights == SHIPPED else _check_batchnorm(model, dataset, str(path))
    parameters = PrunableParameters.from_model(model, config.exclude)
    test_indices = _test_indices(len(dataset.test), config.test_images)
    test = dataset.test.samples(test_indices).to(device)
    dense = evaluate(model, test.for_evaluation())
    weights = parameters.flatten(model.state_dict()).to(compute_device(device))
    return Problem(
        model, parameters, weights, state_hash(model.state_dict()), dataset, test, test_indices, dense, device, broken
    )


def _test_indices(total: int, count: int | None) -> np.ndarray:
    """All test images, or ``count`` of them: of an order that no seed of a run changes."""
    if count is None:
        return np.arange(total)
    if count > total:
        raise InputError(f"test images: expected at most {total:,} (the test set), got {count:,}. Lower --test-images.")
    return np.sort(sample_order(total, 0)[:count])


def _repair_batchnorm(model: nn.Module, dataset: DataSet, config: PruneConfig) -> None:
    """Gives ``model`` the BatchNorm statistics of the first ``repair_batchnorm`` training images of the seed's order."""
    device = next(model.parameters()).device
    picked = choose_samples(
        len(dataset.train), config.repair_batchnorm, config.seed, None, config.images, knob="--repair-batchnorm"
    )
    found = reestimate(model, dataset.train.samples(picked).to(device).batches(REPAIR_BATCH))
    model.load_state_dict(found, strict=False)


def _check_batchnorm(model: nn.Module, dataset: DataSet, source: str) -> tuple[str, ...]:
    """Names of the BatchNorm layers whose statistics do not fit the training images, after a warning that says so.

    It looks at images whatever the config's ``images`` says: nothing is learnt from them.
    """
    device = next(model.parameters()).device
    chosen = sample_order(len(dataset.train), 0)[:CHECKED_IMAGES]
    found = mismatch(model, dataset.train.samples(chosen).to(device).batches(CHECKED_IMAGES // 2))
    if found:
        worst = max(found, key=lambda layer: layer.variance_factor)
        names = ", ".join(layer.layer for layer in found[:4]) + (
            f" and {len(found) - 4} more" if len(found) > 4 else ""
        )
        warnings.warn(
            f"weights: {source}: the stored BatchNorm statistics of {names} do not fit the training images as they are "
            f"normalised here: in {worst.layer} variances are off by a factor of {worst.variance_factor:.1f}, means by "
            f"{worst.mean_shift:.1f} standard deviations. Accuracy will suffer. Estimate them anew on K training images "
            "with --repair-batchnorm K (1000, say).",
            stacklevel=2,
        )
    return tuple(layer.layer for layer in found)
