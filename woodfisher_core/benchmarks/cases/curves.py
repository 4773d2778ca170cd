"""Exact joint steps for a whole sparsity curve beside those for one mask."""

import torch
from torch import Tensor

from woodfisher_core import scores
from woodfisher_core.benchmarks.bench import LARGE_ROWS, Bench
from woodfisher_core.benchmarks.cases.inverse import diagonal
from woodfisher_core.benchmarks.result import OURS, CaseResult, Target
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.masks import select
from woodfisher_core.options import Scope
from woodfisher_core.parameters import PrunableParameters

DAMPING = 1e-3
SPARSITIES = tuple(torch.linspace(0.5, 0.98, 20, dtype=torch.float64).tolist())
# The curve costs at most this many times its dearest point.
LIMIT = 3.0


def joint_curve(bench: Bench) -> CaseResult:
    """Joint steps for 20 sparsities of MLPNet, whole-layer blocks, N = 1,000, beside one mask."""
    problem, count = bench.problem("mlpnet"), 1000
    rows, blocks = bench.rows("mlpnet", count), Blocks.of(problem.parameters, "layer")
    setting = f"MLPNet, whole-layer blocks, N = {count:,}"
    return _curve(bench, rows, blocks, problem.weights, problem.parameters, setting)


def joint_curve_resnet20(bench: Bench) -> CaseResult:
    """Joint steps for 20 sparsities of ResNet-20 as one block, N = 1,000, beside one mask."""
    problem = bench.resnet20
    setting = f"{bench.resnet20_label}, one block, N = {LARGE_ROWS:,}"
    return _curve(bench, bench.resnet20_rows, bench.resnet20_blocks, problem.weights, problem.parameters, setting)


def _curve(
    bench: Bench, rows: Tensor, blocks: Blocks, weights: Tensor, parameters: PrunableParameters, setting: str
) -> CaseResult:
    saliency = scores.obs(weights, diagonal(rows, blocks, DAMPING))
    keeps = [mask.keep for mask in select(saliency, SPARSITIES, Scope.GLOBAL, parameters)]
    one = f"one mask, {SPARSITIES[0]:.0%}"

    def steps(chosen: list[Tensor]) -> Tensor:
        return EmpiricalFisher(rows, blocks).joint_steps(weights, chosen, DAMPING)

    return CaseResult(
        title="exact joint steps of a whole curve",
        setting=f"{setting}, λ = 1e-3, {len(SPARSITIES)} nested masks from {SPARSITIES[0]:.0%} to {SPARSITIES[-1]:.0%}",
        bound_by="one Gram matrix of the columns, sorted by score; a factorisation of size N a mask; reading G for all steps",
        measured=bench.measure({OURS: lambda: steps(keeps), one: lambda: steps(keeps[:1])}),
        bytes={"G": rows.nbytes},
        targets=(Target(LIMIT, than=one),),
        note=f"{len(SPARSITIES)} separate solves would cost about as many times the one.",
    )
