"""From samples to a Fisher: plan where the gradients will live, say so, make them, cut them into blocks."""

import operator
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core import planning
from woodfisher_core.devices import compute_device
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Blocks, EmpiricalFisher, Fisher, StreamedFisher
from woodfisher_core.gradients import gradient_matrix, gradient_rows
from woodfisher_core.options import GradientPrecision, Labels
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.planning import Plan, Storage, Task, make_plan
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.sampling import label_uniforms
from woodfisher_core.sources import Recomputed, Spilled
from woodfisher_core.timing import Stopwatch

Batches = Iterable[tuple[Tensor, Tensor]]
# Rows of gradients timed for a prediction.
PROBED_ROWS = 2


def plan_fisher(
    network: nn.Module,
    parameters: PrunableParameters,
    options: PruneOptions,
    some: tuple[Tensor, Tensor],
    *,
    loss: Loss = cross_entropy,
    allowed: int,
    storage: Storage | None = None,
    scratch: str | Path | None = None,
    timed: bool = False,
) -> Plan:
    """Where the gradients of ``options`` will be kept, and what that takes.

    Args:
        network: In eval mode, on its device.
        parameters: The columns of G.
        options: Number of rows, mini-batch, block size, precision of the gradients, solver, update.
        some: A few (inputs, targets) on the network's device: their activations are measured.
        loss: ``loss(outputs, targets)``, the mean over a batch.
        allowed: Bytes the run may take.
        storage: Where gradients are to be kept; the fastest that fits where None.
        scratch: Folder for a scratch file.
        timed: Whether to predict seconds too, from a few gradients, a product and a file.
    """
    planning.check_scratch(scratch)
    inputs, targets = some
    task = Task(
        num_rows=options.num_samples,
        mini_batch=options.mini_batch,
        blocks=Blocks.of(parameters, options.block_size),
        solver=options.solver,
        update=options.update,
        damping_scale=options.damping_scale,
        itemsize=kept_in(network, parameters, options).itemsize,
        activation_bytes=planning.activation_bytes(network, inputs),
        input_bytes=options.num_samples * options.mini_batch * inputs[:1].nbytes,
    )
    plan = make_plan(task, allowed, storage=storage, scratch=scratch)
    if not timed:
        return plan
    together = min(options.mini_batch, len(inputs))
    tried = together * max(1, min(len(inputs) // together, PROBED_ROWS))
    how = _how(options) | {"loss": loss, "mini_batch": together}

    def gradient() -> None:
        for _ in gradient_rows(network, parameters, [(inputs[:tried], targets[:tried])], **how):
            pass

    rates = planning.measure(gradient, tried, plan.storage, scratch, inputs.device)
    return make_plan(task, allowed, storage=plan.storage, scratch=scratch, rates=rates)


def build_fisher(
    network: nn.Module,
    parameters: PrunableParameters,
    options: PruneOptions,
    plan: Plan,
    batches: Batches,
    *,
    loss: Loss = cross_entropy,
    keep: Tensor | None = None,
    scratch: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    watch: Stopwatch | None = None,
) -> Fisher:
    """The Fisher of ``options`` from exactly its samples, its gradients kept as ``plan`` says.

    ``batches`` are (inputs, targets) on the network's device, read once; gradients of weights outside ``keep`` (d,) are zero;
    ``progress`` is called with the number of rows made, ``watch`` charged with "gradients". The rest as for
    :func:`plan_fisher`.
    """
    watch = watch or Stopwatch()
    blocks, dtype = Blocks.of(parameters, options.block_size), kept_in(network, parameters, options)
    how = _how(options) | {"loss": loss, "chunk": plan.chunk, "progress": progress}
    if keep is not None:
        how["keep"] = parameters.unflatten(keep)
    home = compute_device(network.get_parameter(parameters.names[0]).device)
    if plan.storage is Storage.MEMORY:
        with watch("gradients"):
            return EmpiricalFisher(
                gradient_matrix(network, parameters, batches, options.num_samples, dtype=dtype, **how), blocks
            )
    if plan.storage is Storage.SPILLED:
        parts = [part for span in plan.spans for part in span.parts]
        with watch("gradients"):
            pieces = gradient_rows(network, parameters, batches, **how)
            source = Spilled(pieces, options.num_samples, parts, dtype, home, scratch)
    else:
        kept = list(batches)

        def make(own: PrunableParameters) -> Iterator[Tensor]:
            with watch("gradients"):
                yield from gradient_rows(network, own, kept, **how)

        source = Recomputed(make, parameters, options.num_samples, dtype, home)
    return StreamedFisher(source, blocks, plan.spans)


def _how(options: PruneOptions) -> dict[str, object]:
    """What gradients are made with, the same on every pass."""
    how: dict[str, object] = {"labels": options.labels, "mini_batch": options.mini_batch}
    if options.labels is Labels.SAMPLED:
        how["uniforms"] = label_uniforms(options.num_samples * options.mini_batch, options.seed)
    return how


def kept_in(network: nn.Module, parameters: PrunableParameters, options: PruneOptions) -> torch.dtype:
    """The type G is kept in."""
    if options.gradient_precision is GradientPrecision.BFLOAT16:
        return torch.bfloat16
    # Not get_parameter: while another thread runs the network with other weights, these are plain tensors.
    return operator.attrgetter(parameters.names[0])(network).dtype
