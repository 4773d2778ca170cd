"""The exact Hessian over the prunable weights: its products with vectors, its diagonal, and the whole of it.

H = (1/N) Σ_n ∇²_w ℓ_n over the N samples of all batches together: no damping, BatchNorm on running statistics, at the
model's own weights or at given ones. A product is the gradient differentiated once more (Pearlmutter 1994), here in reverse
mode: the graph of ∇ℓ is built once a batch, and vectors go through it many at a time. Basis vectors of one layer need only
that layer's gradient, and, H being symmetric, its derivatives no further than the layers up to it.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from woodfisher_core.devices import compute_device
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.evaluation import Loss
from woodfisher_core.gradients import Strategy
from woodfisher_core.parameters import Layer, PrunableParameters

COMPUTE = torch.float64
# Most weights of a dense Hessian: 200 MB of float64, and as many products.
LARGEST = 5000
# Bytes of the activations of one batch, all vectors that go through its graph together (about the fastest for digits-mlp).
CHUNK_BYTES = 1 << 22
MAX_CHUNK = 256
# Bytes of the float64 probes held together.
PROBE_BYTES = 1 << 26
# Offset between the stream that orders samples and the one that draws probes, so that they never coincide.
PROBE_STREAM = 0xD1A6
TWICE = (
    "Hessian: the gradient of {name} cannot be differentiated once more ({why}). Express that operation through others, or "
    "take a method with the Fisher in the Hessian's place."
)

Batches = Iterable[tuple[Tensor, Tensor]]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class HessianDiagonal:
    """diag H (d,) float64 in nats per squared weight; ``standard_error`` (d,) where it was estimated, None where exact."""

    values: Tensor
    standard_error: Tensor | None = None


def hessian_products(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Batches,
    vectors: Tensor,
    *,
    progress: Progress | None = None,
    **options,
) -> Tensor:
    """H v of every column v of ``vectors`` (d, k), or of one (d,); float64, on the device of the flat vectors.

    Args:
        model: Any module; evaluated in eval mode on a copy.
        parameters: The rows and columns of H.
        batches: (inputs, targets) of any batch sizes, all kept until the end; the graph of one batch is held at a time.
        vectors: What H multiplies.
        progress: Called with the share of the work that is done, up to 1.
        options: As for :func:`prepared`, here and below: loss, weights, dtype, strategy, chunk.

    Raises:
        InputError: No samples, vectors of another length, or a network whose gradient cannot be differentiated again.
        NumericalError: A product is NaN or infinite.
    """
    dim = parameters.num_prunable
    if vectors.ndim not in (1, 2) or len(vectors) != dim:
        raise InputError(f"vectors: expected shape ({dim},) or ({dim}, k), got {tuple(vectors.shape)}.")
    problem = prepared(model, parameters, batches, **options)
    columns = vectors.reshape(dim, -1)
    return _products(problem, columns, _meter(progress, problem.num_samples * columns.shape[1])).view(vectors.shape)


def hessian_diagonal(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Batches,
    *,
    probes: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options,
) -> HessianDiagonal:
    """diag H: exact by d products, or the mean of z∘Hz over ``probes`` random signs z (Hutchinson; Bekas et al. 2007).

    The estimate is unbiased, with variance Σ_{i≠j} H_ij² / probes at weight j: it is good where H is nearly diagonal. A seed
    fixes the probes, and fewer of them are always the first of more.
    """
    if probes is not None and probes < 2:
        raise InputError(
            f"probes: expected at least 2 (their spread is the standard error), got {probes}; None is exact."
        )
    problem = prepared(model, parameters, batches, **options)
    dim = parameters.num_prunable
    add = _meter(progress, problem.num_samples * (probes or dim))
    if probes is None:
        values = torch.zeros(dim, dtype=COMPUTE, device=problem.device)
        for rows, layer, piece in _rows(problem, True, add):
            values[rows] += piece.diagonal(rows.start - layer.offset)
        return HessianDiagonal(_checked(values))
    # Deviations from the first probe: where all agree (a diagonal H) their spread then is exactly zero.
    stream, first = np.random.RandomState((seed + PROBE_STREAM) % 2**32), None
    total = torch.zeros(2, dim, dtype=COMPUTE, device=problem.device)
    together = max(1, PROBE_BYTES // (8 * dim))
    for start in range(0, probes, together):
        # One draw a probe, so that how many are held together changes nothing.
        signs = np.stack([stream.randint(0, 2, size=dim) for _ in range(min(together, probes - start))], axis=1)
        vectors = torch.from_numpy(2.0 * signs - 1.0).to(problem.device)
        found = vectors * _products(problem, vectors, add)
        first = found[:, :1] if first is None else first
        total += torch.stack([(found - first).sum(1), (found - first).square().sum(1)])
    mean = total[0] / probes
    variance = (total[1] / probes - mean.square()).clamp_(min=0.0) / (probes - 1)
    return HessianDiagonal(first.squeeze(1) + mean, variance.sqrt())


def dense_hessian(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Batches,
    *,
    progress: Progress | None = None,
    **options,
) -> Tensor:
    """H itself, (d, d) float64 and exactly symmetric, for at most ``LARGEST`` weights. It need not be positive definite."""
    dim = parameters.num_prunable
    if dim > LARGEST:
        raise InputError(
            f"Hessian: expected at most {LARGEST:,} weights for the dense matrix, got {dim:,}. Exclude layers, take its "
            "diagonal or its products, or a method with the Fisher in its place."
        )
    problem = prepared(model, parameters, batches, **options)
    total = torch.zeros(dim, dim, dtype=COMPUTE, device=problem.device)
    for rows, layer, piece in _rows(problem, False, _meter(progress, problem.num_samples * dim)):
        total[rows, layer.slice] += piece
    for layer in parameters.layers:
        # Within a layer both halves were computed: their mean.
        own = total[layer.slice, layer.slice]
        own.copy_((own + own.T) / 2)
        total[: layer.offset, layer.slice] = total[layer.slice, : layer.offset].T
    return _checked(total)


@dataclass(frozen=True)
class Problem:
    """What is differentiated: a private network in eval mode, its loss and samples; and how many vectors at a time."""

    network: nn.Module
    parameters: PrunableParameters
    loss: Loss
    samples: Sequence[tuple[Tensor, Tensor]]
    chunk: int
    differentiate: Callable[..., Sequence[Tensor | None]]

    @property
    def num_samples(self) -> int:
        """N."""
        return sum(len(targets) for _, targets in self.samples)

    @property
    def weight(self) -> Tensor:
        """One of the network's own, for its type and device."""
        return self.network.get_parameter(self.parameters.names[0])

    @property
    def device(self) -> torch.device:
        """Where float64 results live."""
        return compute_device(self.weight.device)


def prepared(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Batches,
    *,
    loss: Loss = cross_entropy,
    weights: Tensor | None = None,
    dtype: torch.dtype | None = None,
    strategy: Strategy = Strategy.AUTO,
    chunk: int | None = None,
) -> Problem:
    """The options that all of them share.

    Args:
        model: Left untouched.
        parameters: The rows and columns of H.
        batches: (inputs, targets).
        loss: ``loss(outputs, targets)``, a mean over the batch.
        weights: (d,) values at which to differentiate, instead of the model's own.
        dtype: The network's arithmetic, its own by default (float32 products are accurate to about 1e-6); inputs and
            targets that are floating follow it. Float64 runs where it exists.
        strategy: vmap over the vectors, a loop over them, or (auto) vmap where there are several at a time, with the loop where
            vmap cannot go (warned).
        chunk: Vectors together; chosen from the size of the network's activations by default.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    own = network.get_parameter(parameters.names[0])
    dtype = dtype or own.dtype
    device = compute_device(own.device) if dtype is COMPUTE else own.device
    network = network.to(device, dtype)
    if weights is not None:
        network.load_state_dict(parameters.written_into(network.state_dict(), weights))
    samples = [(_moved(x, device, dtype), _moved(y, device, dtype)) for x, y in batches if len(y)]
    if not samples:
        raise InputError("Hessian: expected at least one sample, got none.")
    if chunk is None:
        held = parameters.num_prunable + _activations(network, samples[0][0]) * max(len(y) for _, y in samples)
        chunk = max(1, min(MAX_CHUNK, CHUNK_BYTES // (dtype.itemsize * held)))
    return Problem(network, parameters, loss, samples, chunk, _differentiator(strategy, type(model).__name__))


def _moved(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def _activations(network: nn.Module, inputs: Tensor) -> int:
    """How many numbers the modules of ``network`` put out a sample."""
    counts = []

    def count(module: nn.Module, given: object, out: object) -> None:
        counts.append(out.numel() if isinstance(out, Tensor) else 0)

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return sum(counts) // len(inputs)


def _graph(problem: Problem, inputs: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(leaves, gradients) by layer name, the gradients with their graph; a layer whose gradient is constant has none."""
    own = dict(problem.network.named_parameters())
    leaves = {name: own[name].detach().requires_grad_() for name in problem.parameters.names}
    # Attention's fast kernels can be differentiated once only.
    with sdpa_kernel(SDPBackend.MATH):
        value = problem.loss(functional_call(problem.network, leaves, (inputs,)), targets)
    if value.ndim:
        raise InputError(f"loss: expected one number, the mean over the batch, got shape {tuple(value.shape)}.")
    if not value.requires_grad:
        return leaves, {}
    found = torch.autograd.grad(value, list(leaves.values()), create_graph=True, allow_unused=True)
    gradients = {name: g for name, g in zip(leaves, found, strict=True) if g is not None and g.requires_grad}
    _check_twice(gradients, type(problem.network).__name__)
    return leaves, gradients


def _check_twice(gradients: dict[str, Tensor], name: str) -> None:
    """Raises an InputError where the graph of the gradients ends in a refusal (``once_differentiable``).

    Such an end leads to no weight, so that it would be left out without a word and its part of H taken for zero.
    """
    waiting, seen = [g.grad_fn for g in gradients.values()], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().endswith("::Error"):
            raise InputError(TWICE.format(name=name, why="it allows one derivative only"))
        waiting += [following for following, _ in node.next_functions]


def _differentiator(strategy: Strategy, name: str) -> Callable[..., Sequence[Tensor | None]]:
    """f(gradients, leaves, vectors): for every leaf Σ_l (∂g_l/∂leaf)ᵀ v_l, (c, *leaf) for c vectors; None where it is zero."""
    batched = strategy is not Strategy.LOOP

    def differentiate(gradients: list[Tensor], leaves: list[Tensor], vectors: list[Tensor]) -> Sequence[Tensor | None]:
        nonlocal batched
        alone = strategy is Strategy.AUTO and len(vectors[0]) == 1  # vmap over one vector costs, and brings nothing
        if batched and not alone:
            try:
                return torch.autograd.grad(
                    gradients, leaves, vectors, is_grads_batched=True, retain_graph=True, allow_unused=True
                )
            except RuntimeError as error:
                if strategy is Strategy.VMAP or isinstance(error, torch.OutOfMemoryError):
                    raise
                rows = by_loop(gradients, leaves, vectors)
                warnings.warn(
                    f"vmap cannot take the Hessian of {name} ({str(error).splitlines()[0]}); "
                    "computing its products one at a time, with the same result.",
                    stacklevel=2,
                )
                batched = False
                return rows
        return by_loop(gradients, leaves, vectors)

    def by_loop(gradients: list[Tensor], leaves: list[Tensor], vectors: list[Tensor]) -> Sequence[Tensor | None]:
        try:
            rows = [
                torch.autograd.grad(gradients, leaves, one, retain_graph=True, allow_unused=True)
                for one in zip(*vectors, strict=True)
            ]
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise InputError(TWICE.format(name=name, why=str(error).splitlines()[0])) from error
        return [None if column[0] is None else torch.stack(column) for column in zip(*rows, strict=True)]

    return differentiate


def _products(problem: Problem, columns: Tensor, add: Callable[[int], None]) -> Tensor:
    """H times the columns (d, k), (d, k) float64."""
    layers = problem.parameters.layers
    total = torch.zeros(columns.shape, dtype=COMPUTE, device=problem.device)
    for inputs, targets in problem.samples:
        leaves, gradients = _graph(problem, inputs, targets)
        share = len(targets) / problem.num_samples
        for start in range(0, columns.shape[1], problem.chunk):
            some = columns[:, start : start + problem.chunk].T.to(problem.weight)
            add(len(targets) * len(some))
            if not gradients:
                continue
            vectors = [some[:, x.slice].reshape(-1, *x.shape) for x in layers if x.name in gradients]
            found = problem.differentiate(list(gradients.values()), list(leaves.values()), vectors)
            for layer, piece in zip(layers, found, strict=True):
                if piece is not None:
                    total[layer.slice, start : start + len(some)] += share * piece.detach().flatten(1).T.to(total)
    return _checked(total)


def _rows(problem: Problem, within: bool, add: Callable[[int], None]) -> Iterator[tuple[slice, Layer, Tensor]]:
    """(rows, layer, H[rows, layer] of one batch times its share of the samples), to be summed.

    For rows of each layer, with the layers up to that one, or ``within`` each layer alone; zero parts are left out.
    """
    layers = problem.parameters.layers
    for inputs, targets in problem.samples:
        leaves, gradients = _graph(problem, inputs, targets)
        share = len(targets) / problem.num_samples
        for index, layer in enumerate(layers):
            reached = layers[index if within else 0 : index + 1]
            for start in range(0, layer.numel, problem.chunk):
                stop = min(start + problem.chunk, layer.numel)
                add(len(targets) * (stop - start))
                if layer.name not in gradients:
                    continue
                basis = torch.zeros(stop - start, layer.numel, dtype=problem.weight.dtype, device=problem.weight.device)
                basis.diagonal(start).fill_(1.0)
                found = problem.differentiate(
                    [gradients[layer.name]], [leaves[x.name] for x in reached], [basis.view(-1, *layer.shape)]
                )
                rows = slice(layer.offset + start, layer.offset + stop)
                for other, piece in zip(reached, found, strict=True):
                    if piece is not None:
                        yield rows, other, share * piece.detach().flatten(1).to(problem.device, COMPUTE)


def _meter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Counts work done and tells ``progress`` its share of ``total``."""
    done = 0

    def add(amount: int) -> None:
        nonlocal done
        done += amount
        if progress:
            progress(min(1.0, done / total))

    return add


def _checked(values: Tensor) -> Tensor:
    """``values`` if all are finite; NaN wins both extremes."""
    if values.numel() and not torch.stack(torch.aminmax(values)).isfinite().all():
        raise NumericalError("Hessian: NaN or infinite values. Check the weights, the inputs and the loss.")
    return values
