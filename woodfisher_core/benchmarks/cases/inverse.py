"""Inverse, score and update on MLPNet beside the paper's literal recursion (Singh & Alistarh 2020, eq. 7) and M-FAC's."""

from collections.abc import Callable

import torch
from torch import Tensor

from woodfisher_core import memory
from woodfisher_core.benchmarks.bench import Bench, difference
from woodfisher_core.benchmarks.mfac import UnrolledInverse
from woodfisher_core.benchmarks.operations import diagonal_operations
from woodfisher_core.benchmarks.result import OURS, CaseResult, Target
from woodfisher_core.fisher import Blocks, EmpiricalFisher, recursive_inverse
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import PruningContext


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
        measured=bench.measure(
            {
                OURS: prune,
                "its gradients, not counted": lambda: gradient_matrix(
                    problem.model, problem.parameters, samples.batches(1024), 100
                ),
            }
        ),
        targets=(Target(1.0),),
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
        measured=bench.measure(
            {
                OURS: lambda: diagonal(rows, blocks, damping),
                written: lambda: each(_recursion_as_written),
                in_place: lambda: each(recursive_inverse),
            }
        ),
        targets=(Target(0.01, than=written),),
        differences={written: difference(each(_recursion_as_written), diagonal(rows, blocks, damping))},
        operations={OURS: diagonal_operations(200, blocks)},
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
        measured=bench.measure(
            {OURS: lambda: diagonal(rows, whole, damping), name: lambda: recursive_inverse(small, damping).diagonal()}
        ),
        factors={name: scale},
        targets=(Target(0.001, than=name),),
        differences={
            f"{name} ({part:,} weights)": difference(
                recursive_inverse(small, damping).diagonal(), diagonal(small, block, damping)
            )
        },
        bytes={
            "ours, predicted, all of it": memory.predict(100, whole).total,
            f"{name}, its matrix alone": 4 * layer.numel**2,
        },
        operations={OURS: diagonal_operations(100, whole)},
        note=f"The recursion's time is not measured at this size but **scaled**: measured on the first {part:,} columns, times "
        f"({layer.numel:,}/{part:,})² = {scale:.1f}, its operation count being N·B²; its measured memory is that of the "
        f"small run. Its {4 * part**2 >> 20} MiB matrix sits in a large cache, the full one in no cache, so the scaled time "
        "is a low estimate.",
    )


def mfac(bench: Bench) -> CaseResult:
    """M-FAC's recursion on the whole network as one block, N = 500."""
    damping = 1e-3
    rows = bench.rows("mlpnet", 500)
    blocks = Blocks.of(bench.problem("mlpnet").parameters, "network")
    contestants = {
        OURS: lambda: diagonal(rows, blocks, damping),
        "M-FAC's recursion": lambda: UnrolledInverse(rows, damping).diagonal(),
        "one product G Gᵀ, float32": lambda: rows @ rows.mT,
    }
    return CaseResult(
        title="diagonal of the inverse, one block over the network",
        setting=f"MLPNet, {blocks.dim:,} weights, N = 500, λ = 1e-3",
        bound_by="M-FAC by memory (V read twice a sample), ours by two triangular products of N²d operations each",
        measured=bench.measure(contestants),
        differences={
            "M-FAC's recursion": difference(UnrolledInverse(rows, damping).diagonal(), diagonal(rows, blocks, damping))
        },
        operations={OURS: diagonal_operations(500, blocks)},
        note="M-FAC in float32; ours factors K in float64. The float32 product G Gᵀ measures what the machine can do.",
    )


def diagonal(rows: Tensor, blocks: Blocks, damping: float) -> Tensor:
    """diag F⁻¹ (d,) from scratch, as a run does it."""
    return EmpiricalFisher(rows, blocks).inverse(damping).diagonal()
