"""The quadratic model: exact on exact quadratics, linear in its mini-batch factor, additive over chunks and blocks."""

import pytest
import torch
from cases import CASES, network
from oracle import dense_fisher
from torch import nn

from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import evaluate
from woodfisher_core.fisher import Blocks
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.loss_change import quadratic_terms
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.pruning import prune

NETWORK = Blocks((Run(0, 1, 4),))


def half_square(outputs, targets):
    """½ (y − f)² a sample, the mean over a batch: its Hessian is the mean of xxᵀ."""
    return 0.5 * (outputs.squeeze(1) - targets).square().mean()


def regression(count: int = 64, residual: float = 1.0):
    """A linear model and data whose residuals are exactly ±``residual``: then F = (1/N) Σ (r x)(r x)ᵀ = residual²·H."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, 4, generator=generator))
    inputs = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    signs = torch.randint(2, (count,), generator=generator) * 2.0 - 1.0
    targets = (inputs @ model.weight.detach().T).squeeze(1) + residual * signs
    return model, inputs, targets


def test_prediction_equals_the_change_of_an_exact_quadratic():
    """With residuals ±1 the Fisher is the Hessian, so gᵀδ + ½δᵀFδ is the measured change to the last digits."""
    model, inputs, targets = regression()
    parameters = PrunableParameters.from_model(model)
    rows = gradient_matrix(model, parameters, [(inputs, targets)], 64, loss=half_square)
    step = torch.tensor([0.5, -1.0, 0.25, 2.0], dtype=torch.float64)
    terms = quadratic_terms([rows], step, NETWORK)
    before = evaluate(model.eval(), [(inputs, targets)], loss=half_square).loss
    moved = {"weight": model.weight.detach() + step}
    measured = evaluate(model, [(inputs, targets)], moved, loss=half_square).loss - before
    assert terms.total == pytest.approx(measured, rel=1e-12)
    assert terms.first_order == pytest.approx(float(rows.mean(0) @ step), rel=1e-12)
    assert terms.second_order > 0


@pytest.mark.parametrize("update", ["none", "independent", "joint"])
def test_prune_predicts_what_it_does_to_an_exact_quadratic(update):
    """The Python interface's prediction equals the loss change of the pruned model on the same samples."""
    model, inputs, targets = regression()
    result = prune(
        model,
        [(inputs, targets)],
        loss=half_square,
        sparsity=0.3,
        num_samples=64,
        update=update,
        damping=1e-9,
        device="cpu",
    )
    before = evaluate(model.eval(), [(inputs, targets)], loss=half_square).loss
    after = evaluate(result.applied_to(model), [(inputs, targets)], loss=half_square).loss
    assert result.mask.kept == 2
    assert result.predicted.total == pytest.approx(after - before, rel=1e-9)


def test_joint_saliency_of_one_weight_is_its_second_order_cost():
    """Removing one weight with the joint update costs ½w²/[F⁻¹]_jj: the saliency, and the second-order term."""
    model, inputs, targets = regression()
    result = prune(
        model,
        [(inputs, targets)],
        loss=half_square,
        sparsity=0.01,
        num_samples=64,
        update="joint",
        damping=1e-9,
        device="cpu",
    )
    assert result.mask.kept == 3
    gone = ~result.mask.keep
    assert result.predicted.second_order == pytest.approx(float(result.saliency[gone]), rel=1e-6)


def test_mini_batch_factor():
    """F of m-sample means is about m times too small, and the factor m undoes it; the first order needs none."""
    model, inputs, targets = regression(count=40_000)
    parameters = PrunableParameters.from_model(model)
    step = torch.tensor([0.5, -1.0, 0.25, 2.0], dtype=torch.float64)
    single = quadratic_terms(
        [gradient_matrix(model, parameters, [(inputs, targets)], 40_000, loss=half_square)], step, NETWORK
    )
    rows = gradient_matrix(model, parameters, [(inputs, targets)], 10_000, loss=half_square, mini_batch=4)
    means = quadratic_terms([rows], step, NETWORK, mini_batch=4)
    assert means.first_order == pytest.approx(single.first_order, rel=1e-9)
    assert means.second_order == pytest.approx(single.second_order, rel=0.05)
    assert means.second_order == pytest.approx(4 * quadratic_terms([rows], step, NETWORK).second_order, rel=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_terms_against_the_dense_fisher(case):
    """gᵀδ and ½δᵀFδ of the block-diagonal Fisher without damping, however the rows are cut into chunks."""
    rows, blocks = case.rows(), case.blocks
    step = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    fisher = dense_fisher(rows, blocks, 0.0)
    for size in (1, 3, len(rows)):
        terms = quadratic_terms(rows.split(size), step, blocks)
        assert terms.first_order == pytest.approx(float(rows.double().mean(0) @ step), rel=1e-9, abs=1e-15)
        assert terms.second_order == pytest.approx(0.5 * float(step @ fisher @ step), rel=1e-9)


def test_no_step_no_change():
    """δ = 0 changes nothing, and no rows at all are refused."""
    blocks = Blocks.of(PrunableParameters.from_model(network("mlp")), "layer")
    terms = quadratic_terms([torch.ones(2, 125)], torch.zeros(125), blocks)
    assert (terms.first_order, terms.second_order, terms.total) == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="expected at least one gradient row, got none"):
        quadratic_terms([], torch.zeros(125), blocks)
