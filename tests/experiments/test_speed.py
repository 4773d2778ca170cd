"""Speed: what is timed is the same network, and what is said of it is counted, not guessed."""

import pandas as pd
import pytest
import torch

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace, latency, speed
from woodfisher_core.experiments.speed import cross_over, layer_latency, structured_config
from woodfisher_core.options import Update

CONFIG = PruneConfig(model="digits-mlp", num_samples=60, sparsity=0.6, update="joint", device="cpu", held_out=0)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """The times themselves do not matter here."""
    monkeypatch.setattr(latency, "FEWEST_ROUNDS", 2)
    monkeypatch.setattr(latency, "MOST_ROUNDS", 2)
    monkeypatch.setattr(speed, "LAYER_SPARSITIES", (0.5, 0.9))


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def test_every_way_computes_its_run(space):
    """Each network gives the accuracy that stands beside its time; zeros and CSR are the same function."""
    ways, left_out = speed._ways(space, space.resolve(CONFIG))
    test = space.problem(CONFIG).test
    assert set(ways) | set(left_out) == {"dense", "zeros", "csr", "structured", "as accurate", "2:4"}
    for way in ways.values():
        answers = way.network(test.inputs).argmax(1)
        assert 100 * float((answers == test.targets).double().mean()) == pytest.approx(way.accuracy)
    torch.testing.assert_close(
        ways["csr"].network(test.inputs), ways["zeros"].network(test.inputs), atol=1e-4, rtol=1e-4
    )
    assert ways["zeros"].accuracy == space.evaluation(CONFIG).accuracy
    assert ways["structured"].accuracy == space.evaluation(structured_config(CONFIG)).accuracy
    assert ways["csr"].sparse_layers == ("fc1", "fc2", "fc3")


def test_multiply_adds_are_those_of_the_weights_that_are_not_zero(space):
    """In a network of Linear layers each weight is used once an image."""
    table = speed.latency(space, CONFIG, 8).table
    kept = space.outcome(CONFIG).mask.kept
    assert table["multiply_adds"]["dense"] == space.problem(CONFIG).parameters.num_prunable == 2720
    assert table["multiply_adds"]["zeros"] == table["multiply_adds"]["csr"] == kept
    smaller = speed.smaller_network(space, structured_config(CONFIG))
    assert table["multiply_adds"]["structured"] == sum(m.weight.numel() for m in smaller.children())
    assert (table["seconds"] > 0).all()
    assert table["ratio"]["dense"] == 1.0
    assert list(table.columns[:4]) == ["label", "accuracy", "sparsity", "multiply_adds"]


def test_convolutions_count_each_position(space):
    """conv1 sees 8×8 positions, conv2 4×4, conv3 2×2, the head one; CSR says that only the head is sparse."""
    config = PruneConfig(model="digits-cnn", method="magnitude", sparsity=0.5, num_samples=20, held_out=0, device="cpu")
    found = speed.latency(space, config, 4)
    problem = space.problem(config)
    keep = problem.parameters.unflatten(space.outcome(config).mask.keep)
    places = {"conv1.weight": 64, "conv2.weight": 16, "conv3.weight": 4, "fc.weight": 1}
    assert found.table["multiply_adds"]["zeros"] == sum(int(keep[name].sum()) * places[name] for name in places)
    assert found.sparse_layers == ("fc",)


def test_times_are_kept_until_they_are_dropped(space):
    first = speed.latency(space, CONFIG, 8)
    assert speed.latency(space, CONFIG, 8) is first
    assert speed.latency(space, CONFIG, 9) is not first
    key = speed.latency_key(space, CONFIG, 8, 1)
    space.results.drop(lambda kept: kept == key)
    assert speed.latency(space, CONFIG, 8) is not first


def test_nothing_else_computes_meanwhile(space, monkeypatch):
    """The times are taken in the workspace's turn."""
    held = []
    real = speed.in_turns

    def watched(*arguments, **named):
        held.append(space.cache.computing._holder is not None)
        return real(*arguments, **named)

    monkeypatch.setattr(speed, "in_turns", watched)
    speed.latency(space, CONFIG, 10)
    layer_latency(space, (4, 6), 10, sparsities=(0.5,))
    assert held == [True, True]


def test_what_cannot_be_is_said(space):
    """Without a GPU no 2:4; without zeros no CSR."""
    found = speed.latency(space, CONFIG.replace(method="magnitude", update=None, sparsity=0.0), 2)
    assert "expected an NVIDIA GPU" in found.left_out["2:4"]
    assert "found none" in found.left_out["csr"]
    assert found.sparse_layers == ()


def test_the_structured_setting_differs_in_the_method_alone():
    pattern = PruneConfig(
        model="digits-mlp", pattern="2:4", update="independent", update_scale=0.5, damping=0.1, seed=4
    )
    other = structured_config(pattern)
    assert (other.method, other.sparsity, other.pattern, other.update) == ("structured", 0.5, None, Update.JOINT)
    assert (other.damping, other.seed, other.num_samples) == (0.1, 4, pattern.num_samples)
    assert structured_config(other) is other


def test_as_accurate_is_the_sparsest_that_loses_nothing(space):
    space.cache.drop(lambda key: key[0] == "structured")
    assert not speed.has_tried(space, CONFIG)
    found = speed.as_accurate(space, CONFIG)
    assert speed.has_tried(space, CONFIG)
    assert speed.has_tried(space, CONFIG.replace(sparsity=0.7))  # any sparsity chooses among the same
    assert speed.as_accurate(space, CONFIG).network is found.network
    wanted = space.evaluation(CONFIG).accuracy
    accuracies = {
        sparsity: space.evaluation(structured_config(CONFIG).replace(sparsity=sparsity)).accuracy
        for sparsity in speed.STRUCTURED_SPARSITIES
    }
    fine = [sparsity for sparsity, accuracy in accuracies.items() if accuracy >= wanted]
    assert found.config == space.resolve(structured_config(CONFIG)).replace(sparsity=max(fine))
    assert (found.accuracy, found.sparsity) == (accuracies[max(fine)], space.outcome(found.config).mask.sparsity)
    alone, inputs = speed.smaller_network(space, found.config), space.problem(CONFIG).test.inputs
    torch.testing.assert_close(found.network(inputs), alone(inputs), atol=1e-4, rtol=1e-4)


def test_no_structured_network_is_as_accurate(space, monkeypatch):
    monkeypatch.setattr(speed, "STRUCTURED_SPARSITIES", (0.9,))
    with pytest.raises(InputError, match=r"expected a sparsity that keeps 9.* found none among 0.9"):
        speed.as_accurate(space, CONFIG.replace(sparsity=0.1))


def test_one_layer_over_sparsities(space):
    table = layer_latency(space, (8, 16), 4, sparsities=(0.5, 0.9))
    assert table[["kernel", "sparsity"]].to_numpy().tolist() == [
        ["dense", 0.5],
        ["csr", 0.5],
        ["dense", 0.9],
        ["csr", 0.9],
    ]
    assert (table["seconds"] > 0).all()
    assert layer_latency(space, (8, 16), 4, sparsities=(0.5, 0.9)) is table


@pytest.mark.parametrize(
    ("ratios", "wanted"),
    [
        ([4.0, 2.0, 1.5], None),
        ([0.9, 0.5, 0.2], 0.5),
        ([2.0, 0.5, 0.2], 0.7),  # log 2 above, log 2 below: half way from 0.5 to 0.9
        ([0.5, 2.0, 0.5], 0.92),  # it counts where CSR stays faster
        ([2.0, 1.0, 0.5], 0.9),
    ],
)
def test_cross_over(ratios, wanted):
    table = pd.DataFrame({"kernel": "csr", "sparsity": [0.5, 0.9, 0.94], "ratio": ratios})
    dense = table.assign(kernel="dense", ratio=1.0)
    found = cross_over(pd.concat([dense, table]))
    assert found == (None if wanted is None else pytest.approx(wanted))
