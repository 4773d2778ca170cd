"""What pruning buys on this machine: forward time of one setting's network in every way its zeros can be computed with."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import curve_key, result_key, source_key
from woodfisher_core.experiments.latency import clock_for, in_turns, summary, threads
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.flops import positions
from woodfisher_core.methods import Outcome, get_method
from woodfisher_core.options import Budget, Scope
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sparse import with_csr, with_semi_structured

LABELS = {
    "dense": "not pruned",
    "zeros": "zeros, dense kernel",
    "csr": "zeros left out, CSR",
    "structured": "structured, as sparse",
    "as accurate": "structured, as accurate",
    "half": "not pruned, half precision",
    "2:4": "2:4, half precision",
}
# Clock time all rounds together may take; networks for which the fewest rounds take longer take longer.
NETWORK_SECONDS, LAYER_SECONDS = 0.4, 0.05
# Where the structured network that is as accurate is looked for.
STRUCTURED_SPARSITIES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
LAYER_SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Latency:
    """Measured forward times.

    ``table`` has a row a way of computing, indexed by its name: ``label``; ``accuracy`` (percent); ``sparsity``;
    ``multiply_adds`` of an image in Linear and Conv layers, zeros left out, as an ideal kernel would; and the columns of
    :func:`latency.summary` against ``dense``. ``left_out`` says of every other way why it is not there, ``sparse_layers`` which
    layers of the CSR network have that format. ``batch`` images a call, on ``threads`` threads of ``machine``.
    """

    table: pd.DataFrame
    left_out: dict[str, str]
    sparse_layers: tuple[str, ...]
    batch: int
    threads: int
    machine: dict[str, object]


@dataclass(frozen=True)
class _Way:
    network: nn.Module
    accuracy: float
    sparsity: float
    multiply_adds: int
    sparse_layers: tuple[str, ...] = ()


def structured_config(config: PruneConfig) -> PruneConfig:
    """``config`` itself where its method takes whole channels, otherwise the same setting with the one that does."""
    if get_method(config.method).removes_channels:
        return config
    return config.replace(
        method="structured", pattern=None, scope=Scope.GLOBAL, update=None, update_scale=1.0, flops_power=0.0
    )


@dataclass(frozen=True)
class Cut:
    """A network without its pruned channels, not to be changed; its setting, ``accuracy`` (percent, test) and sparsity."""

    config: PruneConfig
    network: nn.Module
    accuracy: float
    sparsity: float


def as_accurate(space: Workspace, config: PruneConfig) -> Cut:
    """The sparsest of ``STRUCTURED_SPARSITIES``, of whole channels, that is on the test set no less accurate than ``config``.

    Raises:
        InputError: None is.
    """
    wanted, other = space.evaluation(config).accuracy, space.resolve(structured_config(config))
    tried = _tried(space, other)
    fine = [one for one in tried if one[1] >= wanted]
    if not fine:
        raise InputError(
            f"structured: expected a sparsity that keeps {wanted:.1f} % accuracy, found none among "
            f"{', '.join(f'{sparsity:g}' for sparsity, _, _ in tried)}. Take a larger damping, or the joint update."
        )
    sparsity, accuracy, outcome = max(fine, key=lambda one: one[0])
    make = lambda: _shrunk(space, config, outcome)  # noqa: E731
    network = space.cache.get(("as accurate", sparsity, *_tried_key(other)), make, _nbytes)
    return Cut(other.replace(sparsity=sparsity), network, accuracy, outcome.mask.sparsity)


def has_tried(space: Workspace, config: PruneConfig) -> bool:
    """Whether the runs that :func:`as_accurate` chooses from are kept."""
    return space.cache.peek(_tried_key(space.resolve(structured_config(config)))) is not None


def _tried_key(other: PruneConfig) -> tuple:
    return ("structured", *curve_key(other, STRUCTURED_SPARSITIES))


def _tried(space: Workspace, other: PruneConfig) -> tuple[tuple[float, float, Outcome], ...]:
    """(sparsity, accuracy on the test set, outcome) of all ``STRUCTURED_SPARSITIES`` that can be reached."""

    def make() -> tuple[tuple[float, float, Outcome], ...]:
        problem, reached = space.problem(other), space.reached(other, STRUCTURED_SPARSITIES)
        outcomes = zip(reached, space.outcomes(other, reached), strict=True)
        return tuple((s, problem.evaluate(o.weights, problem.test, o.tensors).accuracy, o) for s, o in outcomes)

    return space.cache.get(_tried_key(other), make, lambda found: sum(outcome.nbytes for _, _, outcome in found))


def pruned_network(space: Workspace, config: PruneConfig) -> nn.Module:
    """A copy of the network with the run's zeros and moved weights in place."""
    outcome = space.outcome(config)
    return space.problem(config).placed(outcome.weights, outcome.tensors)


def smaller_network(space: Workspace, config: PruneConfig) -> nn.Module:
    """What is left of :func:`pruned_network` without the channels that nothing reads; kept, and not to be changed."""
    config = space.resolve(config)
    make = lambda: _shrunk(space, config, space.outcome(config))  # noqa: E731
    return space.cache.get(("smaller network", *result_key(config)), make, _nbytes)


def _shrunk(space: Workspace, config: PruneConfig, outcome: Outcome) -> nn.Module:
    problem = space.problem(config)
    channels = space.cache.get(("channels", *source_key(config)), problem.channels, lambda found: found.nbytes)
    return problem.shrunk(outcome.weights, outcome.tensors, channels)


def _nbytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def latency(space: Workspace, config: PruneConfig, batch: int, count: int | None = 1) -> Latency:
    """Forward times at ``batch`` images a call on ``count`` threads (None: as many as there are); measured once, then kept.

    Nothing else computes in this process meanwhile.
    """
    key = latency_key(space, config, batch, count)
    return _kept(space, key, lambda: _measured(space, space.resolve(config), batch, count))


def latency_key(space: Workspace, config: PruneConfig, batch: int, count: int | None) -> tuple:
    """Under what ``space.results`` keeps :func:`latency`'s times; dropped there, they are measured anew."""
    config = space.resolve(config)
    own = (result_key(config), result_key(structured_config(config)))
    return ("latency", *own, batch, count or torch.get_num_threads())


def _measured(space: Workspace, config: PruneConfig, batch: int, count: int | None) -> Latency:
    ways, left_out = _ways(space, config)
    problem = space.problem(config)
    inputs = problem.test.inputs
    inputs = inputs[torch.arange(batch, device=inputs.device) % len(inputs)]
    half = inputs.half() if "2:4" in ways else inputs

    def call(name: str, network: nn.Module) -> Callable[[], object]:
        given = half if name in ("half", "2:4") else inputs
        return lambda: network(given)

    with threads(count) as used, torch.inference_mode():
        calls = {name: call(name, way.network) for name, way in ways.items()}
        found = in_turns(calls, NETWORK_SECONDS, problem.device, clock_for(problem.device, used))
    about = pd.DataFrame(
        [(LABELS[name], way.accuracy, way.sparsity, way.multiply_adds) for name, way in ways.items()],
        index=list(ways),
        columns=["label", "accuracy", "sparsity", "multiply_adds"],
    )
    table = about.join(summary(found, "dense")).rename_axis("way")
    sparse = ways["csr"].sparse_layers if "csr" in ways else ()
    return Latency(table, left_out, sparse, batch, used, machine(problem.device))


def _ways(space: Workspace, config: PruneConfig) -> tuple[dict[str, _Way], dict[str, str]]:
    """Every way that is possible here, and why the others are not."""
    problem = space.problem(config)
    found: dict[str, _Way] = {}
    left_out: dict[str, str] = {}

    def way(name: str, network: nn.Module, run: PruneConfig | None, like: nn.Module | None = None, **more) -> None:
        accuracy, sparsity = problem.dense.accuracy, 0.0
        if run is not None:
            accuracy, sparsity = space.evaluation(run).accuracy, space.outcome(run).mask.sparsity
        add_way(name, network, accuracy, sparsity, like, **more)

    def add_way(
        name: str, network: nn.Module, accuracy: float, sparsity: float, like: nn.Module | None = None, **more
    ) -> None:
        sums = nonzero_multiply_adds(like or network, problem.test.inputs)
        found[name] = _Way(network, accuracy, sparsity, sums, **more)

    def in_csr() -> None:
        network, layers = with_csr(zeros)
        way("csr", network, config, zeros, sparse_layers=layers)

    def structured() -> None:
        run = structured_config(config)
        way("structured", smaller_network(space, run), run)

    def no_less_accurate() -> None:
        cut = as_accurate(space, config)
        if cut.config != space.resolve(structured_config(config)):
            add_way("as accurate", cut.network, cut.accuracy, cut.sparsity)

    def two_of_four() -> None:
        if problem.device.type != "cuda":  # before any work
            raise InputError(
                "2:4: expected an NVIDIA GPU since Ampere, whose sparse tensor cores compute with two of every four weights; "
                f"this network is on {problem.device.type}."
            )
        if get_method(config.method).chooses:
            raise InputError("2:4: this method chooses by itself which weights go. Take another one.")
        run = config.replace(pattern="2:4", sparsity=None, scope=Scope.GLOBAL, budget=Budget.WEIGHTS, stages=1)
        pruned = pruned_network(space, run)
        way("2:4", with_semi_structured(pruned)[0], run, pruned)
        way("half", copy.deepcopy(problem.model).half(), None, problem.model)

    way("dense", copy.deepcopy(problem.model), None)  # as freshly laid out in memory as the others
    zeros = pruned_network(space, config)
    way("zeros", zeros, config)
    for name, add in (
        ("csr", in_csr),
        ("structured", structured),
        ("as accurate", no_less_accurate),
        ("2:4", two_of_four),
    ):
        try:
            add()
        except WoodFisherError as error:
            left_out[name] = str(error)
    return found, left_out


def nonzero_multiply_adds(network: nn.Module, inputs: Tensor) -> int:
    """Of one image, in the Linear and Conv layers of ``network``, products with a zero weight left out."""
    parameters = PrunableParameters.from_model(network)
    each = positions(network, parameters, inputs)
    return int(each[parameters.flatten(network.state_dict()) != 0].sum())


def layer_latency(
    space: Workspace,
    shape: tuple[int, int],
    batch: int,
    count: int | None = 1,
    device: torch.device | str = "cpu",
    sparsities: Sequence[float] = LAYER_SPARSITIES,
) -> pd.DataFrame:
    """Time of one Linear layer (out, in) at ``batch`` inputs, dense and as CSR, over sparsities; measured once, then kept.

    The zeros lie at random: where they lie hardly matters, how many there are does. Columns: ``sparsity``, ``kernel`` (``dense``
    or ``csr``), and those of :func:`latency.summary` against the dense kernel at the same sparsity.

    Raises:
        InputError: This build of PyTorch has no CSR product on ``device``.
    """
    device = torch.device(device)
    key = ("layer latency", shape, batch, count or torch.get_num_threads(), str(device), tuple(sparsities))
    return _kept(space, key, lambda: _layer(shape, batch, count, device, sparsities))


def _layer(
    shape: tuple[int, int], batch: int, count: int | None, device: torch.device, sparsities: Sequence[float]
) -> pd.DataFrame:
    rows, columns = shape
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(rows * columns, generator=generator)
    values = torch.randn(rows * columns, generator=generator)
    inputs = torch.randn(batch, columns, generator=generator).to(device)
    parts = []
    with threads(count) as used, torch.inference_mode():
        for sparsity in sparsities:
            linear = nn.Linear(columns, rows)
            pruned = values.clone()
            pruned[order[: round(sparsity * len(order))]] = 0.0
            linear.weight.copy_(pruned.view(shape))
            linear = linear.to(device).eval()
            sparse, _ = with_csr(nn.Sequential(linear))
            calls = {"dense": lambda linear=linear: linear(inputs), "csr": lambda sparse=sparse: sparse(inputs)}
            part = summary(in_turns(calls, LAYER_SECONDS, device, clock_for(device, used)), "dense")
            parts.append(part.rename_axis("kernel").reset_index().assign(sparsity=sparsity))
    return pd.concat(parts, ignore_index=True)


def cross_over(table: pd.DataFrame) -> float | None:
    """The sparsity from which CSR stays faster than dense in :func:`layer_latency`'s table; None where it never is.

    Between two measured sparsities, where log time meets log time on straight lines.
    """
    csr_rows = table[table["kernel"] == "csr"].sort_values("sparsity")
    gap = [math.log(ratio) for ratio in csr_rows["ratio"]]  # above 0: slower than dense
    at = csr_rows["sparsity"].tolist()
    last = max((i for i, value in enumerate(gap) if value >= 0.0), default=-1)
    if last == len(gap) - 1:
        return None
    if last < 0:
        return at[0]
    share = gap[last] / (gap[last] - gap[last + 1])
    return at[last] + share * (at[last + 1] - at[last])


def _kept(space: Workspace, key: tuple, make: Callable[[], object]):
    """A small result that is made while nothing else computes."""
    found = space.results.peek(key)
    if found is not None:
        return found
    with space.cache.computing:
        found = space.results.peek(key)
        if found is None:
            found = make()
            space.results.put(key, found, 8000)
        return found
