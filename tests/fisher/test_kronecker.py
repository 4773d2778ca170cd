"""The Kronecker-factored Fisher against dense Kronecker products, KKT systems and exact Fishers."""

from functools import cache

import pytest
import torch
from cases import DAMPINGS
from layer_oracle import dense_curvature, drawn_mask, material
from oracle import independent_step, kkt_step, norm_error, relative
from torch import nn

from woodfisher_core import updates
from woodfisher_core.activations import Factors, layer_factors
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher import Blocks, EmpiricalFisher, kronecker
from woodfisher_core.fisher.kronecker import KroneckerFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.options import Solver
from woodfisher_core.parameters import PrunableParameters

# Which network, how many samples, how many dead units.
MATERIALS = (
    ("mlp", 30, 0),
    ("mlp", 1, 0),
    ("mlp", 12, 3),
    ("mlp", 9, 10),
    ("conv", 6, 0),
    ("tied", 7, 0),
    ("odd", 3, 0),
)

each_material = pytest.mark.parametrize("given", MATERIALS, ids=str)
each_damping = pytest.mark.parametrize("damping", DAMPINGS)
# Survivors up to which a layer's system is formed: the usual number, or conjugate gradients for all.
each_way = pytest.mark.parametrize("dense_survivors", [kronecker.DENSE_SURVIVORS, 0], ids=["cholesky", "gradients"])


@cache
def prepared(given) -> tuple[KroneckerFisher, torch.Tensor, Blocks, torch.Tensor]:
    """The Fisher, its dense twin, its blocks and the weights (d,)."""
    model, inputs, targets = material(*given)
    parameters = PrunableParameters.from_model(model)
    fisher = KroneckerFisher(layer_factors(model, parameters, [(inputs, targets)]), parameters)
    dense = dense_curvature(model, inputs, targets, gradients=True)
    return fisher, dense, Blocks.of(parameters, "layer"), parameters.flatten(model.state_dict())


def damped(dense: torch.Tensor, damping: float) -> torch.Tensor:
    return dense + damping * torch.eye(len(dense), dtype=torch.float64)


@each_material
@each_damping
def test_diagonal_and_product(given, damping):
    """diag A ⊗ Γ, diag F⁻¹ in every element and F⁻¹x, at any damping from 1e-8 to 1."""
    fisher, dense, _, _ = prepared(given)
    wanted = torch.linalg.inv(damped(dense, damping))
    inverse = fisher.inverse(damping)
    x = torch.randn(len(wanted), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fisher.diagonal, dense.diagonal(), rtol=1e-12, atol=1e-18)
    assert relative(inverse.diagonal(), wanted.diagonal()) <= 1e-6
    assert norm_error(inverse.apply(x), wanted @ x) <= 1e-6
    assert norm_error(inverse.apply(x[:, 0]), wanted @ x[:, 0]) <= 1e-6


@each_way
@each_material
@each_damping
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.95, 1.0])
def test_joint_step_solves_the_constrained_quadratic(given, damping, sparsity, dense_survivors, monkeypatch):
    """δ_P = −w_P exactly, and δ_S equals the full KKT system's, however it is solved."""
    monkeypatch.setattr(kronecker, "DENSE_SURVIVORS", dense_survivors)
    fisher, dense, blocks, weights = prepared(given)
    keep = drawn_mask(len(weights), sparsity)
    step = fisher.joint_steps(weights, [keep], damping)[0]
    wanted = kkt_step(damped(dense, damping), blocks, weights, keep)
    assert torch.equal(step[~keep], -weights[~keep])
    error = torch.linalg.norm(step[keep] - wanted[keep])
    assert error <= 1e-6 * (torch.linalg.norm(wanted[keep]) + 1e-6 * torch.linalg.norm(weights))


@each_way
@each_material
@pytest.mark.parametrize("nested", [True, False])
def test_several_masks_at_once(given, nested, dense_survivors, monkeypatch):
    """Masks in any order, nested or not, each give their own step."""
    monkeypatch.setattr(kronecker, "DENSE_SURVIVORS", dense_survivors)
    fisher, dense, blocks, weights = prepared(given)
    keeps = [drawn_mask(len(weights), p, 3 if nested else i) for i, p in enumerate((0.5, 1.0, 0.95, 0.0, 0.2))]
    for keep, step in zip(keeps, fisher.joint_steps(weights, keeps, 1e-4), strict=True):
        wanted = kkt_step(damped(dense, 1e-4), blocks, weights, keep)
        assert torch.linalg.norm(step - wanted) <= 1e-7 * torch.linalg.norm(weights)


@pytest.mark.parametrize("damping", [1e-5, 1e-2])
def test_large_layers(damping):
    """A layer with more survivors than are factored at once: both ways agree, and the rest of the step is exact."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 60, generator=generator, dtype=torch.float64)
    gradients = 0.1 * torch.randn(30, 50, generator=generator, dtype=torch.float64)
    factors = Factors((inputs.T @ inputs / 30)[None], (gradients.T @ gradients / 30)[None], 30)
    fisher = KroneckerFisher([factors], PrunableParameters.from_model(nn.Linear(60, 50)))
    weights, keep = torch.randn(3000, generator=generator), drawn_mask(3000, 0.2)
    assert int(keep.sum()) > kronecker.DENSE_SURVIVORS
    step = fisher.joint_steps(weights, [keep], damping)[0]
    matrix = damped(torch.kron(factors.outputs[0], factors.inputs[0]), damping)
    pull = matrix[keep][:, ~keep] @ weights[~keep].double()
    wanted = torch.linalg.solve(matrix[keep][:, keep], pull)
    assert torch.equal(step[~keep], -weights[~keep].double())
    assert norm_error(step[keep], wanted) <= 1e-7


@each_material
def test_updates(given):
    """Both updates of float32 weights move the survivors as their definitions say, with exact zeros elsewhere."""
    fisher, dense, blocks, weights = prepared(given)
    keep, single = drawn_mask(len(weights), 0.6), weights.float()
    inverse = fisher.inverse(1e-3)
    alone = next(updates.independent(single, [keep], inverse, inverse.diagonal(), 0.7))
    together = next(updates.joint(single, [keep], fisher, 1e-3))
    matrix = damped(dense, 1e-3)
    steps = independent_step(torch.linalg.inv(matrix), single, keep, 0.7), kkt_step(matrix, blocks, single, keep)
    for got, step in zip((alone, together), steps, strict=True):
        assert norm_error(got.double(), torch.where(keep, single.double() + step, 0.0)) <= 1e-6
        assert not got[~keep].any()
        assert got.dtype == torch.float32


@each_damping
def test_one_sample_and_one_position_is_the_exact_fisher(damping):
    """With one sample every Linear layer's Fisher is a Kronecker product, so K-FAC is the empirical Fisher itself."""
    model, inputs, targets = material("mlp", 1)
    parameters = PrunableParameters.from_model(model)
    rows = gradient_matrix(model, parameters, [(inputs, targets)], 1)
    exact = EmpiricalFisher(rows, Blocks.of(parameters, "layer"))
    fisher = KroneckerFisher(layer_factors(model, parameters, [(inputs, targets)]), parameters)
    keep, weights = drawn_mask(125, 0.5), parameters.flatten(model.state_dict())
    assert norm_error(fisher.diagonal, exact.diagonal) <= 1e-12
    assert relative(fisher.inverse(damping).diagonal(), exact.inverse(damping).diagonal()) <= 1e-6
    steps = [own.joint_steps(weights, [keep], damping)[0] for own in (fisher, exact)]
    assert norm_error(*steps) <= 1e-6


def test_more_samples_are_an_approximation():
    """With more samples it is another matrix than the empirical Fisher, of the same scale."""
    model, inputs, targets = material("mlp", 30)
    parameters = PrunableParameters.from_model(model)
    rows = gradient_matrix(model, parameters, [(inputs, targets)], 30)
    exact = EmpiricalFisher(rows, Blocks.of(parameters, "layer")).diagonal
    found = prepared(("mlp", 30, 0))[0].diagonal
    assert norm_error(found, exact) > 1e-2
    assert 0.5 <= float(found.sum() / exact.sum()) <= 2.0


def test_what_it_holds():
    """N, bytes and preparedness are told; one Fisher serves many dampings and changes none of its tensors."""
    model, inputs, targets = material("mlp", 30)
    parameters = PrunableParameters.from_model(model)
    fisher = KroneckerFisher(layer_factors(model, parameters, [(inputs, targets)]), parameters)
    moments = 8 * (6 * 6 + 10 * 10 + 5 * 5 + 10 * 10 + 5 * 5 + 3 * 3)
    before = [(own.inputs.clone(), own.outputs.clone()) for own in fisher.factors]
    assert (fisher.num_rows, fisher.nbytes, fisher.is_prepared(Solver.AUTO)) == (30, moments, False)
    first = fisher.inverse(1e-2, Solver.DUAL).diagonal()
    assert fisher.is_prepared(Solver.AUTO)
    assert fisher.nbytes == 2 * moments + 8 * (6 + 10 + 5 + 10 + 5 + 3)
    again = fisher.inverse(1e-4)
    again.apply(first)
    assert again.nbytes == 0
    assert torch.equal(fisher.inverse(1e-2).diagonal(), first)
    for own, (a, g) in zip(fisher.factors, before, strict=True):
        assert torch.equal(own.inputs, a)
        assert torch.equal(own.outputs, g)


def spectral(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and eigenvectors (as rows) of the second moment of ``rows``, by its singular values."""
    _, sigma, right = torch.linalg.svd(rows, full_matrices=True)
    values = torch.zeros(len(right), dtype=torch.float64)
    values[: len(sigma)] = sigma.square() / len(rows)
    return values, right


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e5])
@pytest.mark.parametrize("decay", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("count", [2, 5, 40])
def test_ill_conditioned_is_never_silently_wrong(scale, decay, count):
    """Spectra over many decades at λ = 1e-8: right to 1e-4, or a NumericalError that names a damping that works."""
    generator = torch.Generator().manual_seed(count)
    inputs = scale * torch.randn(count, 8, generator=generator, dtype=torch.float64) * decay ** (torch.arange(8) / 8)
    inputs = inputs @ torch.randn(8, 8, generator=generator, dtype=torch.float64)
    gradients = scale * torch.randn(count, 6, generator=generator, dtype=torch.float64)
    factors = Factors((inputs.T @ inputs / count)[None], (gradients.T @ gradients / count)[None], count)
    fisher, damping = KroneckerFisher([factors], PrunableParameters.from_model(nn.Linear(8, 6))), 1e-8
    keep, weights = drawn_mask(48, 0.5), torch.ones(48)
    try:
        diagonal = fisher.inverse(damping).diagonal()
    except NumericalError as error:
        assert scale > 1.0
        message = str(error)
        assert "the curvature of the layer weight cannot be inverted accurately at damping 1e-08" in message
        with pytest.raises(NumericalError, match="Use a damping of at least"):
            fisher.joint_steps(weights, [keep], damping)
        damping = float(message.split("damping of at least ")[1].rstrip("."))
        diagonal = fisher.inverse(damping).diagonal()
    (alpha, v), (gamma, u) = spectral(inputs), spectral(gradients)
    wanted = u.square().T @ (1.0 / (gamma[:, None] * alpha + damping)) @ v.square()
    assert relative(diagonal.view(6, 8), wanted) <= 1e-4
    assert fisher.joint_steps(weights, [keep], damping).isfinite().all()


def test_an_iteration_without_end(monkeypatch):
    """Conjugate gradients that do not arrive raise, naming the layer, the damping and what to do."""
    monkeypatch.setattr(kronecker, "DENSE_SURVIVORS", 0)
    monkeypatch.setattr(kronecker, "MAX_ITERATIONS", 2)
    fisher, _, _, weights = prepared(("mlp", 30, 0))
    message = "the joint step of the layer 0 is not found at damping 1e-05: after 2 iterations .* Use a larger damping"
    with pytest.raises(NumericalError, match=message):
        fisher.joint_steps(weights, [drawn_mask(len(weights), 0.5)], 1e-5)


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_damping(damping):
    """λ must be positive and finite, for the inverse and for the joint step."""
    fisher, _, _, weights = prepared(("mlp", 30, 0))
    with pytest.raises(InputError, match=f"expected a positive number, got {damping}"):
        fisher.inverse(damping)
    with pytest.raises(InputError, match=f"expected a positive number, got {damping}"):
        fisher.joint_steps(weights, [weights > 0], damping)


def test_factors_without_gradients():
    """Factors of inputs alone are refused, with what to set."""
    model, inputs, targets = material("mlp", 3)
    parameters = PrunableParameters.from_model(model)
    factors = layer_factors(model, parameters, [(inputs, targets)], gradients=False)
    with pytest.raises(InputError, match="factors of 0: expected output gradients, got none"):
        KroneckerFisher(factors, parameters)
