"""``prune`` on any module: what comes out, and that the model stays as it was."""

import copy

import numpy as np
import pytest
import torch
from cases import CASES, batch, network, takes
from oracle import dense_inverse, independent_step, norm_error
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from woodfisher_core.errors import InputError, MemoryBudgetError, NumericalError
from woodfisher_core.evaluation import evaluate
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.methods import METHODS
from woodfisher_core.options import Scope, Solver, Update
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import prune

KINDS = ("mlp", "conv", "tied")


def run(kind: str, count: int = 30, **options):
    return prune(network(kind), [batch(kind, count)], **{"num_samples": count, "device": "cpu", **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("method", "update"), [(name, update) for name, method in METHODS.items() for update in method.updates], ids=str
)
def test_every_method_with_every_update(kind, method, update):
    """Any mask goes with any update: exact zeros where pruned, right shapes, survivors moved only by an update."""
    model = copy.deepcopy(network(kind)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked = {"method": method, "update": update, "sparsity": 0.6, "num_samples": 30, "damping": 2.0}
    if not takes(method, kind):
        with pytest.raises(InputError, match="no channel of TiedNet can be removed"):
            prune(model, [batch(kind, 30)], device="cpu", **asked)
        return
    result = prune(model, [batch(kind, 30)], device="cpu", **asked)
    state = result.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert set(state) == set(before)
    dense = result.parameters.flatten(before)
    for name, keep in result.masks().items():
        assert keep.shape == before[name].shape
        assert not state[name][~keep].any()
    kept = result.mask.keep
    assert torch.equal(result.weights[kept], dense[kept]) == (update is Update.NONE)
    # Whole channels take their biases along.
    others = set(before) - _prunable_names(result) - set(result.outcome.tensors)
    assert others or METHODS[method].removes_channels
    assert all(torch.equal(state[name], before[name]) for name in others)
    assert (result.predicted is None) == (not PruneOptions(method=method, update=update).uses_gradients)
    if METHODS[method].removes_channels:
        assert 0.6 <= result.sparsity < 0.75
    else:
        assert result.sparsity == pytest.approx(0.6, abs=0.02)


def _prunable_names(result) -> set[str]:
    return {name for layer in result.parameters.layers for name in (layer.name, *layer.aliases)}


def test_woodfisher_end_to_end_against_the_oracle():
    """Statistic, mask and update of the whole call equal their definitions on dense matrices."""
    case, damping = CASES[3], 1e-3
    rows, weights = case.rows(), case.weights().double()
    result = run("mlp", case.num_rows, damping=damping, block_size="network", sparsity=0.7)
    inverse = dense_inverse(rows, case.blocks, damping)
    saliency = 0.5 * weights.square() / inverse.diagonal()
    assert norm_error(result.saliency, saliency) <= 1e-6
    keep = result.mask.keep
    assert float(saliency[keep].min()) > float(saliency[~keep].max())
    wanted = torch.where(keep, weights + independent_step(inverse, weights, keep), 0.0)
    assert norm_error(result.weights.double(), wanted) <= 1e-6


def test_baselines_by_their_definitions():
    """Magnitude ranks |w|, diagonal Fisher ½w²F_jj."""
    model = network("conv")
    weights = run("conv", sparsity=0.0, method="magnitude").weights.double()
    rows = gradient_matrix(model, CASES[13].parameters, [batch("conv", 30)], 30).double()
    assert torch.equal(run("conv", method="magnitude").saliency, weights.abs())
    found = run("conv", method="diagonal-fisher").saliency
    assert norm_error(found, 0.5 * weights.square() * rows.square().mean(0)) <= 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_sparsity_zero_changes_nothing(kind):
    """Keeping everything returns the weights themselves, whatever the update."""
    for update in Update:
        result = run(kind, sparsity=0.0, update=update)
        assert torch.equal(result.weights, result.parameters.flatten(network(kind).state_dict()))
        assert result.mask.keep.all()


@pytest.mark.parametrize("method", ["random", "magnitude", "lamp"])
def test_what_looks_at_weights_alone_reads_no_data(method):
    """Where no data is needed the loader is not touched."""

    def loader():
        raise AssertionError("read")
        yield

    assert prune(network("mlp"), loader(), method=method, sparsity=0.5, device="cpu").mask.kept == 62


def test_data_loader_of_any_batch_size():
    """A real DataLoader works, and only its first samples are used, in its order."""
    inputs, targets = batch("mlp", 50)
    wanted = prune(network("mlp"), [(inputs[:20], targets[:20])], num_samples=20, device="cpu")
    for size in (7, 20, 50):
        loader = DataLoader(TensorDataset(inputs, targets), batch_size=size)
        got = prune(network("mlp"), loader, num_samples=20, device="cpu")
        assert torch.equal(got.mask.keep, wanted.mask.keep)
        assert norm_error(got.weights, wanted.weights) <= 1e-6


def test_tied_weights_stay_tied():
    """Both uses of a tied weight are pruned alike in the copy, which computes with them."""
    result = run("tied", sparsity=0.5)
    pruned = result.applied_to(network("tied"))
    assert torch.equal(pruned.first.weight, pruned.second.weight)
    data = [batch("tied", 30)]
    overridden = evaluate(network("tied"), data, result.parameters.unflatten(result.weights))
    assert evaluate(pruned, data).loss == pytest.approx(overridden.loss, rel=1e-6)


def test_excluded_layers_are_left_alone():
    """An excluded layer keeps its weights and counts for nothing."""
    result = run("conv", exclude=["conv*"], sparsity=0.5)
    assert result.parameters.names == ("fc.weight",)
    assert torch.equal(result.state_dict()["conv2.weight"], network("conv").state_dict()["conv2.weight"])


def test_layer_scope():
    """Every layer gets the same sparsity; the thresholds are one a layer."""
    result = run("mlp", scope=Scope.LAYER, sparsity=0.5)
    assert [int(keep.sum()) for keep in result.masks().values()] == [29, 24, 7]
    assert len(result.mask.thresholds) == 3


def test_options_reach_the_computation():
    """Every option of the Fisher changes the saliency; the solver does not."""
    base = run("mlp").saliency
    changes = (
        {"damping": 1e-2},
        {"block_size": 5},
        {"block_size": "network"},
        {"labels": "sampled"},
        {"num_samples": 15},
        {"num_samples": 15, "mini_batch": 2},
    )
    found = [base, *(run("mlp", **change).saliency for change in changes)]
    assert all(norm_error(a, b) > 1e-3 for i, a in enumerate(found) for b in found[:i])
    for solver in Solver:
        assert norm_error(run("mlp", solver=solver).saliency, base) <= 1e-6
    sampled = run("mlp", labels="sampled", seed=1).saliency
    assert norm_error(sampled, found[4]) > 1e-3


def test_float64_model():
    """A float64 model is pruned in float64."""
    model, (inputs, targets) = copy.deepcopy(network("mlp")).double(), batch("mlp", 30)
    result = prune(model, [(inputs.double(), targets)], num_samples=30, device="cpu")
    assert result.weights.dtype == torch.float64
    assert norm_error(result.weights, run("mlp").weights.double()) <= 1e-4


def test_update_scale_is_a_factor_on_the_step():
    """Half the scale is half the way."""
    full, half, none = (run("mlp", update_scale=s).weights for s in (1.0, 0.5, 0.0))
    assert torch.allclose(half, (full + none) / 2, atol=1e-6)
    assert not torch.allclose(full, none, atol=1e-3)


def test_times_and_progress_are_reported():
    """Seconds by phase, and the rows done on the way."""
    done = []
    result = run("mlp", progress=done.append)
    assert set(result.seconds) == {"plan", "gradients", "inverse", "score", "update", "prediction"}
    assert all(value >= 0 for value in result.seconds.values())
    assert done[-1] == 30


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_models(frozen):
    """Whether parameters ask for gradients makes no difference and stays as it was."""
    model = copy.deepcopy(network("mlp")).requires_grad_(not frozen)
    result = prune(model, [batch("mlp", 30)], num_samples=30, device="cpu")
    assert torch.equal(result.weights, run("mlp").weights)
    assert all(p.requires_grad is not frozen and p.grad is None for p in model.parameters())


def test_bad_requests():
    """Too little data, NaN weights, a small budget and unknown options are refused."""
    with pytest.raises(InputError, match=r"expected at least 31 samples .* got 30. Lower num_samples"):
        prune(network("mlp"), [batch("mlp", 30)], num_samples=31, device="cpu")
    broken = copy.deepcopy(network("mlp"))
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="prunable weights hold NaN or infinite values"):
        prune(broken, [batch("mlp", 30)], num_samples=30, device="cpu")
    with pytest.raises(MemoryBudgetError, match=r"budget of 1\.0 KiB is too small even for one block"):
        run("mlp", memory_budget=1000)
    with pytest.raises(TypeError, match="dampening"):
        PruneOptions(dampening=1.0)


def test_evaluation_is_checked():
    """Evaluating in training mode, or over nothing, is refused."""
    with pytest.raises(InputError, match="expected the model in eval mode"):
        evaluate(copy.deepcopy(network("mlp")).train(), [batch("mlp", 3)])
    with pytest.raises(InputError, match="expected at least one batch, got none"):
        evaluate(network("mlp"), [])


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ((torch.zeros(4, 3), torch.zeros(4), torch.zeros(4)), {}, r"expected batches \(inputs, targets\)"),
        (torch.zeros(4, 3), {}, r"expected batches \(inputs, targets\)"),
        ((torch.zeros(4, 3), 1), {}, r"expected batches \(inputs, targets\)"),
        ((torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)), {"speed": 3}, "unknown option speed"),
        (
            (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)),
            {"loss": lambda o, t: torch.nn.functional.cross_entropy(o, t, reduction="none")},
            "expected one number, the mean over the batch",
        ),
    ],
)
def test_unusable_loaders_losses_and_options(batch, options, message):
    """Each is refused in words, before or instead of a traceback from inside torch."""
    with pytest.raises(InputError, match=message):
        prune(torch.nn.Linear(3, 2), [batch], num_samples=4, **options)


def test_sampled_labels_need_class_scores():
    """Outputs that are no (samples, classes) table cannot be sampled from."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Unflatten(1, (1, 2)))
    with pytest.raises(InputError, match=r"expected outputs \(samples, classes\), got shape"):
        prune(model, [(torch.zeros(4, 3), torch.zeros(4))], num_samples=4, labels="sampled", loss=lambda o, t: o.mean())


def test_numpy_numbers_are_numbers():
    """A count from numpy is as good as Python's own."""
    data = [(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1]))]
    counted = prune(torch.nn.Linear(3, 2), data, num_samples=np.int64(4), sparsity=0.5)
    assert counted.mask.kept == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("update", [Update.INDEPENDENT, Update.JOINT], ids=str)
def test_relative_damping_is_a_multiple_of_the_mean_curvature(kind, update):
    """λ = r · mean_j (1/N) Σ_n G_nj², over all prunable weights: the same run as with that λ given itself."""
    options = {"sparsity": 0.6, "update": update, "block_size": 20}
    first = run(kind, **options)
    rows = gradient_matrix(network(kind), first.parameters, [batch(kind, 30)], 30).double()
    for ratio in (1e-2, 1.0, 30.0):
        relative = run(kind, damping=ratio, damping_scale="relative", **options)
        absolute = run(kind, damping=ratio * float(rows.square().mean()), **options)
        assert torch.equal(relative.mask.keep, absolute.mask.keep)
        assert norm_error(relative.saliency, absolute.saliency) <= 1e-9
        assert norm_error(relative.weights, absolute.weights) <= 1e-6
        assert norm_error(relative.saliency, run(kind, damping=ratio, **options).saliency) > 1e-3


@pytest.mark.parametrize("update", [Update.INDEPENDENT, Update.JOINT], ids=str)
def test_relative_damping_does_not_see_the_units_of_the_loss(update):
    """A loss times 8, and with it every gradient, changes neither mask nor weights; under absolute damping it does."""

    def scaled(factor: float, **options):
        loss = lambda outputs, targets: factor * cross_entropy(outputs, targets)  # noqa: E731 - shorter so
        return run("mlp", loss=loss, sparsity=0.6, update=update, block_size="network", damping=0.1, **options)

    one, eight = (scaled(factor, damping_scale="relative") for factor in (1.0, 8.0))
    assert torch.equal(one.mask.keep, eight.mask.keep)
    assert norm_error(one.weights, eight.weights) <= 1e-6
    assert norm_error(64 * one.saliency, eight.saliency) <= 1e-6
    one, eight = (scaled(factor) for factor in (1.0, 8.0))
    assert not torch.equal(one.mask.keep, eight.mask.keep)


@pytest.mark.parametrize(
    "options",
    [{}, {"method": "magnitude", "update": "joint"}, {"method": "magnitude", "update": "independent"}],
    ids=str,
)
def test_relative_damping_needs_some_curvature(options):
    """Where every gradient is zero there is nothing to take a multiple of; absolute damping still works."""
    data, flat = [batch("mlp", 5)], lambda outputs, targets: 0.0 * outputs.sum()
    common = {"num_samples": 5, "loss": flat, "device": "cpu", "sparsity": 0.5, **options}
    with pytest.raises(NumericalError, match=r"got 0 \(its gradients are all zero, .* Set the damping") as caught:
        prune(network("mlp"), data, damping_scale="relative", **common)
    assert "times the mean curvature" not in str(caught.value)
    assert prune(network("mlp"), data, **common).mask.kept > 0


@pytest.mark.parametrize("update", list(Update), ids=str)
@pytest.mark.parametrize("method", ["woodfisher", "magnitude"])
def test_an_error_about_a_relative_damping_names_it(method, update):
    """What is too small is said as λ and as the number that was given, once."""
    options = {"method": method, "update": update, "damping": 1e-20, "damping_scale": "relative"}
    if method == "magnitude" and update is Update.NONE:
        assert run("mlp", **options).mask.kept > 0
        return
    with pytest.raises(NumericalError, match="the relative damping 1e-20 times the mean curvature") as caught:
        run("mlp", **options)
    assert str(caught.value).count("relative damping") == 1


def test_damping_scale_is_checked():
    with pytest.raises(InputError, match="damping scale: expected one of absolute, relative, got 'huge'"):
        PruneOptions(damping_scale="huge")
