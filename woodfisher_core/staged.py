"""One-shot or staged pruning: the same step once, or several times with everything measured anew at the weights it left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from woodfisher_core.context import PruningContext
from woodfisher_core.methods import Outcome
from woodfisher_core.options import Budget
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.schedules import stage_levels


@dataclass(frozen=True)
class Start:
    """Where a stage begins: ``weights`` (d,), those still there (``keep`` (d,) bool, None for all), other changed tensors."""

    weights: Tensor
    keep: Tensor | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


# (where the stage begins, its number) → its context.
MakeContext = Callable[[Start, int], PruningContext]


def run_stages(
    options: PruneOptions,
    start: Start,
    context_at: MakeContext,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """The outcome of the last stage; what one stage prunes stays pruned at the next.

    Stage i of R goes to the i-th level of the schedule, from the weights that stage i − 1 left (Singh & Alistarh 2020, sec. 5,
    "recomputation"). BatchNorm statistics are re-estimated once, after the last.
    """
    # What is gone already counts as done; of a budget of multiply-adds it is not known here, and early stages may then be idle.
    known = start.keep is not None and options.budget is Budget.WEIGHTS
    gone = 1.0 - int(start.keep.sum()) / len(start.keep) if known else 0.0
    levels = stage_levels(options.sparsity, options.stages, options.stage_shape, min(gone, options.sparsity))
    for stage, level in enumerate(levels):
        outcome = next(context_at(start, stage).run([level], settle=stage == len(levels) - 1))
        start = Start(outcome.weights, outcome.mask.keep, {**start.tensors, **outcome.tensors})
        if progress:
            progress(stage + 1, len(levels))
    return replace(outcome, tensors=start.tensors)
