"""Per-sample gradients against a plain autograd loop written here."""

import copy

import pytest
import torch
from cases import batch, mlp, network, seeded
from oracle import norm_error
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from woodfisher_core import gradients
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.gradients import Strategy, gradient_matrix, gradient_rows
from woodfisher_core.options import Labels
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import label_uniforms

KINDS = ("mlp", "conv", "tied")
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def by_autograd(model: nn.Module, inputs, targets, mini_batch: int = 1, loss=cross_entropy) -> torch.Tensor:
    """One ``backward`` a row on the model's own parameters; tied weights share one, so autograd sums their uses."""
    model = copy.deepcopy(model).eval()
    layers = PrunableParameters.from_model(model).names
    rows = []
    for x, y in zip(inputs.split(mini_batch), targets.split(mini_batch), strict=True):
        model.zero_grad()
        loss(model(x), y).backward()
        found = dict(model.named_parameters())
        rows.append(torch.cat([found[name].grad.reshape(-1) for name in layers]))
    return torch.stack(rows)


def snapshot(model: nn.Module) -> tuple:
    """Everything about a model that a call might change."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [(p.requires_grad, p.grad) for p in model.parameters()]
    return tensors, grads, [m.training for m in model.modules()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("mini_batch", [1, 3])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_rows_equal_autograd(kind, dtype, mini_batch, strategy):
    """Every strategy gives autograd's rows, single samples or mini-batch means, BatchNorm with running statistics."""
    model = copy.deepcopy(network(kind)).to(dtype).train()
    inputs, targets = batch(kind, 12)
    inputs = inputs.to(dtype)
    before = snapshot(model)
    rows = gradient_matrix(
        model,
        PrunableParameters.from_model(model),
        [(inputs, targets)],
        12 // mini_batch,
        mini_batch=mini_batch,
        strategy=strategy,
        chunk=3,
    )
    wanted = by_autograd(model, inputs, targets, mini_batch)
    after = snapshot(model)
    assert rows.dtype == dtype
    assert norm_error(rows, wanted) <= TOLERANCE[dtype]
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:] == after[1:]


def test_mini_batch_row_is_the_mean_of_its_samples():
    """A row over m samples is the mean of their single rows, in order."""
    model, parameters, data = network("mlp"), PrunableParameters.from_model(network("mlp")), [batch("mlp", 12)]
    single = gradient_matrix(model, parameters, data, 12)
    means = gradient_matrix(model, parameters, data, 3, mini_batch=4)
    assert norm_error(means, single.view(3, 4, -1).mean(1)) <= 1e-6


def test_other_losses_keep_sign_and_scale():
    """The gradient is that of the given loss, neither negated nor rescaled."""
    model, (inputs, _) = network("mlp"), batch("mlp", 6)
    targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))

    def loss(outputs, wanted):
        return -5.0 * mse_loss(outputs, wanted)

    rows = gradient_matrix(model, PrunableParameters.from_model(model), [(inputs, targets)], 6, loss=loss)
    assert norm_error(rows, by_autograd(model, inputs, targets, loss=loss)) <= 1e-6


@pytest.mark.parametrize("sizes", [(12,), (1,) * 12, (5, 5, 2), (7, 0, 5), (2, 9, 1)])
@pytest.mark.parametrize(("mini_batch", "chunk"), [(1, None), (1, 5), (3, 1), (4, 2)])
def test_loader_batch_sizes_do_not_matter(sizes, mini_batch, chunk):
    """Any way of batching the same samples gives the same rows in the same order."""
    model, parameters, (inputs, targets) = (
        network("conv"),
        PrunableParameters.from_model(network("conv")),
        batch("conv", 12),
    )
    batches = list(zip(inputs.split(list(sizes)), targets.split(list(sizes)), strict=True))
    done = []
    rows = gradient_matrix(
        model, parameters, batches, 12 // mini_batch, mini_batch=mini_batch, chunk=chunk, progress=done.append
    )
    assert norm_error(rows, by_autograd(model, inputs, targets, mini_batch)) <= 1e-6
    assert done == sorted(set(done))
    assert done[-1] == 12 // mini_batch


def test_gradients_of_pruned_weights_are_zero():
    """Outside ``keep`` every gradient is zero, inside it is what it is; a tied weight has one mask."""
    for kind in ("mlp", "conv", "tied"):
        model, (inputs, targets) = network(kind), batch(kind, 5)
        parameters = PrunableParameters.from_model(model)
        keep = torch.rand(parameters.num_prunable, generator=torch.Generator().manual_seed(4)) < 0.5
        rows = gradient_matrix(model, parameters, [(inputs, targets)], 5, keep=parameters.unflatten(keep))
        assert not rows[:, ~keep].any()
        assert torch.equal(rows[:, keep], gradient_matrix(model, parameters, [(inputs, targets)], 5)[:, keep])


def sampled_rows(count: int, seed: int = 0, chunk: int | None = None) -> torch.Tensor:
    model, (inputs, targets) = network("mlp"), batch("mlp", 40)
    return gradient_matrix(
        model,
        PrunableParameters.from_model(model),
        [(inputs[:count], targets[:count])],
        count,
        labels=Labels.SAMPLED,
        uniforms=label_uniforms(count, seed),
        chunk=chunk,
    )


def test_sampled_labels_are_deterministic_and_a_prefix():
    """A seed fixes the labels; fewer samples, or other chunks, draw the same ones."""
    rows = sampled_rows(40)
    assert torch.equal(rows, sampled_rows(40))
    assert norm_error(sampled_rows(40, chunk=7), rows) <= 1e-6
    assert norm_error(sampled_rows(11), rows[:11]) <= 1e-6
    assert norm_error(sampled_rows(40, seed=1), rows) > 1e-2


def test_sampled_labels_follow_the_softmax():
    """Over many uniforms the labels come as often as the network's probabilities say, and ignore the given targets."""
    model, count = network("mlp"), 4000
    inputs = batch("mlp", 1)[0].expand(count, -1)
    drawn = gradients.sampled_labels(model(inputs).detach(), label_uniforms(count, 3))
    wanted = model(inputs[:1]).double().softmax(1)[0].detach()
    found = torch.bincount(drawn, minlength=3) / count
    error = (wanted * (1 - wanted) / count).sqrt()
    assert ((found - wanted).abs() <= 4 * error).all()


def test_sampled_labels_make_the_rows_of_those_labels():
    """Rows of sampled labels are autograd's at exactly these labels."""
    model, (inputs, _) = network("mlp"), batch("mlp", 40)
    labels = gradients.sampled_labels(model(inputs).detach(), label_uniforms(40, 0))
    assert norm_error(sampled_rows(40), by_autograd(model, inputs, labels)) <= 1e-6


@pytest.mark.parametrize("uniforms", [0.0, 1.0 - 2**-53])
def test_sampled_labels_at_the_ends(uniforms):
    """The smallest and the largest uniform number still give a class."""
    model, (inputs, _) = network("mlp"), batch("mlp", 5)
    drawn = gradients.sampled_labels(model(inputs).detach(), torch.full((5,), uniforms, dtype=torch.float64))
    assert drawn.min() >= 0
    assert drawn.max() <= 2


class Branching(nn.Module):
    """Control flow that depends on data, which vmap cannot take."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x):
        out = self.body(x)
        return out * 2 if out.sum() > 0 else out


def test_fallback_to_the_loop_is_said():
    """A module vmap cannot take is computed row by row, with a warning and the same numbers; forced vmap raises."""
    model, (inputs, targets) = seeded(Branching).eval(), batch("mlp", 8)
    parameters = PrunableParameters.from_model(model)
    with pytest.warns(UserWarning, match="vmap cannot take Branching"):
        rows = gradient_matrix(model, parameters, [(inputs, targets)], 8, chunk=3)
    assert norm_error(rows, by_autograd(model, inputs, targets)) <= 1e-6
    with pytest.raises(RuntimeError, match="vmap"):
        gradient_matrix(model, parameters, [(inputs, targets)], 8, strategy=Strategy.VMAP)


def test_unused_layer_has_zero_columns():
    """A layer that the output does not depend on has zero gradient, by either strategy."""
    model = network("mlp")
    spare = copy.deepcopy(model)
    spare.add_module("unused", nn.Identity())
    spare.unused.extra = nn.Linear(2, 2)
    parameters, data = PrunableParameters.from_model(spare), batch("mlp", 4)
    for strategy in (Strategy.VMAP, Strategy.LOOP):
        rows = gradient_matrix(spare, parameters, [data], 4, strategy=strategy)
        assert not rows[:, parameters.layers[-1].slice].any()
        assert norm_error(rows[:, :125], by_autograd(model, *data)) <= 1e-6


@pytest.mark.parametrize("where", ["weight", "input"])
def test_not_finite_gradients(where):
    """NaN weights or inputs raise a NumericalError that names the rows."""
    model, (inputs, targets) = copy.deepcopy(network("mlp")), batch("mlp", 8)
    with torch.no_grad():
        (model[2].bias if where == "weight" else inputs[6])[0] = float("nan")
    with pytest.raises(NumericalError, match="rows 4 to 7" if where == "input" else "rows 0 to 3"):
        gradient_matrix(model, PrunableParameters.from_model(model), [(inputs, targets)], 8, chunk=4)


@pytest.mark.parametrize(
    ("options", "promised", "message"),
    [
        ({"mini_batch": 0}, 10, "expected at least 1 sample a row, got 0"),
        ({"mini_batch": 3}, 3, "expected a multiple of 3 samples .* 1 are left over"),
        ({}, 9, "expected 9 rows, the data gave 10"),
        ({}, 11, "expected 11 rows, the data gave 10"),
        ({"labels": Labels.SAMPLED}, 10, "expected one uniform number a sample"),
        ({"labels": Labels.SAMPLED, "uniforms": label_uniforms(4, 0)}, 10, "expected 10 uniform numbers, got 4"),
    ],
)
def test_bad_requests(options, promised, message):
    """What does not add up is refused with both numbers."""
    model = network("mlp")
    with pytest.raises(InputError, match=message):
        gradient_matrix(model, PrunableParameters.from_model(model), [batch("mlp", 10)], promised, **options)


def test_no_data():
    """An empty source of batches gives no rows, and a matrix of them is refused."""
    model = network("mlp")
    parameters = PrunableParameters.from_model(model)
    assert list(gradient_rows(model, parameters, [])) == []
    with pytest.raises(InputError, match="expected 4 rows, the data gave 0"):
        gradient_matrix(model, parameters, [], 4)
