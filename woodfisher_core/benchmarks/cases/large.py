"""One block over ResNet-20 with 1,000 samples: the dual solver, the spectral solver, and a plane over N and λ."""

from collections import deque

import torch

from woodfisher_core import scores
from woodfisher_core.benchmarks.bench import LARGE_ROWS, Bench, difference
from woodfisher_core.benchmarks.cases.inverse import diagonal
from woodfisher_core.benchmarks.mfac import UnrolledInverse
from woodfisher_core.benchmarks.operations import diagonal_operations
from woodfisher_core.benchmarks.result import OURS, CaseResult, Target
from woodfisher_core.fisher import EmpiricalFisher
from woodfisher_core.options import Solver

DAMPING = 1e-3
PRODUCT = "one product G Gᵀ, float32"
# Geometric, so that the smaller ones together cost a third of the largest (Σ N² = 1.33 N_max²).
PLANE_COUNTS = (31, 62, 125, 250, 500, 1000)
PLANE_DAMPINGS = tuple(torch.logspace(-6, 0, 25, dtype=torch.float64).tolist())


def dual(bench: Bench) -> CaseResult:
    """diag F⁻¹ and the OBS score of ResNet-20 as one block, N = 1,000: one float32 product, M-FAC."""
    rows, blocks, weights = bench.resnet20_rows, bench.resnet20_blocks, bench.resnet20.weights
    other = "M-FAC's recursion"
    return CaseResult(
        title="inverse and score, one block over the network",
        setting=_setting(bench, "λ = 1e-3"),
        bound_by="two triangular products of N²d operations each, together one full product G Gᵀ",
        measured=bench.measure(
            {
                OURS: lambda: scores.obs(weights, diagonal(rows, blocks, DAMPING)),
                PRODUCT: lambda: rows @ rows.mT,
                other: lambda: scores.obs(weights, UnrolledInverse(rows, DAMPING).diagonal()),
            },
            rarely={other: 2},
        ),
        bytes={"G": rows.nbytes},
        operations={OURS: diagonal_operations(LARGE_ROWS, blocks), PRODUCT: 2.0 * LARGE_ROWS**2 * blocks.dim},
        targets=(Target(1.25, than=PRODUCT), Target(0.1, than=other)),
        note="How far M-FAC and ours differ is measured by the case `mfac`; the dual and the spectral solver by `spectral`.",
    )


def spectral(bench: Bench) -> CaseResult:
    """The spectral solver on the same rows: the first λ, and a further one."""
    rows, blocks = bench.resnet20_rows, bench.resnet20_blocks
    first, further = "ours, the first λ", "ours, a further λ"
    prepared = EmpiricalFisher(rows, blocks)
    prepared.prepare(Solver.SPECTRAL)
    exact = diagonal(rows, blocks, DAMPING)
    return CaseResult(
        title="spectral diagonal, one block over the network",
        setting=_setting(bench, "λ = 1e-3, a further one 1e-2"),
        bound_by="the first λ by K (N²d), the eigenvectors of K and V = diag(σ)^(-1/2) Uᵀ G (2 N²d); a further one by reading "
        "Q once",
        measured=bench.measure(
            {
                first: lambda: EmpiricalFisher(rows, blocks).inverse(DAMPING, Solver.SPECTRAL).diagonal(),
                further: lambda: prepared.inverse(10 * DAMPING, Solver.SPECTRAL).diagonal(),
                PRODUCT: lambda: rows @ rows.mT,
            }
        ),
        bytes={"G": rows.nbytes, "kept for further λ": prepared.nbytes},
        operations={first: 3.0 * LARGE_ROWS**2 * blocks.dim},
        differences={"the dual solver": difference(prepared.inverse(DAMPING, Solver.SPECTRAL).diagonal(), exact)},
        targets=(Target(3.0, than=PRODUCT, who=first), Target(0.1, than=first, who=further)),
    )


def plane(bench: Bench) -> CaseResult:
    """diag F⁻¹ for 6 sample counts × 25 dampings on the same rows, beside the largest spectral solve."""
    rows, blocks = bench.resnet20_rows, bench.resnet20_blocks
    largest = "one spectral solve, N = 1,000, one λ"

    def whole_plane() -> None:
        for count in PLANE_COUNTS:
            # Each diagonal is dropped once made, as a sweep does that only reads a figure off it.
            deque(EmpiricalFisher(rows[:count], blocks).diagonals(PLANE_DAMPINGS, Solver.SPECTRAL), maxlen=0)

    shares = sum(count**2 for count in PLANE_COUNTS) / PLANE_COUNTS[-1] ** 2
    return CaseResult(
        title="a plane over N and λ, one block over the network",
        setting=_setting(bench, f"N = {', '.join(map(str, PLANE_COUNTS))}; {len(PLANE_DAMPINGS)} λ from 1e-6 to 1"),
        bound_by=f"Σ N² = {shares:.2f} × that of the largest N; the dampings of one N share one product",
        measured=bench.measure(
            {
                OURS: whole_plane,
                largest: lambda: EmpiricalFisher(rows, blocks).inverse(DAMPING, Solver.SPECTRAL).diagonal(),
            }
        ),
        operations={
            OURS: sum((3.0 * n + 2.0 * len(PLANE_DAMPINGS)) * n * blocks.dim for n in PLANE_COUNTS),
        },
        targets=(Target(2.5, than=largest),),
    )


def _setting(bench: Bench, settings: str) -> str:
    return f"{bench.resnet20_label}, one block, N = {LARGE_ROWS:,}, {settings}"
