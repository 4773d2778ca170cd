"""Second moments of inputs and output gradients against loops over samples, inputs and positions."""

import copy

import pytest
import torch
from cases import batch, mlp, network, seeded
from layer_oracle import material, moments
from oracle import norm_error
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from woodfisher_core import activations
from woodfisher_core.activations import Factors, layer_factors
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.gradients import gradient_matrix, sampled_labels
from woodfisher_core.options import Labels
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import label_uniforms

KINDS = ("mlp", "conv", "tied", "odd")

# What may stand before the head, with the shape of its input.
LAYERS = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "linear over positions": (lambda: nn.Linear(5, 4), (3, 5)),
    "linear over a grid": (lambda: nn.Linear(5, 4), (2, 3, 5)),
    "1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=2, dilation=2), (3, 9)),
    "1d same": (lambda: nn.Conv1d(3, 4, 4, padding="same"), (3, 6)),
    "1d valid": (lambda: nn.Conv1d(3, 4, 2, padding="valid"), (3, 6)),
    "2d": (lambda: nn.Conv2d(2, 4, 3), (2, 5, 6)),
    "2d odd": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(1, 3), padding=(2, 1), dilation=(2, 1)), (2, 6, 7)),
    "2d larger steps than kernel": (lambda: nn.Conv2d(2, 4, 1, stride=3), (2, 7, 5)),
    "2d reflect": (lambda: nn.Conv2d(2, 4, 3, padding=(2, 1), padding_mode="reflect"), (2, 5, 5)),
    "2d replicate same": (lambda: nn.Conv2d(2, 4, 2, padding="same", padding_mode="replicate"), (2, 4, 5)),
    "2d circular": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), (2, 4, 5)),
    "2d groups": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (4, 5, 5)),
    "depthwise twice": (lambda: nn.Conv1d(3, 6, 2, groups=3, stride=2), (3, 6)),
    "3d": (lambda: nn.Conv3d(2, 4, 2, stride=(1, 2, 1), padding=(0, 1, 1), groups=2), (2, 3, 4, 3)),
}


def headed(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """``layer``, a ReLU in place and a head with three outputs."""
    body = nn.Sequential(layer, nn.ReLU(inplace=True), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(body(torch.zeros(1, *shape)).shape[1], 3))


def assert_factors(got: tuple[Factors, ...], model, inputs, targets, tolerance: float = 1e-12, loss=cross_entropy):
    """Every layer's moments are those of the loops."""
    parameters = PrunableParameters.from_model(model)
    assert len(got) == len(parameters.layers)
    for layer, own in zip(parameters.layers, got, strict=True):
        first, second = moments(model, layer, inputs, targets, loss)
        assert own.inputs.dtype == own.outputs.dtype == torch.float64
        assert own.inputs.shape == first.shape
        assert own.outputs.shape == second.shape
        assert norm_error(own.inputs, first) <= tolerance
        assert norm_error(own.outputs, second) <= tolerance
        assert own.num_samples == len(inputs)


def factors_of(model: nn.Module, inputs: Tensor, targets: Tensor, **options) -> tuple[Factors, ...]:
    return layer_factors(model, PrunableParameters.from_model(model), [(inputs, targets)], **options)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("count", [1, 4])
def test_every_kind_of_layer(name, count):
    """Linear layers over any positions, convolutions with any padding, steps and groups; what follows works in place."""
    build, shape = LAYERS[name]
    model = seeded(lambda: headed(build(), shape)).double()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (count,), generator=generator)
    assert_factors(factors_of(model, inputs, targets), model, inputs, targets)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7])
def test_whole_networks(kind, count):
    """Networks with BatchNorm, tied weights (whose uses add up) and convolutions of every sort."""
    model, inputs, targets = material(kind, count)
    assert_factors(factors_of(model, inputs, targets), model, inputs, targets)


def test_single_precision_networks():
    """A float32 network gives float64 moments of what it computes."""
    model, (inputs, targets) = network("conv"), batch("conv", 8)
    got = factors_of(model, inputs, targets)
    assert_factors(got, copy.deepcopy(model).double(), inputs.double(), targets, tolerance=1e-5)


def test_a_weight_that_is_used_twice_counts_twice():
    """The second use of a tied weight is in the moments: its first use alone gives others."""
    model, inputs, targets = material("tied", 5)
    tied = factors_of(model, inputs, targets)[0]
    apart = copy.deepcopy(model)
    apart.second.weight = nn.Parameter(apart.second.weight.detach().clone())
    first, second, _ = factors_of(apart, inputs, targets)
    assert norm_error(tied.inputs, first.inputs + second.inputs) <= 1e-12
    assert norm_error(tied.outputs, (first.outputs + second.outputs) / 2) <= 1e-12


def test_one_module_called_twice_counts_twice():
    """So does a module that the network calls twice."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x).tanh())

    model = seeded(Twice).double()
    inputs, targets = (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.arange(4),
    )
    assert_factors(factors_of(model, inputs, targets % 3), model, inputs, targets % 3)


def test_dead_units_have_no_gradients_and_give_no_inputs():
    """Units that are never active leave zeros in both moments."""
    model, inputs, targets = material("mlp", 6, dead=3)
    first, second, _ = factors_of(model, inputs, targets)
    assert not first.outputs[0, :3].any()
    assert not second.inputs[0, :, :3].any()
    assert_factors(factors_of(model, inputs, targets), model, inputs, targets)


def test_inputs_alone_need_no_targets():
    """Without gradients the inputs are the same, there is no Γ, and the targets are not read."""
    model, inputs, targets = material("odd", 6)
    both = factors_of(model, inputs, targets)
    alone = factors_of(model, inputs, torch.full_like(targets, 99), gradients=False)
    assert all(own.outputs is None for own in alone)
    assert all(norm_error(own.inputs, wanted.inputs) <= 1e-14 for own, wanted in zip(alone, both, strict=True))


@pytest.mark.parametrize("sizes", [(12,), (1,) * 12, (5, 5, 2), (7, 0, 5), (0, 12)])
@pytest.mark.parametrize("chunk", [None, 1, 5])
@pytest.mark.parametrize("small", [False, True])
def test_batches_and_chunks_do_not_matter(sizes, chunk, small, monkeypatch):
    """Any way of batching the same samples, and any bound on memory, gives the same moments."""
    model, inputs, targets = material("conv", 12)
    wanted = factors_of(model, inputs, targets)
    if small:
        monkeypatch.setattr(activations, "PASS_BYTES", 1)
        monkeypatch.setattr(activations, "PATCH_BYTES", 1)
    batches, done = zip(inputs.split(sizes), targets.split(sizes), strict=True), []
    got = layer_factors(model, PrunableParameters.from_model(model), batches, chunk=chunk, progress=done.append)
    for own, other in zip(got, wanted, strict=True):
        assert norm_error(own.inputs, other.inputs) <= 1e-13
        assert norm_error(own.outputs, other.outputs) <= 1e-13
    assert done == sorted(set(done))
    assert done[-1] == 12


def test_a_pass_holds_what_its_bound_allows(monkeypatch):
    """The bound on a pass's bytes limits how many samples go through the network together."""
    model, inputs, targets = material("mlp", 12)
    monkeypatch.setattr(activations, "PASS_BYTES", 8 * (10 + 5 + 3) * 4)
    done = []
    factors_of(model, inputs, targets, progress=done.append)
    assert done == [4, 8, 12]


@pytest.mark.parametrize("gradients", [True, False])
def test_the_model_stays_as_it_was(gradients):
    """Neither weights nor modes, gradients or hooks of the model change, and a caller's no_grad does not matter."""
    model, inputs, targets = material("conv", 5)
    wanted = factors_of(model, inputs, targets, gradients=gradients)
    model.train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        got = factors_of(model, inputs, targets, gradients=gradients)
    assert all(torch.equal(own.inputs, other.inputs) for own, other in zip(got, wanted, strict=True))
    if gradients:
        assert all(torch.equal(own.outputs, other.outputs) for own, other in zip(got, wanted, strict=True))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    """A mean over the batch in which a sample's weight depends on the others of its batch."""
    return cross_entropy(outputs, targets, weight=torch.tensor([1.0, 5.0, 0.2], dtype=outputs.dtype))


@pytest.mark.parametrize("loss", [weighted, lambda outputs, targets: -3.0 * cross_entropy(outputs, targets)])
def test_gradients_are_those_of_each_sample_alone(loss):
    """Each sample's own loss is differentiated, whatever the mean over a batch would weigh it with."""
    model, inputs, targets = material("odd", 9)
    assert_factors(factors_of(model, inputs, targets, loss=loss), model, inputs, targets, loss=loss)


def test_regression():
    """Targets need not be classes."""
    model, inputs, _ = material("mlp", 6)
    targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert_factors(factors_of(model, inputs, targets, loss=mse_loss), model, inputs, targets, loss=mse_loss)


@pytest.mark.parametrize("chunk", [None, 7])
def test_sampled_labels_are_those_of_the_gradients(chunk):
    """Sampled labels replace the targets by the labels that per-sample gradients draw from the same uniforms."""
    model, inputs, targets = material("mlp", 40)
    uniforms = label_uniforms(40, 3)
    drawn = sampled_labels(model(inputs).detach(), uniforms)
    got = factors_of(model, inputs, targets, labels=Labels.SAMPLED, uniforms=uniforms, chunk=chunk)
    assert not torch.equal(drawn, targets)
    assert_factors(got, model, inputs, drawn)


def test_moments_belong_to_the_weight_gradients():
    """At one position the weight gradient of a sample is g aᵀ, so that its square's mean is Σ g² a² of single samples."""
    model, inputs, targets = material("mlp", 5)
    parameters = PrunableParameters.from_model(model)
    rows = gradient_matrix(model, parameters, [(inputs, targets)], 5)
    for index in range(5):
        one = factors_of(model, inputs[index : index + 1], targets[index : index + 1])
        made = [own.outputs[0].diagonal()[:, None] * own.inputs[0].diagonal() for own in one]
        assert norm_error(torch.cat([m.reshape(-1) for m in made]), rows[index].square()) <= 1e-12


def test_weights_at_which_to_look():
    """Given weights take the place of the model's own."""
    model, inputs, targets = material("tied", 5)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.first.weight.mul_(1.5)
    flat = PrunableParameters.from_model(model).flatten(other.state_dict())
    assert_factors(factors_of(model, inputs, targets, weights=flat), other, inputs, targets)


def test_excluded_layers_are_passed_through():
    """Factors come for the chosen layers alone, the same as with all of them."""
    model, inputs, targets = material("mlp", 5)
    middle = PrunableParameters.from_model(model, exclude=("0", "4"))
    (got,) = layer_factors(model, middle, [(inputs, targets)])
    wanted = factors_of(model, inputs, targets)[1]
    assert norm_error(got.inputs, wanted.inputs) <= 1e-14
    assert norm_error(got.outputs, wanted.outputs) <= 1e-14


class Aside(nn.Module):
    """A network with one more layer, that is called (its result is dropped) or used some other way."""

    def __init__(self, use: str):
        super().__init__()
        self.body, self.spare, self.use = mlp(), nn.Linear(6, 6, bias=False), use
        if use == "embedding":
            self.table = nn.Embedding(6, 6)
            self.table.weight = self.spare.weight

    def forward(self, x):
        if self.use == "functional":
            x = nn.functional.linear(x, self.spare.weight)
        elif self.use in ("called", "embedding"):
            self.spare(x)
        return self.body(x)


def test_a_layer_the_loss_does_not_need():
    """A layer that is called, but on which the loss does not depend, has inputs and zero gradients."""
    model, (inputs, targets) = seeded(lambda: Aside("called")).eval(), batch("mlp", 5)
    spare = factors_of(model, inputs, targets)[-1]
    assert spare.inputs.any()
    assert not spare.outputs.any()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("not at all", r"the layer spare is never called .* \(exclude='spare'\)"),
        ("functional", r"the layer spare is never called .* \(exclude='spare'\)"),
        ("embedding", r"table \(Embedding\) uses the weight of spare in another way"),
    ],
)
def test_weights_without_inputs_of_their_own(use, message):
    """A weight whose inputs cannot be seen is refused by name instead of counted as zero; leaving it out works."""
    model, (inputs, targets) = seeded(lambda: Aside(use)).eval(), batch("mlp", 5)
    with pytest.raises(InputError, match=message):
        factors_of(model, inputs, targets)
    without = PrunableParameters.from_model(model, exclude="spare")
    assert len(layer_factors(model, without, [(inputs, targets)])) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": Labels.SAMPLED}, "expected one uniform number a sample"),
        ({"labels": Labels.SAMPLED, "uniforms": label_uniforms(3, 0)}, "expected 5 uniform numbers, got 3"),
        ({"loss": lambda outputs, _: outputs.sum(1)}, r"loss: expected one number, .* got shape \(1,\)"),
    ],
)
def test_bad_requests(options, message):
    """What does not add up is refused with both numbers."""
    with pytest.raises(InputError, match=message):
        factors_of(network("mlp"), *batch("mlp", 5), **options)


def test_outputs_that_are_not_one_row_a_sample():
    """A network that gives something else than a row of outputs a sample is refused."""
    model = nn.Sequential(*mlp(), nn.Flatten(0))
    with pytest.raises(InputError, match="expected a tensor of outputs with 5 rows, one a sample, got "):
        factors_of(model, *batch("mlp", 5))


def test_no_data():
    """Nothing to look at is an error."""
    model = network("mlp")
    inputs, targets = batch("mlp", 2)
    for batches in ([], [(inputs[:0], targets[:0])]):
        with pytest.raises(InputError, match="expected at least one sample, got none"):
            layer_factors(model, PrunableParameters.from_model(model), batches)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("input", "inputs of the layer 0 hold NaN or infinite values among the samples 4 to 7"),
        ("weight", "inputs of the layer 4 hold NaN or infinite values among the samples 0 to 3"),
        ("loss", "output gradients of the layer 0 hold NaN or infinite values among the samples 0 to 3"),
    ],
)
def test_not_finite(where, message):
    """NaN or infinite numbers raise a NumericalError that names the layer and the samples."""
    model, (inputs, targets) = copy.deepcopy(network("mlp")), batch("mlp", 8)
    if where != "loss":
        with torch.no_grad():
            (model[2].bias if where == "weight" else inputs[6])[0] = float("inf")
    with pytest.raises(NumericalError, match=message):
        factors_of(
            model,
            inputs,
            targets,
            chunk=4,
            loss=lambda o, t: cross_entropy(o, t) * (float("nan") if where == "loss" else 1.0),
        )
