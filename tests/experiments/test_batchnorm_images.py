"""BatchNorm statistics re-estimated after pruning: what is evaluated and exported with them, and how much they give back."""

import copy

import pytest
import torch
from cases import batch, network
from safetensors.torch import load_file
from torch.nn.functional import conv2d

from woodfisher_core.evaluation import evaluate
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.export import save_pruned
from woodfisher_core.pruning import prune

CNN = PruneConfig(
    model="digits-cnn",
    method="magnitude",
    sparsity=0.8,
    num_samples=60,
    held_out=50,
    batchnorm_images=200,
    device="cpu",
)


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def first_layer(inputs: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and unbiased variance a channel of what the first convolution of ``ConvNet`` gives, the input of its BatchNorm."""
    values = conv2d(inputs, weight, padding=1).transpose(0, 1).flatten(1)
    return values.mean(1), values.var(1)


@pytest.mark.parametrize("options", [{}, {"update": "joint"}, {"method": "random", "seed": 2}, {"stages": 3}], ids=str)
def test_statistics_are_those_of_the_pruned_weights_on_these_images(options):
    """From exactly so many of the loader's samples, those of the last stage, at the weights that came out."""
    model, (inputs, targets) = copy.deepcopy(network("conv")).train(), batch("conv", 60)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked = {"num_samples": 20, "damping": 0.1, "sparsity": 0.7, "device": "cpu", **options}
    result = prune(model, [(inputs, targets)], batchnorm_images=20, **asked)
    last = slice(40, 60) if "stages" in options else slice(0, 20)
    state = result.state_dict()
    mean, variance = first_layer(inputs[last], state["conv1.weight"])
    assert torch.allclose(state["bn.running_mean"], mean, atol=1e-6)
    assert torch.allclose(state["bn.running_var"], variance, rtol=1e-5)
    assert set(result.outcome.tensors) == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    plain = prune(model, [(inputs, targets)], **asked)
    assert torch.equal(result.weights, plain.weights)  # estimated once, at the end: no stage sees them
    assert torch.equal(plain.state_dict()["bn.running_mean"], before["bn.running_mean"])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert torch.equal(result.applied_to(model).bn.running_var, state["bn.running_var"])


def test_networks_without_batchnorm():
    """Nothing to estimate, nothing changed."""
    runs = [
        prune(network("mlp"), [batch("mlp", 30)], num_samples=30, batchnorm_images=n, device="cpu") for n in (0, 20)
    ]
    assert torch.equal(runs[0].weights, runs[1].weights)
    assert runs[1].outcome.tensors == {}


def test_accuracy_comes_back(space):
    """At 80 % magnitude the old statistics leave 27 % of accuracy, new ones 93 % (digits, 500 test images)."""
    old, new = (space.evaluation(CNN.replace(batchnorm_images=count)) for count in (0, 200))
    assert old.accuracy < 50
    assert new.accuracy > 85
    assert new.loss < 0.5 * old.loss


@pytest.mark.parametrize("change", [{}, {"method": "woodfisher", "update": "joint", "damping": 10.0}], ids=str)
def test_whatever_is_measured_is_measured_with_them(space, change):
    """Evaluation, measured loss changes, curve and export all use the new statistics; the shared network keeps its own."""
    config = CNN.replace(**change)
    problem, outcome = space.problem(config), space.outcome(config)
    before = {name: tensor.clone() for name, tensor in problem.model.state_dict().items()}
    pruned = problem.parameters.placed_in(problem.model, outcome.weights)
    pruned.load_state_dict(dict(outcome.tensors), strict=False)
    found = evaluate(pruned, problem.test.batches(100))
    assert space.evaluation(config).accuracy == found.accuracy
    assert space.evaluation(config).loss == pytest.approx(found.loss, rel=1e-5)
    (point,) = space.curve(config, (0.8,))
    assert (point.accuracy, point.kept) == (found.accuracy, outcome.mask.kept)
    used, held_out = space.samples(config)
    measured = space.loss_change(config)
    for indices, change_in_loss in ((used, measured.measured_fisher_samples), (held_out, measured.measured_held_out)):
        samples = problem.train_samples(indices)
        rise = evaluate(pruned, samples.batches(100)).loss - evaluate(problem.model, samples.batches(100)).loss
        assert change_in_loss == pytest.approx(rise, abs=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in problem.model.state_dict().items())


def test_the_same_by_either_interface(space):
    """The Python interface on the workspace's samples gives its statistics, and the exported file carries them."""
    problem, outcome = space.problem(CNN), space.outcome(CNN)
    used = [int(i) for i in torch.tensor(space.samples(CNN.replace(num_samples=200))[0].copy())]
    samples = problem.train_samples(used)
    options = {"method": "magnitude", "sparsity": 0.8, "batchnorm_images": 200, "device": "cpu"}
    result = prune(problem.model, [(samples.inputs, samples.targets)], **options)
    assert set(result.outcome.tensors) == set(outcome.tensors)
    state = result.state_dict()
    for name, tensor in outcome.tensors.items():
        assert torch.allclose(state[name], tensor, rtol=1e-6)
        assert "num" in name or not torch.equal(tensor, problem.model.state_dict()[name])


def test_the_exported_network_computes_with_them(space, tmp_path):
    """The file's network reads the reported accuracy by itself."""
    report = space.report(CNN)
    problem, outcome = report.problem, report.outcome
    dense = problem.model.state_dict()
    save_pruned(
        tmp_path, dense, problem.parameters, outcome.weights, outcome.mask.keep, {"config": {}}, outcome.tensors
    )
    tensors = load_file(str(tmp_path / "pruned.safetensors"))
    model = copy.deepcopy(problem.model)
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.endswith(".mask")})
    assert evaluate(model, problem.test.batches(100)).accuracy == report.pruned.accuracy > 85


@pytest.mark.parametrize("stages", [1, 2])
def test_results_do_not_depend_on_history(stages):
    """Runs that differ in nothing but which images BatchNorm sees never share a result, whatever was asked before."""
    base = CNN.replace(stages=stages, batchnorm_images=60)
    changes = (
        {"sample_indices": tuple(range(60))},
        {"sample_indices": tuple(range(600, 660))},
        {"stages": 3},
        {"stages": 3, "fresh_samples": False},
        {"seed": 1},
        {"batchnorm_images": 61},
    )
    busy = Workspace()
    busy.outcome(base)
    for change in changes:
        config = base.replace(**change)
        found, fresh = busy.outcome(config).tensors, Workspace().outcome(config).tensors
        assert set(found) == set(fresh)
        assert all(torch.equal(found[name], tensor) for name, tensor in fresh.items())
