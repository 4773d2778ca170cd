"""Per-sample gradients G ∈ R^{N×d}: one row a sample, or one row a mini-batch mean, made in bounded chunks.

Row n is ∇_w of the loss of sample n at the trained weights (Singh & Alistarh 2020, eq. 2: the empirical Fisher), or of
the mean loss of m consecutive samples (the paper's mini-batch heuristic; the resulting F is about m times too small).
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from woodfisher_core.devices import compute_device
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.evaluation import Loss
from woodfisher_core.options import Labels
from woodfisher_core.parameters import PrunableParameters

# Bytes of gradient rows made in one vmap call: large enough to fill two cores, small enough to stay in cache reach.
CHUNK_BYTES = 1 << 24
MAX_CHUNK = 256


class Strategy(str, Enum):
    """How rows are computed; all give the same numbers."""

    AUTO = "auto"
    VMAP = "vmap"
    LOOP = "loop"


def default_chunk(dim: int, itemsize: int) -> int:
    """Rows of ``dim`` gradients made together."""
    return max(1, min(MAX_CHUNK, CHUNK_BYTES // (itemsize * dim)))


def gradient_rows(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Loss = cross_entropy,
    labels: Labels = Labels.TRUE,
    uniforms: Tensor | None = None,
    mini_batch: int = 1,
    keep: Mapping[str, Tensor] | None = None,
    strategy: Strategy = Strategy.AUTO,
    chunk: int | None = None,
    out: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Yields consecutive row chunks (c, d) of G, on the model's device and in its dtype.

    Args:
        model: Any module; evaluated in eval mode on a copy, so that BatchNorm uses its running statistics.
        parameters: The columns of G.
        batches: (inputs, targets) of any batch sizes; their total must be a multiple of ``mini_batch``.
        loss: ``loss(outputs, targets)``, a mean over the batch; differentiated as it is (sign and scale kept).
        labels: The given targets, or labels sampled from the softmax of the outputs.
        uniforms: (n,) uniform numbers that turn probabilities into sampled labels; needed for ``Labels.SAMPLED``.
        mini_batch: m, samples averaged in each row.
        keep: Masks of the layers by name; gradients of weights outside them are zero.
        strategy: ``vmap`` of ``grad``, a loop of backward passes, or vmap with the loop where vmap cannot go (warned).
        chunk: Rows a vmap call; chosen from d by default.
        out: (N, d) of any floating type to write the rows into; what is yielded then are views of it.
        progress: Called with the number of rows done after each chunk.

    Raises:
        InputError: Samples do not divide into mini-batches, or sampled labels lack their uniforms.
        NumericalError: A gradient is NaN or infinite.
    """
    if mini_batch < 1:
        raise InputError(f"mini-batch: expected at least 1 sample a row, got {mini_batch}.")
    if labels is Labels.SAMPLED and uniforms is None:
        raise InputError("sampled labels: expected one uniform number a sample (sampling.label_uniforms), got none.")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    own = dict(network.named_parameters())
    variables = {name: own[name] for name in parameters.names}
    itemsize = next(iter(variables.values())).element_size()
    chunk = chunk or default_chunk(parameters.num_prunable, itemsize)

    def row_loss(values: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        value = loss(functional_call(network, values, (inputs,)), targets)
        if value.ndim:
            raise InputError(f"loss: expected one number, the mean over the batch, got shape {tuple(value.shape)}.")
        return value

    by_vmap = vmap(grad(row_loss), in_dims=(None, 0, 0))
    done = 0
    for inputs, targets in regrouped(batches, chunk * mini_batch, mini_batch):
        if labels is Labels.SAMPLED:
            with torch.no_grad():
                outputs = network(inputs)
            targets = sampled_labels(outputs, uniforms[done * mini_batch :][: len(targets)])
        inputs = inputs.unflatten(0, (-1, mini_batch))
        targets = targets.unflatten(0, (-1, mini_batch))
        count = len(inputs)
        if strategy is not Strategy.LOOP:
            try:
                pieces = by_vmap(variables, inputs, targets)
            except RuntimeError as error:
                if strategy is Strategy.VMAP or done or isinstance(error, torch.OutOfMemoryError):
                    raise
                warnings.warn(
                    f"vmap cannot take {type(model).__name__} ({str(error).splitlines()[0]}); "
                    "computing its gradients one at a time, with the same result.",
                    stacklevel=2,
                )
                strategy = Strategy.LOOP
        if strategy is Strategy.LOOP:
            pieces = _by_loop(row_loss, variables, inputs, targets)
        if out is None:
            rows = next(iter(variables.values())).new_empty(count, parameters.num_prunable)
        elif done + count <= len(out):
            rows = out[done : done + count]
        else:
            raise InputError(f"gradients: expected {len(out)} rows, the data gave {done + count} or more.")
        for layer in parameters.layers:
            rows[:, layer.slice] = pieces[layer.name].reshape(count, -1)
            if keep is not None:
                rows[:, layer.slice] *= keep[layer.name].to(rows.device).reshape(-1)
        del pieces
        # NaN wins both extremes; two numbers instead of a mask as large as the rows.
        if not torch.stack(torch.aminmax(rows)).isfinite().all():
            raise NumericalError(
                f"gradients: rows {done} to {done + count - 1} hold NaN or infinite values. "
                "Check the weights, the inputs and the loss."
            )
        done += count
        if progress:
            progress(done)
        yield rows


def gradient_matrix(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_rows: int,
    dtype: torch.dtype | None = None,
    **options,
) -> Tensor:
    """G itself, (num_rows, d); ``options`` as for :func:`gradient_rows`. Refuses another number of rows than promised.

    ``dtype`` is what G is kept in, the model's own by default; gradients are always computed in the model's.
    """
    weight = model.get_parameter(parameters.names[0])
    device = compute_device(weight.device)
    rows = torch.empty(num_rows, parameters.num_prunable, dtype=dtype or weight.dtype, device=device)
    filled = sum(len(piece) for piece in gradient_rows(model, parameters, batches, out=rows, **options))
    if filled != num_rows:
        raise InputError(f"gradients: expected {num_rows} rows, the data gave {filled}.")
    return rows


def _by_loop(row_loss, variables: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The same as vmap(grad(row_loss)), one backward pass a row."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in variables.items()}
    rows = {name: tensor.new_empty(len(inputs), *tensor.shape) for name, tensor in variables.items()}
    for index, (x, y) in enumerate(zip(inputs, targets, strict=True)):
        found = torch.autograd.grad(
            row_loss(leaves, x, y), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        for name, value in zip(leaves, found, strict=True):
            rows[name][index] = value
    return rows


def regrouped(batches: Iterable[tuple[Tensor, Tensor]], size: int, multiple: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same samples in batches of exactly ``size``; the last is shorter but still a multiple of ``multiple``."""
    held: list[tuple[Tensor, Tensor]] = []  # less than one batch of the new size
    count = 0

    def joined() -> tuple[Tensor, Tensor]:
        return held[0] if len(held) == 1 else (torch.cat([x for x, _ in held]), torch.cat([y for _, y in held]))

    for inputs, targets in batches:
        start = 0
        while start < len(targets):
            taken = min(size - count, len(targets) - start)
            held.append((inputs[start : start + taken], targets[start : start + taken]))
            start, count = start + taken, count + taken
            if count == size:
                yield joined()
                held, count = [], 0
    if count % multiple:
        raise InputError(
            f"gradients: expected a multiple of {multiple} samples (--mini-batch), {count % multiple} are left over."
        )
    if count:
        yield joined()


def sampled_labels(outputs: Tensor, uniforms: Tensor) -> Tensor:
    """(n,) labels drawn from softmax(``outputs`` (n, classes)) by inverting the cumulative distribution at ``uniforms`` (n,)."""
    if len(uniforms) != len(outputs):
        raise InputError(f"sampled labels: expected {len(outputs)} uniform numbers, got {len(uniforms)}.")
    if outputs.ndim != 2:
        raise InputError(
            f"sampled labels: expected outputs (samples, classes), got shape {tuple(outputs.shape)}. Use true labels."
        )
    cumulative = outputs.to(compute_device(outputs.device), torch.float64).softmax(1).cumsum(1)
    drawn = torch.searchsorted(cumulative, uniforms.to(cumulative).unsqueeze(1)).squeeze(1)
    return drawn.clamp_(max=cumulative.shape[1] - 1).to(outputs.device)
