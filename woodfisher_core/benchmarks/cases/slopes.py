"""How the time of the dual diagonal grows with the samples N, the weights d and the block size B."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from woodfisher_core.benchmarks.bench import Bench
from woodfisher_core.benchmarks.cases.inverse import diagonal
from woodfisher_core.benchmarks.result import CaseResult
from woodfisher_core.fisher import Blocks
from woodfisher_core.fisher.blocks import Run

# (N, d, B) around one middle; each sweep changes one of them. Blocks stay larger than N: the dual side.
SWEEPS = {
    "N": ((128, 65536, 4096), (256, 65536, 4096), (512, 65536, 4096), (1024, 65536, 4096)),
    "d": ((256, 16384, 4096), (256, 32768, 4096), (256, 65536, 4096), (256, 131072, 4096)),
    "B": ((256, 65536, 512), (256, 65536, 2048), (256, 65536, 8192), (256, 65536, 65536)),
}
DAMPING = 1e-3
# Exponents of (N, d, B) in the cost of each part.
TERMS = {
    "the products, N²d": (2, 1, 0),
    "the factors, N³d/B": (3, 1, -1),
    "reading and writing rows, Nd": (1, 1, 0),
    "fixed costs a block, d/B": (0, 1, -1),
}


def slopes(bench: Bench) -> CaseResult:
    """Growth of the dual diagonal's time with N, d and B: slopes of log time over log size."""
    generator = torch.Generator().manual_seed(0)
    sizes = sorted({size for sweep in SWEEPS.values() for size in sweep})
    # One matrix serves all sizes: contiguous parts of it.
    numbers = torch.randn(max(n * d for n, d, _ in sizes), generator=generator).to(bench.device)

    def solve(size: tuple[int, int, int]) -> torch.Tensor:
        n, d, block = size
        return diagonal(numbers[: n * d].view(n, d), Blocks((Run(0, d // block, block),)), DAMPING)

    names = {size: "N = {:,}, d = {:,}, B = {:,}".format(*size) for size in sizes}
    measured = bench.measure({names[size]: lambda size=size: solve(size) for size in sizes})
    result = CaseResult(
        title="growth of the dual diagonal",
        setting="Gaussian rows, λ = 1e-3, one of N, d and B changed at a time; times ours = times the first size",
        bound_by="the term whose exponents the slopes come closest to, below",
        measured=measured,
    )
    found = {
        name: fit_slope([size["NdB".index(name)] for size in sweep], [result.medians[names[size]] for size in sweep])
        for name, sweep in SWEEPS.items()
    }
    return replace(result, slopes=found, note=f"What binds: {binding_term(found)}.")


def fit_slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Least-squares slope of log seconds over log size: the exponent p of seconds ∝ sizeᵖ."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle_x) ** 2 for a in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread


def binding_term(found: dict[str, float]) -> str:
    """The part of the cost whose exponents of N, d and B lie nearest to the slopes found, by Euclidean distance."""
    return min(TERMS, key=lambda term: math.dist(TERMS[term], (found["N"], found["d"], found["B"])))
