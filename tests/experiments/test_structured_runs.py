"""Structured pruning through the workspace: the numbers of the network that is really left, as far as channels reach."""

import math

import pytest
import torch
from oracle import norm_error
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import evaluate
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.comparison import Series, curves
from woodfisher_core.experiments.report import smaller_network, to_json
from woodfisher_core.methods import METHODS
from woodfisher_core.pruning import prune
from woodfisher_core.sampling import choose_samples, sample_order
from woodfisher_core.structured import prune_channels

CONFIG = PruneConfig(
    model="digits-cnn", method="structured", num_samples=100, held_out=50, sparsity=0.4, damping=1e-2, device="cpu"
)
TOTAL = 1297
# conv1 8 × 9, conv2 16 × 72, conv3 32 × 144, fc 10 × 32; one channel each leaves 9 + 9 + 9 + 10.
DIM, LEFT = 6152, 37
REACH = 1 - LEFT / DIM


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def by_prune_channels(space: Workspace, config: PruneConfig = CONFIG, **options):
    """The same channels, samples and settings through the one-call interface."""
    problem = space.problem(config)
    samples = problem.train_samples(sample_order(TOTAL, config.seed)[: config.num_samples * config.mini_batch])
    given = {
        name: getattr(config, name) for name in ("sparsity", "damping", "num_samples", "mini_batch", "labels", "seed")
    }
    return prune_channels(
        problem.model,
        samples.batches(32),
        device="cpu",
        update=config.update,
        exclude=config.exclude,
        **given,
        **options,
    )


def state_of(space: Workspace, config: PruneConfig) -> dict[str, torch.Tensor]:
    problem, outcome = space.problem(config), space.outcome(config)
    return problem.parameters.placed_in(problem.model, outcome.weights, outcome.tensors).state_dict()


def close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-5) -> bool:
    """Zeros at the same places, and the rest to rounding."""
    return set(found) == set(wanted) and all(
        torch.equal(found[name] == 0, wanted[name] == 0)
        and norm_error(found[name].double(), wanted[name].double()) <= tolerance
        for name in wanted
    )


def multiply_adds(model: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 8, 8))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({}, {}),
        ({"update": "none"}, {}),
        ({"budget": "flops"}, {"budget": "flops", "per": "flop"}),
        ({"labels": "sampled", "seed": 3}, {}),
        ({"mini_batch": 2, "seed": 1}, {}),
        ({"exclude": ("conv3",), "sparsity": 0.1}, {}),
    ],
    ids=str,
)
def test_a_run_is_what_prune_channels_gives(space, change, options):
    """Weights, mask, biases, γ and β; the evaluation is that of the network with the channels cut out."""
    config = CONFIG.replace(**change)
    wanted = by_prune_channels(space, config, **options)
    problem, outcome = space.problem(config), space.outcome(config)
    assert close(state_of(space, config), wanted.masked(problem.model).state_dict())
    masks = wanted.channels.parameters.unflatten(wanted.keep)
    for name, keep in problem.parameters.unflatten(outcome.mask.keep).items():
        assert torch.equal(keep, masks[name])
    cut = wanted.removed(problem.model)
    found, there = space.evaluation(config), evaluate(cut, problem.test.batches(500))
    assert found.accuracy == there.accuracy
    assert found.loss == pytest.approx(there.loss, rel=1e-5)
    smaller = smaller_network(space.report(config))
    assert close(smaller.state_dict(), cut.state_dict())
    if "exclude" in change:
        assert torch.equal(smaller.conv3.weight, problem.model.conv3.weight)
        assert smaller.conv1.out_channels < 8


def test_a_budget_of_multiply_adds(space):
    """As torch counts those of the smaller network; by weights, other channels go."""
    config = CONFIG.replace(budget="flops", sparsity=0.5)
    dense, smaller = space.problem(config).model, smaller_network(space.report(config))
    assert multiply_adds(smaller) <= 0.5 * multiply_adds(dense)
    assert not torch.equal(space.outcome(config).mask.keep, space.outcome(CONFIG.replace(sparsity=0.5)).mask.keep)


def test_the_counts_of_a_report(space):
    """The smaller network's own, for methods that remove channels alone."""
    report = space.report(CONFIG)
    smaller = smaller_network(report)
    found = to_json(report, 0, smaller)["smaller"]
    assert found == {
        "parameters": sum(p.numel() for p in smaller.parameters()),
        "parameters_before": sum(p.numel() for p in report.problem.model.parameters()),
        "multiply_adds": multiply_adds(smaller),
        "multiply_adds_before": multiply_adds(report.problem.model),
    }
    assert found["parameters"] < found["parameters_before"]
    other = space.report(CONFIG.replace(method="magnitude", update=None))
    assert smaller_network(other) is None
    assert to_json(other, 0, None)["smaller"] is None


@pytest.mark.parametrize("budget", ["weights", "flops"])
def test_as_far_as_channels_reach(space, budget):
    """Curves stop there, with gaps beyond; a single run says how far that is."""
    config = CONFIG.replace(budget=budget)
    # Multiply-adds by hand: 64 positions after conv1, 16 after conv2, 4 after conv3.
    most = REACH if budget == "weights" else 1 - (9 * 64 + 9 * 16 + 9 * 4 + 10) / (72 * 64 + 1152 * 16 + 4608 * 4 + 320)
    levels = (0.3, most - 1e-4, most + 1e-4, 0.999)
    points = space.curve(config, levels)
    assert [point.sparsity for point in points] == list(levels[:2])
    assert points[1].kept == LEFT
    for point in points:
        single = config.replace(sparsity=point.sparsity)
        assert point.accuracy == space.evaluation(single).accuracy
        assert point.kept == space.outcome(single).mask.kept
    with pytest.raises(InputError, match=f"reaches at most {most:.4f} of the"):
        space.outcome(config.replace(sparsity=0.999))
    table = curves(space, [Series("channels", config)], levels, (0,)).set_index("sparsity")
    assert table.loc[levels[0], "accuracy"] == points[0].accuracy
    assert table.loc[levels[1], "accuracy"] == points[1].accuracy
    assert table.loc[list(levels[2:]), ["accuracy", "loss"]].isna().all(axis=None)


def test_two_stages_are_two_runs(space):
    """Each on samples of its own, the second from the whole state that the first left, biases and all; nothing comes back."""
    config = CONFIG.replace(stages=2, sparsity=0.6)
    problem = space.problem(config)
    model, keep, results = problem.model, None, []
    for stage, level in enumerate((0.6 * (1 - 0.5**3), 0.6)):
        samples = problem.train_samples(choose_samples(TOTAL, 100, config.seed, stage=stage))
        asked = {"method": "structured", "num_samples": 100, "damping": 1e-2, "device": "cpu"}
        results.append(prune(model, samples.batches(32), keep=keep, sparsity=level, **asked))
        model, keep = results[-1].applied_to(model), results[-1].mask.keep
    first, last = results
    outcome = space.outcome(config)
    assert torch.equal(outcome.mask.keep, last.mask.keep)
    assert close(state_of(space, config), last.state_dict())
    assert not (outcome.mask.keep & ~first.mask.keep).any()
    assert last.mask.kept < first.mask.kept
    for name in ("bn1.bias", "bn2.weight", "fc.bias"):
        moved, before = outcome.tensors[name], problem.model.get_parameter(name)
        assert not moved[first.outcome.tensors[name] == 0].any()
        assert norm_error(moved, before) > 1e-3
    smaller = smaller_network(space.report(config))
    assert sum(p.numel() for p in smaller.parameters() if p.ndim > 1) == outcome.mask.kept
    assert evaluate(smaller, problem.test.batches(500)).accuracy == space.evaluation(config).accuracy


def test_reestimated_batchnorm_statistics_survive_the_cut(space):
    """Statistics of the pruned network, in the smaller one too."""
    config = CONFIG.replace(batchnorm_images=200)
    smaller = smaller_network(space.report(config))
    plain = smaller_network(space.report(CONFIG))
    assert not torch.equal(smaller.bn2.running_mean, plain.bn2.running_mean)
    assert evaluate(smaller, space.problem(config).test.batches(500)).accuracy == space.evaluation(config).accuracy


def test_nothing_kept_is_taken_for_another_setting(space):
    """λ, update, budget and sparsity by turns over one cache: as from a fresh one each time."""
    changes = ({"damping": 1.0}, {}, {"damping": 1.0, "update": "none"}, {"damping_scale": "relative", "damping": 1.0})
    for change in changes:
        config = CONFIG.replace(**change)
        found, fresh = space.outcome(config), Workspace().outcome(config)
        assert torch.equal(found.weights, fresh.weights)
        assert torch.equal(found.saliency, fresh.saliency)
    assert space.damping(CONFIG.replace(damping_scale="relative", damping=2.0)) == pytest.approx(
        2.0 * float(space.context(CONFIG).curvature().rows.double().square().mean()), rel=1e-5
    )


def test_a_run_reports_what_it_needs(space):
    """Measured losses, no prediction from another model's rows; the statistic is finite."""
    report = space.report(CONFIG)
    assert report.loss_change.predicted_held_out is None
    assert math.isfinite(report.loss_change.measured_held_out)
    assert torch.isfinite(report.outcome.saliency).all()
    assert report.damping == CONFIG.damping
    assert METHODS["structured"].reach(space.context(CONFIG)) == pytest.approx(REACH)
