"""The exact Hessian against autograd.functional, differences of gradients, and quadratics whose Hessian is known."""

import copy

import numpy as np
import pytest
import torch
from cases import batch, mlp, network, seeded
from oracle import norm_error
from torch import nn
from torch.autograd.functional import hessian as hessian_of
from torch.nn.functional import cross_entropy, mse_loss, scaled_dot_product_attention

from woodfisher_core import hessian
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.gradients import Strategy
from woodfisher_core.hessian import dense_hessian, hessian_diagonal, hessian_products
from woodfisher_core.parameters import PrunableParameters

KINDS = ("mlp", "conv", "tied")
DOUBLE = torch.float64
SAMPLES = 24
WIDE = PrunableParameters.from_model(nn.Linear(100, 51))


def by_functional(model: nn.Module, inputs, targets, loss=cross_entropy) -> torch.Tensor:
    """autograd.functional.hessian of the loss as a function of one flat float64 vector, written under every name."""
    model = copy.deepcopy(model).double().eval().requires_grad_(False)
    layers = PrunableParameters.from_model(model).layers
    state = model.state_dict()

    def value(flat):
        values = dict(state)
        for layer in layers:
            for name in (layer.name, *layer.aliases):
                values[name] = flat[layer.offset : layer.end].reshape(layer.shape)
        out = torch.func.functional_call(model, values, (inputs.double(),), tie_weights=False)
        return loss(out, targets.double() if targets.is_floating_point() else targets)

    return hessian_of(value, torch.cat([state[layer.name].reshape(-1) for layer in layers]))


def by_differences(model: nn.Module, inputs, targets, step: float = 1e-6) -> torch.Tensor:
    """Central differences of ``backward``'s gradients, each weight moved in place."""
    model = copy.deepcopy(model).double().eval()
    own = [model.get_parameter(name) for name in PrunableParameters.from_model(model).names]

    def gradient():
        model.zero_grad()
        cross_entropy(model(inputs.double()), targets).backward()
        return torch.cat([weight.grad.reshape(-1) for weight in own])

    rows = []
    for weight in own:
        for index in range(weight.numel()):
            flat, found = weight.data.view(-1), []
            middle = float(flat[index])
            for sign in (1, -1):
                flat[index] = middle + sign * step
                found.append(gradient())
            flat[index] = middle
            rows.append((found[0] - found[1]) / (2 * step))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", [Strategy.VMAP, Strategy.LOOP])
@pytest.mark.parametrize("chunk", [None, 7])
def test_dense_equals_autograd_functional(kind, strategy, chunk):
    """Every strategy and chunk gives the same symmetric matrix: MLP, convolutions with BatchNorm in eval, tied weights."""
    model, (inputs, targets) = copy.deepcopy(network(kind)).train(), batch(kind, SAMPLES)
    got = dense_hessian(
        model,
        PrunableParameters.from_model(model),
        [(inputs, targets)],
        dtype=DOUBLE,
        strategy=strategy,
        chunk=chunk,
    )
    assert got.dtype == DOUBLE
    assert torch.equal(got, got.T)
    assert norm_error(got, by_functional(model, inputs, targets)) <= 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_dense_equals_differences_of_gradients(kind):
    """The same by no second derivative at all, and every layer's own block is there."""
    model, data = network(kind), batch(kind, SAMPLES)
    got = dense_hessian(model, PrunableParameters.from_model(model), [data], dtype=DOUBLE)
    wanted = by_differences(model, *data)
    assert norm_error(got, wanted) <= 1e-6
    for layer in PrunableParameters.from_model(model).layers:
        assert norm_error(got[layer.slice, layer.slice], wanted[layer.slice, layer.slice]) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_products_and_diagonal_are_the_matrix_s(kind):
    """H v is the matrix times v, one vector or many, and the exact diagonal is the matrix's."""
    model, data = network(kind), [batch(kind, SAMPLES)]
    parameters = PrunableParameters.from_model(model)
    wanted = by_functional(model, *data[0])
    vectors = torch.randn(parameters.num_prunable, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
    got = hessian_products(model, parameters, data, vectors, dtype=DOUBLE, chunk=2)
    assert norm_error(got, wanted @ vectors) <= 1e-12
    one = hessian_products(model, parameters, data, vectors[:, 3], dtype=DOUBLE)
    assert one.shape == (parameters.num_prunable,)
    assert norm_error(one, wanted @ vectors[:, 3]) <= 1e-12
    diagonal = hessian_diagonal(model, parameters, data, dtype=DOUBLE, chunk=4)
    assert diagonal.standard_error is None
    assert norm_error(diagonal.values, wanted.diagonal()) <= 1e-12


def test_single_precision_is_the_default_and_sums_in_double():
    """Without a dtype the network's own float32 is used, good to 1e-5, and the result is float64 all the same."""
    model, data = network("conv"), batch("conv", SAMPLES)
    parameters = PrunableParameters.from_model(model)
    got = dense_hessian(model, parameters, [data])
    exact = by_functional(model, *data)
    assert got.dtype == DOUBLE
    assert 1e-9 < norm_error(got, exact) <= 1e-5
    assert norm_error(hessian_diagonal(model, parameters, [data]).values, exact.diagonal()) <= 1e-5


@pytest.mark.parametrize("sizes", [(1,) * SAMPLES, (10, 10, 4), (17, 0, 7)])
def test_batch_sizes_do_not_matter(sizes):
    """The mean is over samples, whatever batches they come in, even from an iterator."""
    model, (inputs, targets) = network("mlp"), batch("mlp", SAMPLES)
    parameters = PrunableParameters.from_model(model)
    wanted = dense_hessian(model, parameters, [(inputs, targets)], dtype=DOUBLE)
    pieces = list(zip(inputs.split(list(sizes)), targets.split(list(sizes)), strict=True))
    assert norm_error(dense_hessian(model, parameters, iter(pieces), dtype=DOUBLE), wanted) <= 1e-12
    assert (
        norm_error(hessian_diagonal(model, parameters, iter(pieces), dtype=DOUBLE).values, wanted.diagonal()) <= 1e-12
    )
    some = torch.eye(125, 9, dtype=DOUBLE)
    assert norm_error(hessian_products(model, parameters, iter(pieces), some, dtype=DOUBLE), wanted[:, :9]) <= 1e-12
    few = [
        hessian_diagonal(model, parameters, iter(data), dtype=DOUBLE, probes=3)
        for data in (pieces, [(inputs, targets)])
    ]
    assert norm_error(few[0].values, few[1].values) <= 1e-12


def test_linear_model_with_squared_error():
    """For Wx + b under the mean squared error H is (2/out) I ⊗ mean xxᵀ, at any weights whatever; the bias is no part of it."""
    model, generator = seeded(lambda: nn.Linear(4, 3)), torch.Generator().manual_seed(6)
    inputs, targets = torch.randn(10, 4, generator=generator), torch.randn(10, 3, generator=generator)
    parameters = PrunableParameters.from_model(model)
    wanted = 2 / 3 * torch.kron(torch.eye(3, dtype=DOUBLE), inputs.T.double() @ inputs.double() / 10)
    for weights in (None, torch.full((12,), 7.0)):
        got = dense_hessian(model, parameters, [(inputs, targets)], loss=mse_loss, dtype=DOUBLE, weights=weights)
        assert norm_error(got, wanted) <= 1e-13
    got = hessian_diagonal(model, parameters, [(inputs, targets)], loss=mse_loss, dtype=DOUBLE)
    assert norm_error(got.values, wanted.diagonal()) <= 1e-13


def test_given_weights():
    """H is that at the given weights, kept in float64 where the arithmetic is; the model stays as it is."""
    model, data = copy.deepcopy(network("tied")).train(), batch("tied", SAMPLES)
    parameters = PrunableParameters.from_model(model)
    weights = parameters.flatten(model.state_dict()).double() * 1.5 + 1e-9
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = copy.deepcopy(model).double()
    other.load_state_dict(parameters.written_into(other.state_dict(), weights))
    got = dense_hessian(model, parameters, [data], weights=weights, dtype=DOUBLE)
    assert norm_error(got, by_functional(other, *data)) <= 1e-13
    assert norm_error(got, by_functional(model, *data)) > 1e-2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_excluded_layers_are_constants():
    """H over some layers is the submatrix of H over all."""
    model, data = network("conv"), batch("conv", SAMPLES)
    every, some = PrunableParameters.from_model(model), PrunableParameters.from_model(model, ["conv2"])
    places = torch.cat([torch.arange(x.offset, x.end) for x in every.layers if x.module != "conv2"])
    got = dense_hessian(model, some, [data], dtype=DOUBLE)
    assert norm_error(got, by_functional(model, *data)[places][:, places]) <= 1e-12


def estimate(probes: int, seed: int = 0, **options):
    model = network("mlp")
    return hessian_diagonal(
        model,
        PrunableParameters.from_model(model),
        [batch("mlp", SAMPLES)],
        probes=probes,
        seed=seed,
        dtype=DOUBLE,
        **options,
    )


def test_hutchinson_is_unbiased_within_its_standard_error():
    """Over 400 probes the error is as large as the standard error says, and that is the one theory gives."""
    exact = by_functional(network("mlp"), *batch("mlp", SAMPLES))
    got = estimate(400)
    active = got.standard_error > 0
    score = (got.values - exact.diagonal())[active] / got.standard_error[active]
    assert active.sum() > 100
    assert score.abs().max() <= 4.5
    assert 0.7 <= float(score.square().mean()) <= 1.4
    theory = (exact.square().sum(1) - exact.diagonal().square()).div(400).sqrt()
    assert norm_error(got.standard_error, theory) <= 0.1
    assert not got.values[~active].any()


def test_hutchinson_probes_are_a_frozen_stream(monkeypatch):
    """The probes are those of numpy's frozen stream, fewer are a prefix of more, and no grouping changes the result."""
    exact = by_functional(network("mlp"), *batch("mlp", SAMPLES))
    stream = np.random.RandomState(3 + hessian.PROBE_STREAM)
    signs = torch.from_numpy(np.stack([2.0 * stream.randint(0, 2, size=125) - 1.0 for _ in range(6)], axis=1))
    products = signs * (exact @ signs)
    for count in (2, 6):
        got = estimate(count, seed=3)
        assert norm_error(got.values, products[:, :count].mean(1)) <= 1e-12
        spread = products[:, :count].std(1, unbiased=True) / count**0.5
        assert norm_error(got.standard_error, spread) <= 1e-12
    assert norm_error(estimate(6).values, estimate(6, seed=3).values) > 1e-2
    monkeypatch.setattr(hessian, "PROBE_BYTES", 4 * 8 * 125)
    assert norm_error(estimate(6, seed=3).values, products.mean(1)) <= 1e-12
    assert norm_error(estimate(6, seed=3).standard_error, spread) <= 1e-12


def test_hutchinson_is_exact_where_the_hessian_is_diagonal():
    """Nothing off the diagonal: two probes give the exact values with a standard error of zero."""
    model = seeded(lambda: nn.Linear(1, 3))
    data = [(torch.arange(1.0, 6.0).unsqueeze(1), torch.zeros(5, 3))]
    got = hessian_diagonal(model, PrunableParameters.from_model(model), data, loss=mse_loss, probes=2)
    assert got.values.tolist() == pytest.approx([2 / 3 * 11.0] * 3, rel=1e-6)
    assert not got.standard_error.any()


def square(look):
    """x² whose second derivative first lets ``look`` at the values it is given; None forbids it altogether."""

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, grad, x):
            ctx.save_for_backward(grad, x)
            return 2 * grad * x

        @staticmethod
        def backward(ctx, outer):
            grad, x = ctx.saved_tensors
            look(outer)
            return 2 * outer * x, 2 * outer * grad

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return Backward.apply(grad, *ctx.saved_tensors)

    if look is None:
        Forward.backward = staticmethod(torch.autograd.function.once_differentiable(Forward.backward))
    return Forward.apply


def refuse(outer):
    raise RuntimeError("no derivative here")


class Squared(nn.Module):
    """Two linear layers with x² between, by ``square``."""

    def __init__(self, square):
        super().__init__()
        self.first, self.last, self.square = nn.Linear(6, 4), nn.Linear(4, 3), square

    def forward(self, x):
        return self.last(self.square(self.first(x)))


def test_fallback_to_the_loop_is_said():
    """Where vmap cannot go the products are made one by one, the same, with a warning but where they were; forced it raises."""
    model, plain = (
        seeded(lambda f=f: Squared(f)).eval() for f in (square(lambda outer: outer.sum().item()), torch.square)
    )
    data, parameters = batch("mlp", 8), PrunableParameters.from_model(model)
    with pytest.warns(UserWarning, match="vmap cannot take the Hessian of Squared") as said:
        got = dense_hessian(model, parameters, [data], dtype=DOUBLE, chunk=5)
    assert (len(said), norm_error(got, by_functional(plain, *data)) <= 1e-12) == (1, True)
    with pytest.raises(RuntimeError):
        dense_hessian(model, parameters, [data], strategy=Strategy.VMAP, chunk=1)
    assert torch.equal(dense_hessian(model, parameters, [data], dtype=DOUBLE, chunk=1), got)


@pytest.mark.parametrize(("look", "why"), [(None, "one derivative only"), (refuse, "no derivative here")])
def test_what_cannot_be_differentiated_twice(look, why):
    """A missing second derivative is refused, never taken for zero; torch itself passes over the first kind in silence."""
    model = seeded(lambda: Squared(square(look))).eval()
    with pytest.raises(InputError, match=f"gradient of Squared cannot be differentiated once more .*{why}.*Fisher"):
        hessian_diagonal(model, PrunableParameters.from_model(model), [batch("mlp", 8)])


class Attention(nn.Module):
    """One head over three tokens, by torch's fused kernel or written out."""

    def __init__(self, fused: bool):
        super().__init__()
        self.lift, self.head, self.fused = nn.Linear(2, 6), nn.Linear(2, 3), fused

    def forward(self, x):
        q, k, v = self.lift(x.view(-1, 1, 3, 2)).chunk(3, dim=-1)
        mixed = scaled_dot_product_attention(q, k, v) if self.fused else (q @ k.mT / 2**0.5).softmax(-1) @ v
        return self.head(mixed.mean((1, 2)))


def test_attention():
    """torch's attention, whose fast kernels have no second derivative, is taken through its plain form."""
    data = batch("mlp", 8)
    fused, plain = (seeded(lambda fused=fused: Attention(fused)).eval() for fused in (True, False))
    got = dense_hessian(fused, PrunableParameters.from_model(fused), [data], dtype=DOUBLE)
    assert norm_error(got, by_functional(plain, *data)) <= 1e-12


def test_unused_layers_and_linear_losses_have_no_curvature():
    """Rows and columns of a layer the output does not depend on are zero; so is all of H for a loss linear in the weights."""
    spare = copy.deepcopy(network("mlp"))
    spare.add_module("unused", nn.Identity())
    spare.unused.extra = nn.Linear(2, 2)
    data = [batch("mlp", 8)]
    got = dense_hessian(spare, PrunableParameters.from_model(spare), data, dtype=DOUBLE)
    assert norm_error(got[:125, :125], by_functional(network("mlp"), *data[0])) <= 1e-12
    assert not got[125:].any()
    assert not got[:, 125:].any()
    linear = seeded(lambda: nn.Linear(6, 3))
    parameters = PrunableParameters.from_model(linear)
    for loss in (lambda outputs, targets: outputs.mean(), lambda outputs, targets: targets.float().mean()):
        assert not dense_hessian(linear, parameters, data, loss=loss).any()
        assert not hessian_products(linear, parameters, data, torch.ones(18), loss=loss).any()


def test_progress():
    """Every function tells its share of the work, rising to exactly 1."""
    model, parameters = network("mlp"), PrunableParameters.from_model(network("mlp"))
    data = [batch("mlp", 5), batch("mlp", 3)]
    for work in (
        lambda told: dense_hessian(model, parameters, data, progress=told),
        lambda told: hessian_diagonal(model, parameters, data, progress=told),
        lambda told: hessian_diagonal(model, parameters, data, probes=4, progress=told),
        lambda told: hessian_products(model, parameters, data, torch.ones(125, 3), progress=told, chunk=2),
    ):
        shares = []
        work(shares.append)
        assert shares == sorted(shares)
        assert shares[0] > 0
        assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda m, p: dense_hessian(m, WIDE, []), r"at most 5,000 weights .* got 5,100.* diagonal or its products"),
        (lambda m, p: dense_hessian(m, p, []), "expected at least one sample, got none"),
        (
            lambda m, p: hessian_products(m, p, [batch("mlp", 4)], torch.ones(124)),
            r"\(125,\) or \(125, k\), got \(124,\)",
        ),
        (lambda m, p: hessian_products(m, p, [batch("mlp", 4)], torch.ones(125, 1, 1)), "expected shape"),
        (lambda m, p: hessian_diagonal(m, p, [batch("mlp", 4)], probes=1), "probes: expected at least 2 .* got 1"),
        (
            lambda m, p: hessian_diagonal(
                m, p, [batch("mlp", 4)], loss=lambda o, y: cross_entropy(o, y, reduction="none")
            ),
            r"expected one number, the mean over the batch, got shape \(4,\)",
        ),
    ],
)
def test_bad_requests(work, message):
    """What cannot be used is refused with what was expected and what came."""
    with pytest.raises(InputError, match=message):
        work(network("mlp"), PrunableParameters.from_model(network("mlp")))


def test_not_finite():
    """NaN weights raise instead of giving a NaN matrix."""
    model = seeded(mlp)
    with torch.no_grad():
        model[2].bias[0] = float("nan")
    with pytest.raises(NumericalError, match="Hessian: NaN or infinite"):
        dense_hessian(model, PrunableParameters.from_model(model), [batch("mlp", 4)])


@pytest.mark.gpu
def test_on_a_gpu():
    """The same matrix and diagonal on a CUDA device, where the results stay."""
    model, data = network("conv"), batch("conv", SAMPLES)
    moved, parameters = copy.deepcopy(model).cuda(), PrunableParameters.from_model(model)
    got = dense_hessian(moved, parameters, [data], dtype=DOUBLE)
    assert got.is_cuda
    assert norm_error(got.cpu(), by_functional(model, *data)) <= 1e-12
    few = hessian_diagonal(moved, parameters, [data], probes=5, dtype=DOUBLE).values.cpu()
    assert norm_error(few, hessian_diagonal(model, parameters, [data], probes=5, dtype=DOUBLE).values) <= 1e-12
