"""CUDA gives the CPU's results: run where there is one, skipped with the reason elsewhere."""

import copy

import pytest
import torch
from cases import CASES, batch, network
from oracle import dense_inverse, norm_error, relative

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.fisher import EmpiricalFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.options import Solver, Update
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.pruning import prune

pytestmark = pytest.mark.gpu

# Convolutions may use TF32-free float32 kernels of another summation order.
GRADIENTS, FISHER = 1e-5, 1e-6


@pytest.mark.parametrize("kind", ["mlp", "conv", "tied"])
def test_gradients(kind):
    """Per-sample gradients agree with the CPU's in norm."""
    model, (inputs, targets) = network(kind), batch(kind, 20)
    parameters = PrunableParameters.from_model(model)
    wanted = gradient_matrix(model, parameters, [(inputs, targets)], 20)
    rows = gradient_matrix(copy.deepcopy(model).cuda(), parameters, [(inputs.cuda(), targets.cuda())], 20)
    assert rows.is_cuda
    assert norm_error(rows.cpu(), wanted) <= GRADIENTS


@pytest.mark.parametrize("kind", ["mlp", "conv", "tied"])
def test_prune_from_cpu_data(kind):
    """A model and a loader on the CPU are pruned on the device; the model stays where it was."""
    model, data = network(kind), [batch(kind, 30)]
    here, there = (prune(model, data, num_samples=30, sparsity=0.5, device=device) for device in ("cpu", "cuda"))
    assert there.weights.is_cuda
    assert not next(model.parameters()).is_cuda
    assert (here.mask.keep != there.mask.keep.cpu()).sum() <= 2


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("solver", list(Solver), ids=str)
def test_inverse(case, solver):
    """The same rows give the oracle's diagonal on the device."""
    rows = case.rows()
    wanted = dense_inverse(rows, case.blocks, 1e-5)
    inverse = EmpiricalFisher(rows.cuda(), case.blocks).inverse(1e-5, solver)
    tolerance = 1e-4 if solver is Solver.SPECTRAL else FISHER
    assert relative(inverse.diagonal().cpu(), wanted.diagonal()) <= tolerance
    x = torch.ones(len(wanted), dtype=torch.float64)
    assert norm_error(inverse.apply(x.cuda()).cpu(), wanted @ x) <= FISHER
    kept = EmpiricalFisher(rows.cuda(), case.blocks, keep_products=True).inverse(1e-5, solver)
    assert relative(kept.diagonal().cpu(), wanted.diagonal()) <= tolerance
    both = torch.stack([x, torch.eye(len(x), dtype=torch.float64)[0]], dim=1)
    assert norm_error(kept.apply(both.cuda()).cpu(), wanted @ both) <= FISHER


@pytest.mark.parametrize("update", list(Update), ids=str)
@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
def test_whole_run(model, update):
    """Masks differ in at most one weight in a thousand (ties of rounding), accuracy in at most two images."""
    workspace = Workspace()
    config = PruneConfig(model=model, num_samples=200, update=update, sparsity=0.7, device="cpu")
    here, there = workspace.outcome(config), workspace.outcome(config.replace(device="cuda"))
    assert (here.mask.keep != there.mask.keep.cpu()).float().mean() <= 1e-3
    accuracies = [workspace.evaluation(config.replace(device=device)).accuracy for device in ("cpu", "cuda")]
    assert abs(accuracies[0] - accuracies[1]) <= 0.4 + 1e-9
