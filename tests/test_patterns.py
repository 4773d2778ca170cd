"""N:M sparsity: exactly N of every M consecutive inputs stay, the best of each group, or the layer is refused by name."""

import itertools
import math

import pytest
import torch
from cases import batch, network
from oracle import follows
from torch import Tensor, nn

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.masks import Pattern, select
from woodfisher_core.options import Scope
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import prune

MODEL = nn.Sequential(
    nn.Linear(8, 3),
    nn.Conv1d(4, 2, 3),
    nn.Conv2d(8, 3, (3, 2)),
    nn.Conv2d(16, 4, 3, groups=4),  # 4 inputs an output
    nn.Conv3d(4, 2, 2),
)
PARAMETERS = PrunableParameters.from_model(MODEL)
DIM = PARAMETERS.num_prunable
PATTERNS = ("2:4", "1:4", "3:4", "1:2")


def saliency(seed: int = 0, ties: bool = False) -> Tensor:
    values = torch.rand(DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.mul(4).round() if ties else values


def groups(parameters: PrunableParameters, size: int):
    """Flat positions of every group of ``size`` consecutive inputs, from the definition: one output, one kernel position."""
    for layer in parameters.layers:
        flat = torch.arange(layer.offset, layer.end).view(layer.shape)
        outputs, inputs, *kernel = layer.shape
        for output, place in itertools.product(range(outputs), itertools.product(*map(range, kernel))):
            for start in range(0, inputs, size):
                yield [int(flat[(output, channel, *place)]) for channel in range(start, start + size)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("text", PATTERNS)
def test_best_of_every_group_by_brute_force(text, ties):
    """Of all choices of N in a group the one of largest sum stays; of equal ones the one that comes first."""
    pattern, values = Pattern.parse(text), saliency(ties=ties)
    (mask,) = select(values, [pattern.sparsity], Scope.GLOBAL, PARAMETERS, pattern=pattern)
    seen = 0
    for group in groups(PARAMETERS, pattern.of):
        choices = itertools.combinations(group, pattern.stays)
        best = max(choices, key=lambda some: (sum(float(values[i]) for i in some), tuple(-i for i in some)))
        assert [i for i in group if mask.keep[i]] == list(best)
        seen += len(group)
    assert seen == DIM
    assert mask.sparsity == pytest.approx(pattern.sparsity, abs=1e-12)
    assert (mask.thresholds, mask.ties) == ((-math.inf,), 0)


def test_what_is_gone_takes_no_place():
    """A group with fewer than N weights left keeps those; others choose among what is left."""
    pattern, values = Pattern(2, 4), saliency()
    allowed = torch.rand(DIM, generator=torch.Generator().manual_seed(5)) < 0.5
    (mask,) = select(values, [0.5], Scope.GLOBAL, PARAMETERS, pattern=pattern, allowed=allowed)
    counts = set()
    for group in groups(PARAMETERS, 4):
        left = [i for i in group if allowed[i]]
        kept = sorted(sorted(left, key=lambda i: -float(values[i]))[:2])
        assert [i for i in group if mask.keep[i]] == kept
        counts.add(len(left))
    assert counts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("text", PATTERNS)
def test_follows(text):
    """True of the masks it made, flat or shaped, and of sparser ones; false where a single group has one weight too many."""
    pattern = Pattern.parse(text)
    (mask,) = select(saliency(), [pattern.sparsity], Scope.GLOBAL, PARAMETERS, pattern=pattern)
    for layer in PARAMETERS.layers:
        keep = mask.keep[layer.slice]
        assert follows(keep, pattern, layer)
        assert follows(keep.view(layer.shape), pattern, layer)
        assert follows(torch.zeros_like(keep), pattern, layer)
        more = keep.clone()
        more[int((~keep).nonzero()[-1])] = True
        assert not follows(more, pattern, layer)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("mlp", "2:4", r"must divide by 4; those of 0 \(6\), 2 \(10\), 4 \(5\) do not. Exclude these layers"),
        ("conv", "2:4", r"those of conv1 \(1\), conv2 \(3\) do not"),
        ("conv", "1:3", r"those of conv1 \(1\), fc \(4\) do not"),
    ],
)
def test_layers_that_do_not_divide_are_named(kind, text, message):
    """Before any gradient is made, with what to do."""

    def loader():
        raise AssertionError("read")
        yield

    with pytest.raises(InputError, match=message):
        prune(network(kind), loader(), pattern=text, device="cpu")
    parameters = PrunableParameters.from_model(network(kind))
    with pytest.raises(InputError, match=message):
        select(torch.ones(parameters.num_prunable), [0.5], Scope.GLOBAL, parameters, pattern=Pattern.parse(text))


def test_nan_is_never_ranked():
    values = saliency()
    values[7] = math.nan
    with pytest.raises(NumericalError, match="1 values are NaN"):
        select(values, [0.5], Scope.GLOBAL, PARAMETERS, pattern=Pattern(2, 4))


@pytest.mark.parametrize("update", ["none", "independent", "joint"])
@pytest.mark.parametrize(
    ("kind", "text", "exclude"), [("tied", "2:4", ()), ("mlp", "1:2", ("4",)), ("conv", "1:3", ("conv1", "fc"))]
)
def test_whole_runs(kind, text, exclude, update):
    """The pruned weights follow the pattern exactly, whatever the survivors do, and the mask is that of the saliency."""
    pattern = Pattern.parse(text)
    result = prune(
        network(kind), [batch(kind, 30)], num_samples=30, pattern=text, exclude=exclude, update=update, device="cpu"
    )
    assert result.sparsity == pytest.approx(pattern.sparsity)
    written = result.state_dict()
    for layer in result.parameters.layers:
        assert follows(written[layer.name] != 0, pattern, layer)
    for group in groups(result.parameters, pattern.of):
        stays = [float(result.saliency[i]) for i in group if result.mask.keep[i]]
        goes = [float(result.saliency[i]) for i in group if not result.mask.keep[i]]
        assert len(stays) == pattern.stays
        assert min(stays) >= max(goes)


@pytest.mark.parametrize(
    "text", ["", "2", "2:", ":4", "4:4", "4:2", "0:4", "-2:4", "2:4:8", "2/4", "2.5:4", "02:4", "a:b"]
)
def test_malformed_patterns(text):
    """Anything but N:M with 1 ≤ N < M."""
    with pytest.raises(InputError, match="pattern: expected N:M with N below M"):
        PruneOptions(pattern=text)


def test_the_pattern_brings_its_sparsity():
    """It is written one way, sets the sparsity, and takes that value and no other beside it."""
    options = PruneOptions(pattern=" 1:4 ")
    assert (options.pattern, options.sparsity, options.mask_pattern) == ("1:4", 0.75, Pattern(1, 4))
    assert PruneOptions(pattern="1:3", sparsity=2 / 3).mask_pattern == Pattern(1, 3)
    assert PruneOptions().mask_pattern is None
    for sparsity in (0.0, 0.5, 0.76):
        with pytest.raises(InputError, match=r"the pattern 1:4 removes 0.75 of the weights, got .* Leave it out"):
            PruneOptions(pattern="1:4", sparsity=sparsity)
