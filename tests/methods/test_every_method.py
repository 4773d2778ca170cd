"""Every registered method with every update, scope and further option: zeros where it says, or a refusal in words."""

import itertools
from functools import cache

import pytest
import torch
from cases import batch, network, takes
from oracle import follows

from woodfisher_core.errors import InputError
from woodfisher_core.flops import positions
from woodfisher_core.masks import Pattern, erk_densities, kept_count
from woodfisher_core.methods import METHODS
from woodfisher_core.options import Budget, Scope, Update
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import PruneResult, prune

SPARSITY, N = 0.6, 16
DAMPING = 2.0  # above the most negative curvature of these untrained networks' Hessians
# The largest share of a network that goes with one channel, in weights and in multiply-adds.
CHANNEL, COSTLY_CHANNEL = 0.15, 0.35
# A pattern that some layers of the network take, and the layers that do not.
PATTERNS = {"mlp": ("1:2", ("4",)), "conv": ("1:3", ("conv1", "fc")), "tied": ("2:4", ())}
VARIANTS = {
    "plain": {},
    "pattern": None,
    "budget": {"budget": "flops"},
    "stages": {"stages": 2},
    "batchnorm": {"batchnorm_images": 24},
    "flops power": {"flops_power": 0.5},
}
each_kind = pytest.mark.parametrize("kind", PATTERNS)
each_method = pytest.mark.parametrize("method", METHODS)


def run(kind: str, **options) -> PruneResult:
    common = {"num_samples": N, "damping": DAMPING, "device": "cpu", "sparsity": SPARSITY}
    if options.get("pattern"):
        del common["sparsity"]
    return prune(network(kind), [batch(kind, 2 * N)], **{**common, **options})


@cache
def costs(kind: str) -> torch.Tensor:
    model = network(kind)
    return positions(model, PrunableParameters.from_model(model), batch(kind, 1)[0])


def wanted(kind: str, scope: Scope, result: PruneResult) -> int:
    """How many weights must stay."""
    sizes = [layer.numel for layer in result.parameters.layers]
    if scope is Scope.GLOBAL:
        return kept_count(sum(sizes), SPARSITY)
    shares = [SPARSITY] * len(sizes)
    if scope is Scope.ERK:
        shares = [1 - density for density in erk_densities(result.parameters, SPARSITY)]
    return sum(kept_count(size, share) for size, share in zip(sizes, shares, strict=True))


def refused(kind: str, method: str, update: Update, scope: Scope, variant: str) -> bool:
    """What the registry itself says cannot be, and what the network cannot lose."""
    own = METHODS[method]
    if not takes(method, kind):
        return True
    if variant == "pattern" and scope is not Scope.GLOBAL:
        return True
    if variant == "budget" and (scope is Scope.ERK or Budget.FLOPS not in own.budgets):
        return True
    return (
        update not in own.updates or scope not in own.scopes or (own.chooses and variant in ("pattern", "flops power"))
    )


def combinations(kind: str, method: str) -> list[tuple[Update, Scope]]:
    """All of them on the smallest network; on the others every update, and every scope with the method's own."""
    if kind == "tied":
        return list(itertools.product(Update, Scope))
    own = METHODS[method].default_update
    return [*((update, Scope.GLOBAL) for update in Update), (own, Scope.LAYER), (own, Scope.ERK)]


@each_kind
@each_method
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_combination(kind, method, variant):
    """Refused in words where the registry says so; else finite, exactly zero where pruned, and as sparse as was asked."""
    options, dense = VARIANTS[variant], network(kind).state_dict()
    if options is None:
        options = dict(zip(("pattern", "exclude"), PATTERNS[kind], strict=True))
    for update, scope in combinations(kind, method):
        asked = {"method": method, "update": update, "scope": scope, **options}
        if refused(kind, method, update, scope, variant):
            with pytest.raises(InputError, match=r"^\S.*\.$"):
                run(kind, **asked)
            continue
        result = run(kind, **asked)
        keep, state = result.mask.keep, result.state_dict()
        assert torch.isfinite(result.weights).all()
        assert not result.weights[~keep].any()
        assert all(not state[name][~part].any() for name, part in result.masks().items())
        if update is Update.NONE:
            assert torch.equal(result.weights[keep], result.parameters.flatten(dense)[keep])
        if variant == "pattern":
            assert all(
                follows(state[la.name] != 0, Pattern.parse(options["pattern"]), la) for la in result.parameters.layers
            )
            assert result.sparsity == pytest.approx(Pattern.parse(options["pattern"]).sparsity)
        elif variant == "budget":
            share = float(costs(kind)[keep].sum() / costs(kind).sum())
            slack = COSTLY_CHANNEL if METHODS[method].removes_channels else 0.15
            assert 1 - SPARSITY - slack <= share <= (1 - SPARSITY) * (1 + 1e-9)
        elif METHODS[method].removes_channels:
            assert SPARSITY <= result.sparsity <= SPARSITY + CHANNEL
        else:
            slack = len(keep) // 12 if METHODS[method].chooses else 0
            assert result.mask.kept == pytest.approx(wanted(kind, scope, result), abs=slack)
        changed = {name for name in dense if not torch.equal(dense[name], state[name])}
        prunable = {name for layer in result.parameters.layers for name in (layer.name, *layer.aliases)}
        statistics = {name for name in dense if "running" in name or "tracked" in name}
        estimated = statistics if variant == "batchnorm" else set()
        assert {name for name in estimated if "running" in name} <= changed
        assert changed - prunable <= set(result.outcome.tensors)
        assert set(result.outcome.tensors) == estimated or METHODS[method].chooses


@each_kind
@each_method
@pytest.mark.parametrize("scope", [Scope.GLOBAL, Scope.LAYER], ids=str)
def test_what_is_gone_stays_gone(kind, method, scope):
    """A mask given by hand: whatever else is asked, nothing outside it comes back, not even where less sparsity is wanted."""
    if not takes(method, kind):
        with pytest.raises(InputError, match="no channel of TiedNet can be removed"):
            run(kind, method=method)
        return
    if scope not in METHODS[method].scopes:
        with pytest.raises(InputError, match=f"scope: {method} goes with"):
            run(kind, method=method, scope=scope)
        return
    dim = len(costs(kind))
    keep = torch.rand(dim, generator=torch.Generator().manual_seed(8)) < 0.7
    for update, sparsity in itertools.product(METHODS[method].updates, (0.1, SPARSITY)):
        result = run(kind, method=method, update=update, scope=scope, sparsity=sparsity, keep=keep)
        assert not (result.mask.keep & ~keep).any()
        assert not result.weights[~keep].any()
        if sparsity < 0.2 and scope is Scope.GLOBAL:
            assert torch.equal(result.mask.keep, keep)


@each_kind
@each_method
def test_the_same_again(kind, method):
    """A second run gives the very same weights, and a statistic for each."""
    if not takes(method, kind):
        with pytest.raises(InputError, match="no channel of TiedNet can be removed"):
            run(kind, method=method)
        return
    first, again = run(kind, method=method), run(kind, method=method)
    assert torch.equal(first.weights, again.weights)
    assert torch.equal(first.mask.keep, again.mask.keep)
    saliency = first.saliency
    assert saliency is None or (saliency.shape == first.weights.shape and saliency.dtype is torch.float64)


@each_method
@pytest.mark.parametrize("update", list(Update), ids=str)
def test_what_a_method_says_it_needs_is_what_it_reads(method, update):
    """A loader that must not be opened is not, exactly where neither the statistic nor the update looks at data."""
    if update not in METHODS[method].updates:
        with pytest.raises(InputError, match=f"update: {method} goes with"):
            PruneOptions(method=method, update=update)
        return
    opened = []

    def loader():
        opened.append(True)
        yield batch("mlp", N)

    asked = {"method": method, "update": update, "sparsity": SPARSITY}
    result = prune(network("mlp"), loader(), num_samples=N, damping=DAMPING, device="cpu", **asked)
    assert bool(opened) == PruneOptions(method=method, update=update).uses_data
    assert bool(opened) == (method not in ("random", "magnitude", "lamp") or update is not Update.NONE)
    assert result.mask.kept > 0


@each_method
def test_texts(method):
    """Every method says what it is, in which unit, from whom and at what cost."""
    own = METHODS[method]
    assert own.name == method
    assert all((own.label, own.help, own.equation, own.reference, own.unit, own.meaning, own.cost))
    assert own.help.endswith(".")
    assert own.meaning.endswith(".")
    assert own.default_update in own.updates
    assert Budget.WEIGHTS in own.budgets
    for budget in Budget:
        if budget in own.budgets:
            assert PruneOptions(method=method, budget=budget).budget is budget
        else:
            with pytest.raises(InputError, match=f"budget: {method} goes with weights, got '{budget}'"):
                PruneOptions(method=method, budget=budget)
