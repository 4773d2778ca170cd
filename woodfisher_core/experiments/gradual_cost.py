"""What a gradual run will cost before it runs: its pruning steps as for any run, its training from a short try."""

import copy

import torch

from woodfisher_core.data import Samples
from woodfisher_core.epoch import train_epoch
from woodfisher_core.experiments import cost
from woodfisher_core.experiments.cost import Cost
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.keys import source_key
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.timing import best_seconds

# Batches of the short try.
PROBE_BATCHES = 2


def predict_gradual(space: Workspace, config: GradualConfig) -> Cost:
    """Cost of all of ``config``, whatever ``space`` keeps: another process runs it, and weights move between its steps.

    The training and the tests after it count under ``networks``.
    """
    return space.results.get(("gradual cost", config.key), lambda: _predict(space, config), lambda _: 200)


def _predict(space: Workspace, config: GradualConfig) -> Cost:
    problem = space.problem(config.prune)
    # A workspace that keeps nothing but the network.
    bare = Workspace(memory_budget=space.memory_budget)
    bare.cache.put(("problem", *source_key(config.prune)), problem, 0)
    prune = config.prune.replace(pattern=None, held_out=0)  # a pattern costs what a threshold does
    step = cost.predict(bare, [prune])
    count = len(problem.dataset.train) if config.prune.images is None else config.prune.images
    test = cost.predict(bare, [prune.replace(method="magnitude", update=None, update_scale=1.0)]).networks
    epoch = count * _seconds_a_sample(space, config) + test
    return step.times(len(config.schedule.levels)) + Cost(networks=test + config.epochs * epoch)


def _seconds_a_sample(space: Workspace, config: GradualConfig) -> float:
    """Seconds a sample takes in training, measured once a network and batch size."""
    tuning, problem = config.tuning, space.problem(config.prune)
    count = min(PROBE_BATCHES * tuning.batch_size, len(problem.dataset.train))
    samples = problem.train_samples(range(count))
    key = ("seconds a trained sample", config.prune.model, str(problem.device), tuning)
    return space.results.get(key, lambda: _measured(problem.model, samples, tuning) / count, lambda _: 8)


def _measured(model: torch.nn.Module, samples: Samples, tuning: FineTuning) -> float:
    network = copy.deepcopy(model).requires_grad_(True)
    optimizer, generator = tuning.optimizer_for(network), torch.Generator().manual_seed(0)
    how = {"batch_size": tuning.batch_size, "augment": tuning.augment, "bfloat16": tuning.precision == "bfloat16"}
    with torch.random.fork_rng(devices=[]):  # dropout draws from the caller's stream
        device = next(network.parameters()).device
        return best_seconds(lambda: train_epoch(network, samples, optimizer, generator, **how), 2, device)
