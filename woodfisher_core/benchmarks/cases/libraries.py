"""Where curvlinops and this package do the same thing: products with the empirical Fisher and with its damped inverse.

curvlinops recomputes its forward and backward passes at every product and stores nothing; ours reads stored rows G.
"""

import torch
from torch import Tensor, nn

from woodfisher_core.benchmarks.bench import Bench, difference
from woodfisher_core.benchmarks.result import OURS, CaseResult
from woodfisher_core.benchmarks.rivals import NOT_INSTALLED, FisherOperators, load
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.parameters import PrunableParameters

THEIRS = "curvlinops"
DAMPING = 1e-3
TOLERANCE, MOST_STEPS = 1e-4, 1000


def products_mlpnet(bench: Bench) -> CaseResult:
    """Products with the empirical Fisher of MLPNet, N = 1,000: curvlinops' EFLinearOperator."""
    problem, count = bench.problem("mlpnet"), 1000
    samples = problem.train_samples(bench.workspace.samples(bench.config("mlpnet", count))[0])
    rows = bench.rows("mlpnet", count)
    return _products(
        bench,
        f"MLPNet ({problem.parameters.num_prunable:,} weights)",
        problem.model,
        problem.parameters,
        rows,
        samples.inputs,
        samples.targets,
    )


def products_resnet20(bench: Bench) -> CaseResult:
    """Products with the empirical Fisher of ResNet-20, N = 256: curvlinops' EFLinearOperator."""
    problem, count = bench.resnet20, 256
    rows = gradient_matrix(problem.model, problem.parameters, problem.batches(count), count)
    inputs, targets = problem.inputs[:count], problem.targets[:count]
    return _products(bench, bench.resnet20_label, problem.model, problem.parameters, rows, inputs, targets)


def inverse(bench: Bench) -> CaseResult:
    """Products with the damped inverse of MLPNet, N = 1,000: curvlinops' conjugate gradients."""
    problem, count = bench.problem("mlpnet"), 1000
    samples = problem.train_samples(bench.workspace.samples(bench.config("mlpnet", count))[0])
    rows, blocks = bench.rows("mlpnet", count), Blocks.of(problem.parameters, "network")
    kept = EmpiricalFisher(rows, blocks).inverse(DAMPING)
    vector = _vector(rows)

    def make() -> object:
        made = gradient_matrix(problem.model, problem.parameters, samples.batches(1024), count)
        return EmpiricalFisher(made, blocks).inverse(DAMPING)

    contestants = {OURS: lambda: kept.apply(vector), "ours, gradients and factor, once": make}
    left_out, differences = {}, {}
    name = f"{THEIRS}, CG to a residual of {TOLERANCE:g}"
    if load(THEIRS) is None:
        left_out[name] = NOT_INSTALLED
    else:
        operators = FisherOperators(problem.model, problem.parameters, samples.inputs, samples.targets)
        contestants[name] = lambda: operators.inverse_product(vector, DAMPING, TOLERANCE, MOST_STEPS)
        differences[name] = difference(contestants[name](), kept.apply(vector))
    return CaseResult(
        title="product with the damped inverse",
        setting=f"MLPNet as one block of {blocks.dim:,}, N = {count:,}, λ = {DAMPING:g}, one random vector",
        bound_by="ours by reading G twice in float64; theirs by a forward, a forward-mode and a backward pass a CG step",
        measured=bench.measure(contestants),
        differences=differences,
        bytes={"G": rows.nbytes},
        left_out=left_out,
        note="Ours is exact and keeps G and a factor; curvlinops keeps nothing, iterates in float32 and needs more steps the "
        "smaller λ is. It has no diagonal of the inverse, which pruning needs.",
    )


def _products(
    bench: Bench,
    label: str,
    model: nn.Module,
    parameters: PrunableParameters,
    rows: Tensor,
    inputs: Tensor,
    targets: Tensor,
) -> CaseResult:
    vector = _vector(rows)

    def product() -> Tensor:
        return rows.mT @ (rows @ vector) / len(rows)

    contestants = {OURS: product}
    left_out, differences = {}, {}
    if load(THEIRS) is None:
        left_out[THEIRS] = NOT_INSTALLED
    else:
        operators = FisherOperators(model, parameters, inputs, targets)
        contestants[THEIRS] = lambda: operators.product(vector)
        differences[THEIRS] = difference(operators.product(vector), product())
    return CaseResult(
        title="product with the empirical Fisher",
        setting=f"{label}, N = {len(rows):,}, one random vector",
        bound_by="ours by reading G twice; theirs by a forward, a forward-mode and a backward pass",
        measured=bench.measure(contestants),
        differences=differences,
        bytes={"G": rows.nbytes},
        left_out=left_out,
        note="Ours reads stored gradients, whose making is not counted; curvlinops makes what it needs anew at each product, "
        "and stores nothing.",
    )


def _vector(rows: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows.shape[1], generator=generator).to(rows)
