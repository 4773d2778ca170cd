"""Gradual pruning on the digits: levels reached, masks nested, pruned weights at zero, every step what ``prune`` gives."""

import copy
import itertools
import math
from functools import cache

import pytest
import torch
from cases import seeded
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core.checkpoints import load_into, load_state
from woodfisher_core.data import get_dataset
from woodfisher_core.data.base import Samples
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.evaluation import Evaluation, evaluate
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.gradual import GradualResult, Score, prune_gradually
from woodfisher_core.masks import kept_count
from woodfisher_core.methods import METHODS
from woodfisher_core.models import get_model
from woodfisher_core.options import Scope, Update
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.pruning import prune
from woodfisher_core.sampling import sample_order
from woodfisher_core.schedules import GradualSchedule

NETWORKS = ("digits-mlp", "digits-cnn")
SCHEDULE = GradualSchedule(final=0.9, initial=0.5, end_epoch=3)
FEW = {"num_samples": 40, "damping": 1e-2}


@cache
def trained(name: str) -> nn.Module:
    """The shipped network in eval mode. Shared: never change it."""
    spec = get_model(name)
    model = spec.build()
    load_into(model, load_state(spec.weights_file), name)
    return model.eval()


@cache
def small() -> nn.Module:
    """64-12-10, untrained: small enough for the exact Hessian. Shared: never change it."""
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))).eval()


@cache
def digits() -> tuple[Samples, Samples]:
    """300 training and 200 test samples."""
    data = get_dataset("digits").load(None)
    return data.train.samples(range(300)), data.test.samples(range(200))


class Watcher:
    """Evaluates, and remembers the flat weights and the whole state each time it is asked to."""

    def __init__(self, model: nn.Module):
        self.parameters = PrunableParameters.from_model(model)
        self.weights: list[Tensor] = []
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, network: nn.Module) -> Evaluation:
        assert not network.training
        self.states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        self.weights.append(self.parameters.flatten(network.state_dict()))
        return evaluate(network, digits()[1].batches(50))


def run(model: str | nn.Module = "digits-mlp", train: Samples | None = None, **changes) -> GradualResult:
    settings = {
        "schedule": SCHEDULE,
        "epochs": 4,
        "evaluate": digits()[1],
        "tuning": FineTuning(learning_rate=0.02),
        "options": FEW,
        "device": "cpu",
    }
    network = trained(model) if isinstance(model, str) else model
    return prune_gradually(network, train or digits()[0], **settings | changes)


def equal(first: GradualResult, second: GradualResult) -> bool:
    """Bit for bit: weights, statistics, mask and records."""
    one, other = first.state_dict(), second.state_dict()
    same = all(torch.equal(tensor, other[name]) for name, tensor in one.items()) and set(one) == set(other)
    return same and torch.equal(first.keep, second.keep) and first.records == second.records


@pytest.mark.parametrize("update", list(Update), ids=str)
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_with_every_update(method, update):
    """Levels reached exactly, by whole channels at least, masks nested, pruned weights exactly zero at the end."""
    options = FEW | {"method": method, "update": update, "damping": 10.0}  # what every Hessian bears
    if update not in METHODS[method].updates:
        with pytest.raises(InputError, match=f"update: {method} goes with "):
            run(options=options)
        return
    watcher = Watcher(small())
    result = run(small(), options=options, evaluate=watcher, epochs=3)
    total = len(result.keep)
    assert [record.level for record in result.records] == list(SCHEDULE.levels.values())
    kept = [kept_count(total, level) for level in SCHEDULE.levels.values()]
    if METHODS[method].removes_channels:  # twelve hidden units of 64 + 10 weights
        kept = [total - 74 * math.ceil(12 * level) for level in SCHEDULE.levels.values()]
    assert [record.sparsity for record in result.records] == [1 - count / total for count in kept]
    there = [weights != 0 for weights in watcher.weights]  # dense, then pruned and trained by turns
    assert len(there) == 1 + 2 * 3
    assert all((after <= before).all() for before, after in itertools.pairwise(there))
    assert [int(some.sum()) for some in there[1::2]] == pytest.approx(kept, abs=3)  # a survivor may be zero by itself
    assert result.sparsity == 1 - int(result.keep.sum()) / total == result.records[-1].sparsity
    assert not result.parameters.flatten(result.state_dict())[~result.keep].any()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scope", [Scope.GLOBAL, Scope.LAYER], ids=str)
def test_both_networks_and_scopes(name, scope):
    """The official count over the network or in each layer; accuracy comes back in training."""
    result = run(name, options=FEW | {"scope": scope}, schedule=GradualSchedule(final=0.6, end_epoch=2), epochs=4)
    if scope is Scope.LAYER:
        counts = [int(keep.sum()) for keep in result.masks().values()]
        assert counts == [kept_count(layer.numel, 0.6) for layer in result.parameters.layers]
    else:
        assert int(result.keep.sum()) == kept_count(len(result.keep), 0.6)
    pruned = result.records[1].pruned
    assert result.last.after.loss < pruned.loss
    assert result.last.after.accuracy > result.dense.accuracy - 10.0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_weights_are_zero_after_every_step(name, optimizer):
    """Seen by a hook at the start of every training step: zeros only ever grow, from the first step after pruning on."""
    model, parameters = copy.deepcopy(trained(name)), PrunableParameters.from_model(trained(name))
    seen: list[Tensor] = []

    def look(network: nn.Module, _) -> None:
        if network.training:
            seen.append(parameters.flatten(network.state_dict()) != 0)

    model.register_forward_pre_hook(look)
    tuning = FineTuning(optimizer=optimizer, learning_rate=0.01, weight_decay=1e-3, batch_size=60)
    result = run(model, tuning=tuning, options={"method": "magnitude"})
    assert len(seen) == 4 * 5
    for step, there in enumerate(seen):
        level = SCHEDULE.levels[min(3, step // 5 + 1)]
        assert int(there.sum()) <= kept_count(len(there), level)
    assert all((after <= before).all() for before, after in itertools.pairwise(seen))
    assert (seen[-1] <= result.keep).all()


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("update", ["independent", "joint"])
def test_every_step_is_one_shot_pruning(fresh, update):
    """Each step equals ``prune`` on the weights before it, with its mask, its level, and its own or the same samples."""
    train, model = digits()[0], trained("digits-cnn")
    watcher = Watcher(model)
    options = FEW | {"update": update, "fresh_samples": fresh, "labels": "sampled"}
    run("digits-cnn", options=options, evaluate=watcher, seed=7, epochs=3)
    keep = None
    for step, level in enumerate(SCHEDULE.levels.values()):
        before, pruned = watcher.states[2 * step], watcher.states[2 * step + 1]
        network = copy.deepcopy(model)
        network.load_state_dict(before)
        seed = 7 + step if fresh else 7
        some = torch.from_numpy(sample_order(300, seed)[:40].copy())
        batches = [(train.inputs[some], train.targets[some])]
        wanted = prune(
            network, batches, sparsity=level, keep=keep, seed=seed, device="cpu", **FEW, update=update, labels="sampled"
        )
        assert all(torch.equal(pruned[name], tensor) for name, tensor in wanted.state_dict().items())
        keep = wanted.mask.keep


def test_batchnorm_counts_training_batches_only():
    """Its statistics move in training, 5 batches an epoch, and neither in pruning nor in evaluation."""
    watcher = Watcher(trained("digits-cnn"))
    result = run("digits-cnn", evaluate=watcher, tuning=FineTuning(batch_size=60), epochs=4)
    start = trained("digits-cnn").bn1.num_batches_tracked
    assert int(result.state_dict()["bn1.num_batches_tracked"] - start) == 4 * 5
    for before, pruned in ((0, 1), (2, 3), (4, 5)):
        assert torch.equal(watcher.states[before]["bn2.running_var"], watcher.states[pruned]["bn2.running_var"])
    assert not torch.equal(watcher.states[1]["bn2.running_var"], watcher.states[2]["bn2.running_var"])


def test_records():
    """Scores before, straight after pruning and after training; rates of the schedule; progress gets each record."""
    watcher, told = Watcher(trained("digits-mlp")), []
    schedule = GradualSchedule(final=0.9, initial=0.3, start_epoch=2, end_epoch=4, frequency=2)
    tuning = FineTuning(learning_rate=0.02, rate_shape="step", step_epochs=2, step_factor=0.5)
    result = run(schedule=schedule, epochs=5, tuning=tuning, evaluate=watcher, progress=told.append)
    assert told == list(result.records)
    assert [record.epoch for record in result.records] == [1, 2, 3, 4, 5]
    assert [record.level for record in result.records] == [0.0, 0.3, 0.3, 0.9, 0.9]
    assert [record.sparsity > 0 for record in result.records] == [False, True, True, True, True]
    assert [record.pruned is not None for record in result.records] == [False, True, False, True, False]
    assert [record.learning_rate for record in result.records] == [0.02, 0.02, 0.01, 0.01, 0.005]
    scores = [evaluated(state) for state in watcher.states]  # dense, 1, pruned, 2, 3, pruned, 4, 5
    assert result.dense == scores[0] == evaluated(trained("digits-mlp").state_dict())
    assert [record.after for record in result.records] == [scores[i] for i in (1, 3, 4, 6, 7)]
    assert (result.records[1].before, result.records[1].pruned) == (scores[1], scores[2])
    assert (result.records[3].before, result.records[3].pruned) == (scores[4], scores[5])
    assert result.last == result.records[4]
    assert result.best == max(result.records[3:], key=lambda record: record.after.accuracy)
    assert all(0.0 < record.training_loss < 3.0 for record in result.records)
    assert evaluated(result.state_dict()) == result.last.after
    network = result.applied_to(trained("digits-mlp"))
    assert evaluate(network, digits()[1].batches(50)).accuracy == result.last.after.accuracy


def evaluated(state: dict[str, Tensor]) -> Score:
    found = evaluate(trained("digits-mlp"), digits()[1].batches(50), state)
    return Score(found.accuracy, found.loss)


def test_best_is_at_the_final_sparsity():
    """An epoch before the last pruning step is never the best, however accurate."""
    result = run(schedule=GradualSchedule(final=0.98, end_epoch=3), options={"method": "magnitude"}, epochs=3)
    assert result.best == result.records[2]
    assert result.records[0].after.accuracy > result.best.after.accuracy + 20.0


def test_samples_or_a_function():
    """Both ways of evaluating give the same numbers."""
    first, second = run(), run(evaluate=lambda network: evaluate(network, [(digits()[1].inputs, digits()[1].targets)]))
    assert equal(first, second)


def test_one_step_and_fine_tuning():
    """A schedule of one epoch is one-shot pruning followed by training."""
    result = run(schedule=GradualSchedule(final=0.8, end_epoch=1), epochs=2, options={"method": "magnitude"})
    wanted = prune(trained("digits-mlp"), [], method="magnitude", sparsity=0.8, device="cpu")
    assert torch.equal(result.keep, wanted.mask.keep)
    assert result.records[0].before == result.dense


def test_excluded_layers_train_but_stay_dense():
    """They count for nothing in the sparsity."""
    result = run("digits-cnn", exclude=(name for name in ["conv1", "fc"]), options={"method": "magnitude"})
    assert result.parameters.names == ("conv2.weight", "conv3.weight")
    first = result.state_dict()["conv1.weight"]
    assert first.all()
    assert not torch.equal(first, trained("digits-cnn").conv1.weight)


def test_only_the_images_there_are():
    """With 100 images, only those can change anything."""
    options = FEW | {"images": 100, "num_samples": 40}
    train = digits()[0]
    kept = torch.from_numpy(sample_order(300, 0)[:100].copy())
    others = torch.ones(300, dtype=torch.bool)
    others[kept] = False
    spoilt = Samples(train.inputs.masked_fill(others[:, None, None, None], math.nan), train.targets)
    assert run(train=spoilt, options=options).last.after.accuracy > 20.0
    with pytest.raises(NumericalError):
        run(train=spoilt)


def test_model_and_global_stream_are_untouched():
    """The model keeps its weights and mode; PyTorch's own random stream goes on as if nothing had been."""
    model = copy.deepcopy(trained("digits-cnn")).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    run(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_seed_decides():
    """The same seed gives the same bits, with dropout and augmentation too, whatever the global stream; another one others."""
    model = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 10))
    )

    def result(seed: int, stream: int) -> GradualResult:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream)
            return run(model, tuning=FineTuning(augment=True, optimizer="adam", learning_rate=1e-3), seed=seed)

    assert equal(result(0, 1), result(0, 2))
    assert not equal(result(0, 1), result(3, 1))


def test_another_loss():
    """It is what gradients are of and what is trained."""

    def smoothed(outputs, targets):
        return cross_entropy(outputs, targets, label_smoothing=0.3)

    plain, smooth = run(), run(loss=smoothed)
    assert smooth.dense.loss > plain.dense.loss + 0.5
    assert not torch.equal(plain.keep, smooth.keep)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, r"epochs: expected at least 3, where the schedule ends, got 2\. Raise the epochs"),
        ({"epochs": 3.5}, "epochs: expected a whole number of at least 1, got 3.5"),
        ({"options": {"sparsity": 0.9}}, "options: sparsity does not belong here; set it in the schedule"),
        ({"options": {"seed": 1}}, "options: seed does not belong here; give it beside the options"),
        ({"options": {"lambda": 1}}, "unknown option lambda; expected among "),
        ({"options": {"method": "none"}}, "method: expected one of "),
        ({"options": {"pattern": "2:4"}}, "pattern 2:4: it is reached in one step, got a schedule of 3"),
        ({"options": {"num_samples": 301}}, r"number of samples: expected at most 300 \(the training set\), got 301"),
        ({"options": {"images": 400}}, "images: only 400 exist, and num_samples × mini_batch asks for 1,000"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"exclude": "conv9"}, "exclude: no prunable layer matches 'conv9'"),
        ({"device": "tpu"}, "device: expected auto, cpu, cuda or mps"),
    ],
)
def test_errors_before_anything_runs(changes, message):
    """Each names the knob, and nothing was evaluated."""

    def never(network):
        raise AssertionError("evaluated")

    with pytest.raises(InputError, match=message):
        run(**{"evaluate": never} | changes)


def test_models_and_data_that_cannot_train():
    """A frozen model, and a single training sample."""
    frozen = copy.deepcopy(trained("digits-mlp")).requires_grad_(False)
    with pytest.raises(InputError, match="model: all its parameters are frozen"):
        run(frozen)
    one = Samples(digits()[0].inputs[:1], digits()[0].targets[:1])
    with pytest.raises(InputError, match="training samples: expected at least 2, got 1"):
        run(train=one, options={"method": "magnitude"})
    flat = Samples(digits()[0].inputs.flatten(1), digits()[0].targets)
    with pytest.raises(InputError, match=r"augment: only images .* can be shifted, got inputs of shape \(64,\)"):
        run(train=flat, tuning=FineTuning(augment=True))


def test_divergence():
    """A learning rate far too high ends the run with what to turn."""
    with pytest.raises(NumericalError, match="Use a lower learning rate"):
        run(tuning=FineTuning(learning_rate=1e30))
