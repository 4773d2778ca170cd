"""Pruning in stages: the same step several times, everything measured anew, nothing ever revived; and the mask given by hand."""

import copy
import itertools

import pytest
import torch
from cases import batch, network
from oracle import norm_error

from woodfisher_core.errors import InputError
from woodfisher_core.masks import Mask
from woodfisher_core.methods import METHODS, Outcome
from woodfisher_core.options import Update
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import prune
from woodfisher_core.staged import Start, run_stages

KINDS = ("mlp", "conv", "tied")
N = 20
# 0.8 (1 − (1 − i/3)³) and 0.8 i/3, worked out by hand.
LEVELS = {"polynomial": (0.8 * 19 / 27, 0.8 * 26 / 27, 0.8), "linear": (0.8 / 3, 1.6 / 3, 0.8)}
SAME = {"num_samples": N, "damping": 1e-2, "device": "cpu"}


def data(kind: str, count: int = 3 * N):
    inputs, targets = batch(kind, count)
    return list(zip(inputs.split(13), targets.split(13), strict=True))


def part(kind: str, stage: int, count: int = 3 * N):
    """The samples of one stage alone."""
    inputs, targets = batch(kind, count)
    own = [(stage * N + i) % count for i in range(N)]
    return [(inputs[own], targets[own])]


def by_hand(kind: str, levels, parts, **options):
    """One run of a single stage after the other, each on the network that the last one left."""
    model, keep, results = network(kind), None, []
    for level, some in zip(levels, parts, strict=True):
        results.append(prune(model, some, keep=keep, sparsity=level, **{**SAME, **options}))
        model, keep = results[-1].applied_to(model), results[-1].mask.keep
    return results


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"update": "joint", "block_size": "network"},
        {"method": "woodtaylor", "damping": 1.0},
        {"method": "magnitude", "update": "joint"},
        {"method": "taylor", "scope": "layer"},
        {"labels": "sampled", "scope": "erk", "damping_scale": "relative", "damping": 1.0},
        {"method": "diagonal-fisher", "budget": "flops", "stage_shape": "linear"},
    ],
    ids=str,
)
def test_stages_are_runs_one_after_the_other(kind, options):
    """Three stages equal three runs by hand, each with the mask so far and the loader's next samples."""
    staged = prune(network(kind), data(kind), stages=3, sparsity=0.8, **{**SAME, **options})
    levels = LEVELS[options.get("stage_shape", "polynomial")]
    alone = {name: value for name, value in options.items() if name != "stage_shape"}
    last = by_hand(kind, levels, [part(kind, stage) for stage in range(3)], **alone)[-1]
    assert torch.equal(staged.mask.keep, last.mask.keep)
    assert norm_error(staged.weights, last.weights) <= 1e-5
    assert norm_error(staged.saliency, last.saliency) <= 1e-4
    assert staged.predicted is None
    if options.get("method", "woodfisher") != "magnitude":
        once = prune(network(kind), data(kind), sparsity=0.8, **{**SAME, **options})
        assert not torch.equal(once.weights, staged.weights)


@pytest.mark.parametrize("fresh", [True, False])
def test_fresh_or_fixed_samples(fresh):
    """Fresh stages take the loader's next samples, fixed ones the first again."""
    staged = prune(network("mlp"), data("mlp"), stages=3, sparsity=0.8, fresh_samples=fresh, **SAME)
    last = by_hand("mlp", LEVELS["polynomial"], [part("mlp", stage if fresh else 0) for stage in range(3)])[-1]
    other = by_hand("mlp", LEVELS["polynomial"], [part("mlp", 0 if fresh else stage) for stage in range(3)])[-1]
    assert torch.equal(staged.mask.keep, last.mask.keep)
    assert norm_error(staged.weights, last.weights) <= 1e-6
    assert norm_error(staged.weights, other.weights) > 1e-3


def test_a_short_loader_begins_again():
    """Where the loader ends, the next stage goes on from its beginning."""
    staged = prune(network("mlp"), data("mlp", 30), stages=3, sparsity=0.8, **SAME)
    last = by_hand("mlp", LEVELS["polynomial"], [part("mlp", stage, 30) for stage in range(3)])[-1]
    assert torch.equal(staged.mask.keep, last.mask.keep)
    assert norm_error(staged.weights, last.weights) <= 1e-6


SCOPED = [(name, scope) for name, method in METHODS.items() for scope in method.scopes]


@pytest.mark.parametrize(("method", "scope"), SCOPED, ids=lambda value: str(value))
def test_masks_nest_and_reach_the_target(method, scope):
    """Each stage keeps a part of what the one before kept; the last has the count of a run of one stage; reruns agree."""
    options = {"method": method, "scope": scope, "damping": 2.0}  # above any negative curvature of these networks
    results = by_hand("conv", LEVELS["polynomial"], [part("conv", stage) for stage in range(3)], **options)
    assert not any(result.weights[~result.mask.keep].any() for result in results)
    keeps = [result.mask.keep for result in results]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(keeps))
    counts = [int(keep.sum()) for keep in keeps]
    assert counts[0] > counts[2]
    # A channel may reach the next level too: then there is nothing left to do at that stage.
    assert METHODS[method].removes_channels or counts[0] > counts[1] > counts[2]
    staged, again = (
        prune(network("conv"), data("conv"), stages=3, sparsity=0.8, **{**SAME, **options}) for _ in range(2)
    )
    assert torch.equal(staged.mask.keep, keeps[2])
    assert torch.equal(again.weights, staged.weights)
    once = prune(network("conv"), data("conv"), sparsity=0.8, **{**SAME, **options})
    assert staged.mask.kept == pytest.approx(once.mask.kept, abs=12 if METHODS[method].chooses else 0)


@pytest.mark.parametrize("method", ["random", "magnitude", "lamp"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_measures_nothing_gains_nothing_from_stages(method, scope):
    """Statistics of the weights alone rank the survivors as before: many stages give the mask of one, and read no data."""

    def loader():
        raise AssertionError("read")
        yield

    options = {"method": method, "scope": scope, "sparsity": 0.8, "device": "cpu"}
    once, staged = (prune(network("conv"), loader(), stages=stages, **options) for stages in (1, 5))
    assert torch.equal(once.mask.keep, staged.mask.keep)
    assert torch.equal(once.weights, staged.weights)


@pytest.mark.parametrize("stages", [1, 2, 7])
@pytest.mark.parametrize("shape", list(LEVELS))
def test_the_loop_itself(stages, shape):
    """Each context gets what the last stage left: weights, mask and all other tensors that any stage changed; progress is told
    after each; settled once, last."""
    asked, told = [], []
    keeps = [torch.arange(8) >= stage for stage in range(stages)]

    class Step:
        def __init__(self, start, stage):
            self.start, self.stage = start, stage

        def run(self, levels, settle=True):
            asked.append((self.stage, self.start, levels, settle))
            changed = {"last": torch.tensor(self.stage), f"of {self.stage}": torch.tensor(self.stage)}
            yield Outcome(Mask(keeps[self.stage], (0.0,), 0), self.start.weights + 1, None, changed)

    options = PruneOptions(sparsity=0.8, stages=stages, stage_shape=shape)
    outcome = run_stages(options, Start(torch.zeros(1)), Step, lambda *news: told.append(news))
    assert [stage for stage, *_ in asked] == list(range(stages))
    starts = [start for _, start, *_ in asked]
    assert [float(start.weights) for start in starts] == list(range(stages))
    assert starts[0].keep is None
    assert all(start.keep is keep for start, keep in zip(starts[1:], keeps, strict=False))
    for stage, tensors in enumerate([*(start.tensors for start in starts), outcome.tensors]):
        found = {name: int(value) for name, value in tensors.items()}
        assert found == {f"of {n}": n for n in range(stage)} | ({"last": stage - 1} if stage else {})
    assert [settle for *_, settle in asked] == [False] * (stages - 1) + [True]
    levels = [level for *_, (level,), _ in asked]
    assert levels == sorted(set(levels))
    assert levels[-1] == 0.8
    assert told == [(stage + 1, stages) for stage in range(stages)]
    assert float(outcome.weights) == stages
    assert outcome.mask.keep is keeps[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("update", list(Update), ids=str)
@pytest.mark.parametrize("method", ["magnitude", "woodfisher", "diagonal-fisher"])
def test_a_mask_given_by_hand(kind, update, method):
    """What it leaves out starts at zero and stays there, also where its old weight was the largest; the model is not touched."""
    model = copy.deepcopy(network(kind))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dim = prune(model, data(kind), method="magnitude", device="cpu").parameters.num_prunable
    keep = torch.rand(dim, generator=torch.Generator().manual_seed(8)) < 0.7
    result = prune(model, data(kind), keep=keep, method=method, update=update, sparsity=0.6, **SAME)
    assert not (result.mask.keep & ~keep).any()
    assert not result.weights[~keep].any()
    assert result.mask.kept == prune(model, data(kind), method=method, update=update, sparsity=0.6, **SAME).mask.kept
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    less = prune(model, data(kind), keep=keep, method=method, update=update, sparsity=0.1, **SAME)
    assert torch.equal(less.mask.keep, keep)
    everything = torch.ones(dim, dtype=torch.bool)
    plain = prune(model, data(kind), method=method, update=update, sparsity=0.6, **SAME)
    assert torch.equal(
        prune(model, data(kind), keep=everything, method=method, update=update, sparsity=0.6, **SAME).weights,
        plain.weights,
    )


@pytest.mark.parametrize(
    ("keep", "got"),
    [
        (torch.ones(124, dtype=torch.bool), r"torch.bool of shape \(124,\)"),
        (torch.ones(1, 125, dtype=torch.bool), r"torch.bool of shape \(1, 125\)"),
        (torch.ones(125), r"torch.float32 of shape \(125,\)"),
        (torch.ones(125, dtype=torch.uint8), r"torch.uint8 of shape \(125,\)"),
    ],
)
def test_masks_that_do_not_fit(keep, got):
    with pytest.raises(InputError, match=rf"keep: expected a bool mask of shape \(125,\), got {got}"):
        prune(network("mlp"), data("mlp"), keep=keep, **SAME)


def test_stages_without_enough_samples():
    """Each stage needs its num_samples, found at once."""
    with pytest.raises(InputError, match=r"expected at least 20 samples .* got 19"):
        prune(network("mlp"), data("mlp", 19), stages=2, **SAME)
