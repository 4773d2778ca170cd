"""From samples to a Fisher: plan where the gradients will live, say so, make them, cut them into blocks."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from woodfisher_core import planning
from woodfisher_core.devices import compute_device
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Blocks, EmpiricalFisher, StreamedFisher
from woodfisher_core.gradients import gradient_matrix, gradient_rows
from woodfisher_core.options import GradientPrecision, Labels
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.planning import Plan, Storage, Task, make_plan
from woodfisher_core.sampling import label_uniforms
from woodfisher_core.sources import Recomputed, Spilled
from woodfisher_core.timing import Stopwatch

if TYPE_CHECKING:
    from woodfisher_core.pruning import PruneOptions

Batches = Iterable[tuple[Tensor, Tensor]]
Fisher = EmpiricalFisher | StreamedFisher


def build_fisher(
    network: nn.Module,
    parameters: PrunableParameters,
    options: "PruneOptions",
    batches: Batches,
    *,
    loss: Loss,
    allowed: int,
    storage: Storage | None = None,
    scratch: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int], None] | None = None,
    watch: Stopwatch | None = None,
) -> tuple[Fisher, Plan]:
    """The Fisher of ``options`` from exactly its samples, and how its gradients are kept.

    Args:
        network: In eval mode, on its device.
        parameters: The columns of G.
        options: Number of rows, mini-batch, labels, block size, precision of the gradients, solver.
        batches: (inputs, targets) on the network's device; read once.
        loss: ``loss(outputs, targets)``, the mean over a batch.
        allowed: Bytes the run may take.
        storage: Where gradients are kept; the fastest that fits where None.
        scratch: Folder for a scratch file.
        say: Told the plan, with predicted bytes and seconds, before the work starts.
        progress: Called with the number of rows made.
        watch: Charged with "plan" and "gradients".
    """
    watch = watch or Stopwatch()
    blocks = Blocks.of(parameters, options.block_size)
    samples = iter(batches)
    first = next(samples)
    device = first[0].device
    samples = chain([first], samples)
    weight = network.get_parameter(parameters.layers[0].name)
    dtype = torch.bfloat16 if options.gradient_precision is GradientPrecision.BFLOAT16 else weight.dtype
    made_with = {"loss": loss, "labels": options.labels, "mini_batch": options.mini_batch}
    if options.labels is Labels.SAMPLED:
        made_with["uniforms"] = label_uniforms(options.num_samples * options.mini_batch, options.seed)

    with watch("plan"):
        planning.check_scratch(scratch)
        task = Task(
            num_rows=options.num_samples,
            mini_batch=options.mini_batch,
            blocks=blocks,
            solver=options.solver,
            update=options.update,
            damping_scale=options.damping_scale,
            itemsize=dtype.itemsize,
            activation_bytes=planning.activation_bytes(network, first[0]),
            input_bytes=options.num_samples * options.mini_batch * first[0][:1].nbytes,
        )
        plan = make_plan(task, allowed, storage=storage, scratch=scratch)
        if say is not None:
            tried = max(1, min(len(first[0]) // options.mini_batch, 2)) * options.mini_batch
            few = (first[0][:tried], first[1][:tried])

            def gradient() -> None:
                for _ in gradient_rows(network, parameters, [few], **made_with):
                    pass

            rates = planning.measure(gradient, tried, scratch, device)
            plan = make_plan(task, allowed, storage=plan.storage, scratch=scratch, rates=rates)
            say(plan.describe())

    if plan.storage is Storage.MEMORY:
        with watch("gradients"):
            rows = gradient_matrix(
                network, parameters, samples, options.num_samples, dtype=dtype, progress=progress, **made_with
            )
        return EmpiricalFisher(rows, blocks), plan
    if plan.storage is Storage.SPILLED:
        with watch("gradients"):
            pieces = gradient_rows(network, parameters, samples, progress=progress, **made_with)
            parts = [part for span in plan.spans for part in span.parts]
            source = Spilled(pieces, options.num_samples, parts, dtype, compute_device(device), scratch)
    else:
        kept = list(samples)

        def make(own: PrunableParameters) -> Iterator[Tensor]:
            with watch("gradients"):
                yield from gradient_rows(network, own, kept, progress=progress, **made_with)

        source = Recomputed(make, parameters, options.num_samples, dtype, compute_device(device))
    return StreamedFisher(source, blocks, plan.spans), plan
