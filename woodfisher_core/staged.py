"""One-shot or staged pruning: the same step once, or several times with everything measured anew at the weights it left."""

from collections.abc import Callable

from torch import Tensor

from woodfisher_core.context import PruningContext
from woodfisher_core.methods import Outcome
from woodfisher_core.options import Budget
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.schedules import stage_levels

# (weights (d,), keep (d,) or None, number of the stage) → the context of that stage.
MakeContext = Callable[[Tensor, Tensor | None, int], PruningContext]


def run_stages(
    options: PruneOptions,
    weights: Tensor,
    keep: Tensor | None,
    context_at: MakeContext,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """The outcome of the last stage; what one stage prunes stays pruned at the next.

    Stage i of R goes to the i-th level of the schedule, from the weights that stage i − 1 left (Singh & Alistarh 2020, sec. 5,
    "recomputation"). BatchNorm statistics are re-estimated once, after the last.
    """
    # What is gone already counts as done; of a budget of multiply-adds it is not known here, and early stages may then be idle.
    gone = 0.0 if keep is None or options.budget is Budget.FLOPS else 1.0 - int(keep.sum()) / len(keep)
    levels = stage_levels(options.sparsity, options.stages, options.stage_shape, min(gone, options.sparsity))
    for stage, level in enumerate(levels):
        context = context_at(weights, keep, stage)
        last = stage == len(levels) - 1
        outcome = next(context.run([level], settle=last))
        weights, keep = outcome.weights, outcome.mask.keep
        if progress:
            progress(stage + 1, len(levels))
    return outcome
