"""Speed: ours beside each baseline, in turns. One function a case; ``CASES`` lists them.

Baselines: the paper's literal recursion (Singh & Alistarh 2020, eq. 7), M-FAC's recursion, loops of backward passes. All
times are wall-clock seconds; where two contestants compute the same thing, the case also says how far they differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from woodfisher_core import memory
from woodfisher_core.benchmarks.mfac import UnrolledInverse
from woodfisher_core.benchmarks.table import CaseResult
from woodfisher_core.benchmarks.timing import GemmRate, gemm_rate, interleaved, machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.fisher import Blocks, EmpiricalFisher, recursive_inverse
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import Strategy, gradient_matrix
from woodfisher_core.pruning import PruneOptions, PruningContext, resolve_device
from woodfisher_core.timing import Stopwatch

OURS = "ours"


@dataclass(frozen=True)
class Bench:
    """What every case works with."""

    repeats: int
    device: torch.device
    weights: str
    data_dir: str | None
    workspace: Workspace
    say: Callable[[str], None]

    def config(self, model: str, num_samples: int = 1) -> PruneConfig:
        own = {"weights": self.weights, "data_dir": self.data_dir} if model == "mlpnet" else {}
        return PruneConfig(model=model, num_samples=num_samples, device=str(self.device), **own)

    def problem(self, model: str) -> Problem:
        return self.workspace.problem(self.config(model))

    def rows(self, model: str, num_samples: int) -> Tensor:
        """G (N, d) of the network's first N training samples in the order of seed 0."""
        return self.workspace.rows(self.config(model, num_samples), Stopwatch(self.device))

    def time(self, contestants: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        return interleaved(contestants, self.repeats, self.device)


def parity(bench: Bench) -> CaseResult:
    """The official parity case, inverse to update: MLPNet, N = 100, whole-layer blocks, 95 %."""
    problem = bench.problem("mlpnet")
    options = PruneOptions(num_samples=100, damping=1e-5, block_size="layer", update="independent", sparsity=0.95)
    rows = bench.rows("mlpnet", 100)
    samples = problem.train_samples(bench.workspace.samples(bench.config("mlpnet", 100))[0])
    blocks = Blocks.of(problem.parameters, "layer")

    def prune():
        context = PruningContext(problem.weights, problem.parameters, options, lambda: EmpiricalFisher(rows, blocks))
        return next(context.run([options.sparsity]))

    return CaseResult(
        title="inverse, score and update together, whole-layer blocks",
        setting="MLPNet, N = 100, λ = 1e-5, 95 %, one global threshold, independent update",
        bound_by="reading G a few times (25 MB as float64); fixed costs of some fifty tensor operations",
        seconds=bench.time(
            {
                OURS: prune,
                "its gradients, not counted": lambda: gradient_matrix(
                    problem.model, problem.parameters, samples.batches(1024), 100
                ),
            }
        ),
        most_seconds=1.0,
        note="The official code takes 244 s and 7 GB for this on two CPU cores (recorded, not run here).",
    )


def paper_blocks(bench: Bench) -> CaseResult:
    """The paper's literal recursion on blocks of 2,000 weights, N = 200."""
    size, count, damping = 2000, 4, 1e-5
    rows = bench.rows("mlpnet", 200)[:, : count * size].contiguous()
    blocks = Blocks((Run(0, count, size),))

    def each(invert: Callable[[Tensor, float], Tensor]) -> Tensor:
        return torch.cat([invert(block, damping).diagonal() for block in rows.split(size, dim=1)])

    written, in_place = "the paper's recursion, as written", "the same, in place"
    return CaseResult(
        title="diagonal of the inverse, blocks of 2,000",
        setting=f"MLPNet fc1, its first {count} blocks of 2,000, N = 200, λ = 1e-5",
        bound_by="the recursion by memory (48 MB and more moved a sample and block), ours by the N×N products",
        seconds=bench.time(
            {
                OURS: lambda: _diagonal(rows, blocks, damping),
                written: lambda: each(_recursion_as_written),
                in_place: lambda: each(recursive_inverse),
            }
        ),
        least_ratio=(written, 100.0),
        differences={written: _difference(each(_recursion_as_written), _diagonal(rows, blocks, damping))},
        note="As written, every step makes a new matrix; in place is the best we could do for it. "
        "Its 16 MB matrix fits the last cache of a server but not of most laptops, where it is slower still. It runs in "
        "float32; ours factors in float64.",
    )


def _recursion_as_written(rows: Tensor, damping: float) -> Tensor:
    """Singh & Alistarh 2020, eq. 7, to the letter: F_n⁻¹ = F_{n−1}⁻¹ − vvᵀ with v = F_{n−1}⁻¹g/√(N + gᵀF_{n−1}⁻¹g)."""
    inverse = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device) / damping
    for gradient in rows:
        product = inverse @ gradient
        scaled = product / (len(rows) + gradient @ product).sqrt()
        inverse = inverse - torch.outer(scaled, scaled)
    return inverse


def whole_layer(bench: Bench) -> CaseResult:
    """The paper's literal recursion on whole-layer blocks, N = 100: fc1 with 31,360 weights."""
    part, damping = 8000, 1e-5
    layer = bench.problem("mlpnet").parameters.layers[0]
    rows = bench.rows("mlpnet", 100)[:, layer.slice].contiguous()
    small = rows[:, :part].contiguous()
    whole, block = Blocks((Run(0, 1, layer.numel),)), Blocks((Run(0, 1, part),))
    scale = (layer.numel / part) ** 2
    name = "the paper's recursion"
    return CaseResult(
        title="diagonal of the inverse, whole-layer block",
        setting=f"MLPNet fc1, one block of {layer.numel:,}, N = 100, λ = 1e-5",
        bound_by="the recursion by memory (12 B² bytes a sample), ours by reading G",
        seconds=bench.time(
            {OURS: lambda: _diagonal(rows, whole, damping), name: lambda: recursive_inverse(small, damping).diagonal()}
        ),
        factors={name: scale},
        least_ratio=(name, 1000.0),
        differences={
            f"{name} ({part:,} weights)": _difference(
                recursive_inverse(small, damping).diagonal(), _diagonal(small, block, damping)
            )
        },
        bytes={"ours, all of it": memory.predict(100, whole).total, f"{name}, its matrix alone": 4 * layer.numel**2},
        note=f"The recursion's time is not measured at this size but **scaled**: measured on the first {part:,} columns, times "
        f"({layer.numel:,}/{part:,})² = {scale:.1f}, its operation count being N·B². Its {4 * part**2 >> 20} MiB matrix sits "
        "in a large cache, the full one in no cache, so the scaled time is a low estimate.",
    )


def mfac(bench: Bench) -> CaseResult:
    """M-FAC's recursion on the whole network as one block, N = 500."""
    damping = 1e-3
    rows = bench.rows("mlpnet", 500)
    blocks = Blocks.of(bench.problem("mlpnet").parameters, "network")
    contestants = {
        OURS: lambda: _diagonal(rows, blocks, damping),
        "M-FAC's recursion": lambda: UnrolledInverse(rows, damping).diagonal(),
        "one product G Gᵀ, float32": lambda: rows @ rows.mT,
    }
    return CaseResult(
        title="diagonal of the inverse, one block over the network",
        setting=f"MLPNet, {blocks.dim:,} weights, N = 500, λ = 1e-3",
        bound_by="M-FAC by memory (V read twice a sample), ours by a float64 product of N²d operations and half a float32 one",
        seconds=bench.time(contestants),
        differences={
            "M-FAC's recursion": _difference(
                UnrolledInverse(rows, damping).diagonal(), _diagonal(rows, blocks, damping)
            )
        },
        note="M-FAC in float32; ours makes and factors K in float64. The float32 product G Gᵀ measures what the machine can do.",
    )


def gradients_mlpnet(bench: Bench) -> CaseResult:
    """Per-sample gradients of MLPNet, N = 1,000: vmap, a loop, one plain backward pass."""
    return _gradients(bench, "mlpnet", "writing G (129 MB); the arithmetic is one backward pass")


def gradients_cnn(bench: Bench) -> CaseResult:
    """Per-sample gradients of the digits CNN, N = 1,000: vmap, a loop, one plain backward pass."""
    return _gradients(bench, "digits-cnn", "the convolutions' per-sample weight gradients (grouped convolutions)")


def _gradients(bench: Bench, name: str, bound_by: str) -> CaseResult:
    problem, count = bench.problem(name), 1000
    samples = problem.train_samples(bench.workspace.samples(bench.config(name, count))[0])

    def rows(strategy: Strategy) -> Tensor:
        batches = samples.batches(1024)
        return gradient_matrix(problem.model, problem.parameters, batches, count, strategy=strategy)

    def backward() -> tuple[Tensor, ...]:
        leaves = {
            layer: problem.model.get_parameter(layer).detach().requires_grad_() for layer in problem.parameters.names
        }
        outputs = torch.func.functional_call(problem.model, leaves, (samples.inputs,))
        return torch.autograd.grad(cross_entropy(outputs, samples.targets), list(leaves.values()))

    return CaseResult(
        title="per-sample gradients",
        setting=f"{name}, {problem.parameters.num_prunable:,} weights, N = {count:,}",
        bound_by=bound_by,
        seconds=bench.time(
            {
                OURS: lambda: rows(Strategy.AUTO),
                "a backward pass a sample": lambda: rows(Strategy.LOOP),
                "one plain batched backward": backward,
            }
        ),
        differences={"a backward pass a sample": _difference(rows(Strategy.LOOP), rows(Strategy.AUTO))},
        note="The plain batched backward gives the mean gradient only: the floor no per-sample method gets under.",
    )


def _diagonal(rows: Tensor, blocks: Blocks, damping: float) -> Tensor:
    return EmpiricalFisher(rows, blocks).inverse(damping).diagonal()


def _difference(found: Tensor, exact: Tensor) -> float:
    """Largest difference, relative to the largest magnitude."""
    return float((found.double() - exact.double()).abs().max() / exact.double().abs().max())


CASES: dict[str, Callable[[Bench], CaseResult]] = {
    "parity": parity,
    "paper-blocks": paper_blocks,
    "whole-layer": whole_layer,
    "mfac": mfac,
    "gradients-mlpnet": gradients_mlpnet,
    "gradients-cnn": gradients_cnn,
}


def run(
    cases: Sequence[str] | None = None,
    repeats: int = 5,
    weights: str = SHIPPED,
    data_dir: str | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, object]:
    """The named cases (all by default) as plain JSON values, with the machine and its product rate before and after."""
    chosen = list(CASES) if cases is None else list(cases)
    for name in chosen:
        if name not in CASES:
            raise InputError(f"case: expected one of {', '.join(CASES)}, got {name!r}.")
    if repeats < 1:
        raise InputError(f"repeats: expected at least 1, got {repeats}.")
    where = resolve_device(device)
    bench = Bench(repeats, where, weights, data_dir, Workspace(), say)
    say("matrix-product rate")
    rates: list[GemmRate] = [gemm_rate(where)]
    results = {}
    for name in chosen:
        say(f"{name}: {CASES[name].__doc__.splitlines()[0]}")
        results[name] = CASES[name](bench).to_json()
    rates.append(gemm_rate(where))
    return {
        "benchmark": "speed",
        "machine": machine(where),
        "repeats": repeats,
        "gflops": {moment: vars(rate) for moment, rate in zip(("before", "after"), rates, strict=True)},
        "cases": results,
    }
