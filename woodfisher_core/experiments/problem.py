"""A registered network with its data, loaded and measured once: what every run on it starts from."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from woodfisher_core.checkpoints import load_into, load_state, state_hash
from woodfisher_core.data import DataSet, Samples, find_root, get_dataset
from woodfisher_core.devices import compute_device, resolve_device
from woodfisher_core.evaluation import Evaluation, evaluate
from woodfisher_core.experiments.config import SHIPPED, PruneConfig
from woodfisher_core.models import get_model
from woodfisher_core.parameters import PrunableParameters

# Bytes of inputs evaluated at once: all of MNIST's test set (31 MB), a part of larger images.
EVALUATION_BYTES = 1 << 25


@dataclass(frozen=True)
class Problem:
    """A network in eval mode on its device, its prunable weights (d,), its data and its dense result on the test set."""

    model: nn.Module
    parameters: PrunableParameters
    weights: Tensor
    weights_hash: str
    dataset: DataSet
    test: Samples
    dense: Evaluation
    device: torch.device

    def evaluate(self, weights: Tensor | None, samples: Samples) -> Evaluation:
        """Result on ``samples`` with the flat ``weights`` (None: the dense ones)."""
        overrides = None if weights is None else self.parameters.unflatten(weights.to(self.device))
        return evaluate(self.model, samples.batches(_batch_size(samples)), overrides)

    def train_samples(self, indices) -> Samples:
        """Training samples on the network's device."""
        return self.dataset.train.samples(indices).to(self.device)

    @property
    def nbytes(self) -> int:
        tensors = (self.weights, self.test.inputs, self.dataset.train.images, self.dataset.test.images)
        return sum(tensor.nbytes for tensor in tensors)


def load_problem(config: PruneConfig) -> Problem:
    """Loads the network, its weights and its data, and measures the dense accuracy."""
    spec = get_model(config.model)
    data_spec = get_dataset(config.dataset)
    device = resolve_device(config.device)
    model = spec.build()
    path = spec.weights_file if config.weights == SHIPPED else config.weights
    state = load_state(path)
    load_into(model, state, str(path))
    dataset = data_spec.load(find_root(data_spec, config.data_dir))
    model = model.to(device).eval().requires_grad_(False)
    parameters = PrunableParameters.from_model(model, config.exclude)
    test = dataset.test.samples().to(device)
    dense = evaluate(model, test.batches(_batch_size(test)))
    weights = parameters.flatten(model.state_dict()).to(compute_device(device))
    return Problem(model, parameters, weights, state_hash(state), dataset, test, dense, device)


def _batch_size(samples: Samples) -> int:
    return max(1, EVALUATION_BYTES // max(1, samples.inputs[:1].nbytes))
