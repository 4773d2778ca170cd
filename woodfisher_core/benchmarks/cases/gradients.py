"""Per-sample gradients beside a loop of backward passes, BackPACK, and the one batched backward pass nobody gets under."""

from torch import Tensor

from woodfisher_core.benchmarks.bench import Bench, difference
from woodfisher_core.benchmarks.operations import backward, gradient_operations
from woodfisher_core.benchmarks.result import OURS, CaseResult, Target
from woodfisher_core.benchmarks.rivals import NOT_INSTALLED, batch_grad
from woodfisher_core.gradients import Strategy, gradient_matrix

LOOP, PLAIN, BACKPACK = "a backward pass a sample", "one plain batched backward", "BackPACK's BatchGrad"
NOTE = "The plain batched backward gives the mean gradient only."


def mlpnet(bench: Bench) -> CaseResult:
    """Per-sample gradients of MLPNet, N = 1,000: ours, a loop, one plain backward pass."""
    return _zoo(bench, "mlpnet", "writing G (129 MB); the arithmetic is one backward pass")


def cnn(bench: Bench) -> CaseResult:
    """Per-sample gradients of the digits CNN, N = 1,000: ours, a loop, one plain backward pass."""
    return _zoo(bench, "digits-cnn", "the convolutions' per-sample weight gradients")


def _zoo(bench: Bench, name: str, bound_by: str) -> CaseResult:
    problem, count = bench.problem(name), 1000
    samples = problem.train_samples(bench.workspace.samples(bench.config(name, count))[0])

    def rows(strategy: Strategy) -> Tensor:
        batches = samples.batches(1024)
        return gradient_matrix(problem.model, problem.parameters, batches, count, strategy=strategy)

    return CaseResult(
        title="per-sample gradients",
        setting=f"{name}, {problem.parameters.num_prunable:,} weights, N = {count:,}",
        bound_by=bound_by,
        measured=bench.measure(
            {
                OURS: lambda: rows(Strategy.AUTO),
                LOOP: lambda: rows(Strategy.LOOP),
                PLAIN: lambda: backward(problem.model, problem.parameters, samples.inputs, samples.targets),
            }
        ),
        differences={LOOP: difference(rows(Strategy.LOOP), rows(Strategy.AUTO))},
        note=NOTE,
    )


def resnet20(bench: Bench) -> CaseResult:
    """Per-sample gradients of ResNet-20, N = 256: ours, one plain backward pass, a loop, BackPACK."""
    problem, count = bench.resnet20, 256
    inputs, targets = problem.inputs[:count], problem.targets[:count]

    def rows(strategy: Strategy) -> Tensor:
        batches = problem.batches(count)
        return gradient_matrix(problem.model, problem.parameters, batches, count, strategy=strategy)

    contestants = {
        OURS: lambda: rows(Strategy.AUTO),
        PLAIN: lambda: backward(problem.model, problem.parameters, inputs, targets),
        LOOP: lambda: rows(Strategy.LOOP),
    }
    left_out, differences, ours = {}, {}, rows(Strategy.AUTO)
    rival = batch_grad(problem.model, problem.parameters)
    if rival is None:
        left_out[BACKPACK] = NOT_INSTALLED
    else:
        contestants[BACKPACK] = lambda: rival(inputs, targets)
        differences[BACKPACK] = difference(rival(inputs, targets), ours)
    size = ours.nbytes
    del ours
    return CaseResult(
        title="per-sample gradients of a real convolutional network",
        setting=f"{bench.resnet20_label}, N = {count}",
        bound_by="the forward and backward pass; a weight gradient a sample instead of one in all is the same arithmetic",
        measured=bench.measure(contestants, rarely={LOOP: 2}),
        bytes={"G": size},
        operations={OURS: count * gradient_operations(problem.model, problem.parameters, inputs[:1], targets[:1])},
        differences=differences,
        targets=(Target(1.0, than=PLAIN), Target(1.3, than="G", memory=True)),
        left_out=left_out,
        note=f"{NOTE} BackPACK's time includes gathering its tensors into one G.",
    )
