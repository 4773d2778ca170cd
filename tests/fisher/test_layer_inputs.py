"""Layer-wise least squares against dense Kronecker products, KKT systems and least squares written out."""

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
from woodfisher_core.fisher import Blocks, subsets
from woodfisher_core.fisher.layer_inputs import LayerInputs
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


@cache
def prepared(given) -> tuple[LayerInputs, torch.Tensor, Blocks, torch.Tensor]:
    """The curvature, its dense twin, its blocks and the weights (d,)."""
    model, inputs, targets = material(*given)
    parameters = PrunableParameters.from_model(model)
    factors = layer_factors(model, parameters, [(inputs, targets)], gradients=False)
    dense = dense_curvature(model, inputs, targets, gradients=False)
    return (
        LayerInputs(factors, parameters),
        dense,
        Blocks.of(parameters, "layer"),
        parameters.flatten(model.state_dict()),
    )


def damped(dense: torch.Tensor, damping: float) -> torch.Tensor:
    return dense + damping * torch.eye(len(dense), dtype=torch.float64)


@each_material
@each_damping
def test_diagonal_and_product(given, damping):
    """diag H, diag (H + λI)⁻¹ in every element and its products, at any damping from 1e-8 to 1."""
    curvature, dense, _, _ = prepared(given)
    wanted = torch.linalg.inv(damped(dense, damping))
    inverse = curvature.inverse(damping)
    x = torch.randn(len(wanted), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(curvature.diagonal, dense.diagonal(), rtol=1e-12, atol=1e-18)
    assert relative(inverse.diagonal(), wanted.diagonal()) <= 1e-6
    assert norm_error(inverse.apply(x), wanted @ x) <= 1e-6
    assert norm_error(inverse.apply(x[:, 0]), wanted @ x[:, 0]) <= 1e-6


@each_material
@each_damping
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.95, 1.0])
def test_joint_step_solves_the_constrained_quadratic(given, damping, sparsity):
    """δ_P = −w_P exactly, and δ_S equals the full KKT system's."""
    curvature, dense, blocks, weights = prepared(given)
    keep = drawn_mask(len(weights), sparsity)
    step = curvature.joint_steps(weights, [keep], damping)[0]
    wanted = kkt_step(damped(dense, damping), blocks, weights, keep)
    assert torch.equal(step[~keep], -weights[~keep])
    error = torch.linalg.norm(step[keep] - wanted[keep])
    assert error <= 1e-6 * (torch.linalg.norm(wanted[keep]) + 1e-6 * torch.linalg.norm(weights))


@pytest.mark.parametrize("damping", [1e-8, 1e-3, 1.0])
@pytest.mark.parametrize("sparsity", [0.2, 0.6, 0.9])
def test_joint_step_is_least_squares_of_the_outputs(damping, sparsity):
    """Each row's survivors are those that reproduce the layer's outputs best, with λ‖δ_S‖² for moving."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(12, 5).double()
    inputs = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    parameters = PrunableParameters.from_model(layer)
    factors = layer_factors(layer, parameters, [(inputs, torch.zeros(40))], gradients=False)
    weights, keep = layer.weight.detach(), drawn_mask(60, sparsity).view(5, 12)
    step = LayerInputs(factors, parameters).joint_steps(weights.reshape(-1), [keep.view(-1)], damping)[0].view(5, 12)
    for row, stays in enumerate(keep):
        system = torch.cat(
            [inputs[:, stays] / 40**0.5, damping**0.5 * torch.eye(int(stays.sum()), dtype=torch.float64)]
        )
        lost = inputs[:, ~stays] @ weights[row, ~stays] / 40**0.5
        target = torch.cat([lost, torch.zeros(int(stays.sum()), dtype=torch.float64)])
        wanted = torch.linalg.lstsq(system, target.unsqueeze(1)).solution.squeeze(1)
        assert torch.allclose(step[row, stays], wanted, rtol=1e-7, atol=1e-10)


def test_quadratic_is_the_squared_output_error():
    """½δᵀHδ is half the mean squared change of the layer's outputs, summed over units and positions."""
    curvature, dense, _, weights = prepared(("odd", 3, 0))
    inputs = material("odd", 3)[1]
    step = torch.randn(len(weights), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = curvature.parameters.layers[0]
    change = nn.functional.conv2d(inputs, step[first.slice].view(first.shape), stride=(2, 1), padding=(1, 0), groups=2)
    own = step[first.slice]
    assert torch.allclose(own @ dense[first.slice, first.slice] @ own, change.square().sum() / 3, rtol=1e-12)


@each_material
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("nbytes", [1, 1 << 26])
def test_several_masks_at_once(given, nested, nbytes, monkeypatch):
    """Masks in any order, nested or not, and solved in batches of any size, each give their own step."""
    monkeypatch.setattr(subsets, "BATCH_BYTES", nbytes)
    curvature, dense, blocks, weights = prepared(given)
    keeps = [drawn_mask(len(weights), p, 3 if nested else i) for i, p in enumerate((0.5, 1.0, 0.95, 0.0, 0.2))]
    for keep, step in zip(keeps, curvature.joint_steps(weights, keeps, 1e-4), strict=True):
        wanted = kkt_step(damped(dense, 1e-4), blocks, weights, keep)
        assert torch.linalg.norm(step - wanted) <= 1e-7 * torch.linalg.norm(weights)


@each_material
def test_updates(given):
    """Both updates of float32 weights move the survivors as their definitions say, with exact zeros elsewhere."""
    curvature, dense, blocks, weights = prepared(given)
    keep, single = drawn_mask(len(weights), 0.6), weights.float()
    inverse = curvature.inverse(1e-3)
    alone = next(updates.independent(single, [keep], inverse, inverse.diagonal(), 0.7))
    together = next(updates.joint(single, [keep], curvature, 1e-3))
    fisher = damped(dense, 1e-3)
    steps = independent_step(torch.linalg.inv(fisher), single, keep, 0.7), kkt_step(fisher, blocks, single, keep)
    for got, step in zip((alone, together), steps, strict=True):
        assert norm_error(got.double(), torch.where(keep, single.double() + step, 0.0)) <= 1e-6
        assert not got[~keep].any()
        assert got.dtype == torch.float32


def test_what_it_holds():
    """N, bytes and preparedness are told, and using the curvature changes none of its tensors."""
    curvature, _, _, weights = prepared(("mlp", 30, 0))
    before = [own.inputs.clone() for own in curvature.factors]
    inverse = curvature.inverse(1e-2, Solver.DUAL)
    inverse.diagonal(), inverse.apply(weights), curvature.joint_steps(weights, [drawn_mask(len(weights), 0.5)], 1e-2)
    assert curvature.num_rows == 30
    assert curvature.nbytes == inverse.nbytes == 8 * (6 * 6 + 10 * 10 + 5 * 5)
    assert all(curvature.is_prepared(solver) for solver in Solver)
    assert all(torch.equal(own.inputs, old) for own, old in zip(curvature.factors, before, strict=True))


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_ill_conditioned_is_never_silently_wrong(scale):
    """Inputs of any scale at λ = 1e-8: right to 1e-4, or a NumericalError that names the layer and a damping that works."""
    inputs = scale * torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parameters = PrunableParameters.from_model(nn.Linear(8, 3))
    curvature, damping = LayerInputs([Factors((inputs.T @ inputs / 5)[None], None, 5)], parameters), 1e-8
    keep, weights = drawn_mask(24, 0.5), torch.ones(24)
    try:
        diagonal = curvature.inverse(damping).diagonal()
    except NumericalError as error:
        assert scale > 1.0
        message = str(error)
        assert "the curvature of the layer weight cannot be inverted accurately at damping 1e-08" in message
        with pytest.raises(NumericalError, match="Use a damping of at least"):
            curvature.joint_steps(weights, [keep], damping)
        damping = float(message.split("damping of at least ")[1].rstrip("."))
        diagonal = curvature.inverse(damping).diagonal()
    _, sigma, right = torch.linalg.svd(inputs, full_matrices=True)
    spectrum = torch.zeros(8, dtype=torch.float64)
    spectrum[:5] = sigma.square() / 5
    wanted = right.square().T @ (1.0 / (spectrum + damping))
    assert relative(diagonal.view(3, 8), wanted.expand(3, 8)) <= 1e-4
    assert curvature.joint_steps(weights, [keep], damping).isfinite().all()


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_damping(damping):
    """λ must be positive and finite, for the inverse and for the joint step."""
    curvature, _, _, weights = prepared(("mlp", 30, 0))
    with pytest.raises(InputError, match=f"expected a positive number, got {damping}"):
        curvature.inverse(damping)
    with pytest.raises(InputError, match=f"expected a positive number, got {damping}"):
        curvature.joint_steps(weights, [weights > 0], damping)


def test_factors_of_another_network():
    """Factors that are not the layers' own are refused."""
    curvature, _, _, _ = prepared(("mlp", 30, 0))
    with pytest.raises(InputError, match="factors: expected 3, one a layer, got 2"):
        LayerInputs(curvature.factors[:2], curvature.parameters)
    with pytest.raises(InputError, match=r"factors of 0: expected input moments \(groups, 6, 6\), got \(1, 5, 5\)"):
        LayerInputs(curvature.factors[::-1], curvature.parameters)
