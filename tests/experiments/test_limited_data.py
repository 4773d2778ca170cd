"""Limited data: where only k training images exist, nothing that a run learns from is any other."""

import numpy as np
import pytest
import torch
from cases import batch, network

from woodfisher_core.data import Split
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.methods import METHODS
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import prune

TOTAL, K = 1297, 40
CNN = PruneConfig(
    model="digits-cnn", num_samples=20, mini_batch=2, images=K, held_out=30, sparsity=0.5, damping=10.0, device="cpu"
)
LARGE = {name for name, method in METHODS.items() if method.largest}  # not for a network of this size


@pytest.fixture
def read(monkeypatch) -> list[list[int]]:
    """Training-set indices that were asked for, one list a call of the real function."""
    calls, real = [], Split.samples

    def recording(split, indices=None):
        if len(split) == TOTAL and indices is not None:
            calls.append([int(i) for i in indices])
        return real(split, indices)

    monkeypatch.setattr(Split, "samples", recording)
    return calls


def existing(seed: int = 0) -> set[int]:
    return set(np.random.RandomState(seed).permutation(TOTAL)[:K].tolist())


@pytest.mark.parametrize("method", [name for name in METHODS if name not in LARGE])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"batchnorm_images": K, "budget": "flops", "flops_power": 0.3},
        {"stages": 3, "batchnorm_images": K, "seed": 5},
        {"stages": 2, "fresh_samples": False},
    ],
    ids=str,
)
def test_only_the_first_of_the_seeds_order_are_read(read, method, change):
    """For gradients, activations, Hessian products, BatchNorm, layers' shapes and every stage."""
    if METHODS[method].chooses:
        change = {name: value for name, value in change.items() if name not in ("budget", "flops_power")}
    config = CNN.replace(method=method, update=None, probes=2, **change)
    outcome = Workspace().outcome(config)
    seen = {index for call in read for index in call}
    assert seen <= existing(config.seed)
    looks = config.uses_data or config.batchnorm_images
    assert bool(seen) == bool(looks)
    if config.batchnorm_images:
        assert seen == existing(config.seed)
    assert not outcome.weights[~outcome.mask.keep].any()


def test_without_a_limit_more_are_read(read):
    """The recording sees what is read beyond the first k where all images exist."""
    Workspace().outcome(CNN.replace(images=None, stages=3))
    assert not {index for call in read for index in call} <= existing()


def test_stages_draw_anew_from_the_same_images(read):
    """Each stage has its own N·m of the k, in an order of its own."""
    Workspace().outcome(CNN.replace(num_samples=10, stages=4))
    drawn = [call for call in read if len(call) == 20]
    assert len({tuple(sorted(call)) for call in drawn}) == 4
    assert all(len(set(call)) == 20 for call in drawn)
    assert {index for call in drawn for index in call} > set(drawn[0])


def test_held_out_images_are_others(read):
    """A report measures on images that no stage saw and BatchNorm did not see, though they need not be among the k."""
    config = CNN.replace(stages=2, batchnorm_images=K, held_out=200)
    space = Workspace()
    space.outcome(config)
    learnt = {index for call in read for index in call}
    _, held_out = space.samples(config)
    assert len(held_out) == 200
    assert not learnt & set(held_out.tolist())
    read.clear()
    assert space.loss_change(config).num_held_out == 200
    assert {index for call in read for index in call} <= learnt | set(held_out.tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 41}, "images: only 40 exist, and num_samples × mini_batch asks for 41. Lower it"),
        ({"num_samples": 21, "mini_batch": 2}, "num_samples × mini_batch asks for 42"),
        ({"num_samples": 9, "batchnorm_images": 41}, "images: only 40 exist, and batchnorm_images asks for 41"),
        ({"method": "magnitude", "batchnorm_images": 41}, "batchnorm_images asks for 41"),
        ({"method": "magnitude", "update": "joint", "num_samples": 41}, "asks for 41"),
        (
            {"num_samples": 9, "sample_indices": tuple(range(9))},
            "the sample indices already say which images there are",
        ),
    ],
)
def test_asking_for_more_than_exist(options, message):
    """Refused when the options are made, before anything runs."""
    with pytest.raises(InputError, match=message):
        PruneConfig(model="digits-cnn", images=K, **options)
    if "sample_indices" not in options:
        with pytest.raises(InputError, match=message):
            PruneOptions(images=K, **options)


def test_what_reads_nothing_may_ask_for_anything():
    """The number of samples of a method that takes none is no request."""
    assert PruneOptions(method="magnitude", images=K, num_samples=1000).images == K


@pytest.mark.parametrize("asked", ["num_samples", "batchnorm_images"])
def test_more_than_the_training_set_has(asked):
    """Refused before gradients are made, by name."""
    message = {"num_samples": "got 1,298 .--num-samples times", "batchnorm_images": "BatchNorm images: .* got 1,298"}
    with pytest.raises(InputError, match=message[asked]):
        Workspace().resolve(CNN.replace(**{"images": None, "mini_batch": 1, asked: 1298}))


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("method", list(METHODS))
def test_the_python_interface_uses_the_loaders_first(method, stages):
    """Samples beyond the first k may hold NaN: nothing of them is ever used, and the outcome is that of a loader without them."""
    inputs, targets = batch("conv", 60)
    broken = inputs.clone()
    broken[K:] = torch.nan
    options = {
        "method": method,
        "stages": stages,
        "images": K,
        "batchnorm_images": K,
        "num_samples": 30,
        "damping": 2.0,
    }
    options["sparsity"] = 0.5
    found, wanted = (
        prune(network("conv"), list(zip(data.split(7), labels.split(7), strict=True)), device="cpu", **options)
        for data, labels in ((broken, targets), (inputs[:K], targets[:K]))
    )
    assert torch.isfinite(found.weights).all()
    assert torch.equal(found.weights, wanted.weights)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in wanted.state_dict().items())


def test_some_test_images():
    """The same ones whatever the seed, a part of all; they change the key, and nothing but the evaluation."""
    space, config = Workspace(), PruneConfig(model="digits-mlp", method="magnitude", sparsity=0.9, test_images=60)
    some, all_of_them = space.problem(config), space.problem(config.replace(test_images=None))
    assert len(some.test) == 60 == len(set(some.test_indices.tolist()))
    assert torch.equal(some.test.inputs, all_of_them.test.inputs[torch.from_numpy(some.test_indices)])
    assert space.problem(config.replace(seed=5)).test_indices.tolist() == some.test_indices.tolist()
    fewer = space.problem(config.replace(test_images=20)).test_indices
    assert set(fewer.tolist()) < set(some.test_indices.tolist())
    whole, part = space.evaluation(config.replace(test_images=None)), space.evaluation(config)
    assert torch.equal(part.predictions, whole.predictions[torch.from_numpy(some.test_indices)])
    assert part.standard_error > whole.standard_error
    with pytest.raises(InputError, match=r"test images: expected at most 500 .* got 501"):
        space.problem(config.replace(test_images=501))
