"""Held-out samples, and what is predicted and measured on them: losses in float64, terms of the quadratic model of many steps."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.exact_losses import mean_losses
from woodfisher_core.experiments.keys import digest, source_key
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.fisher import Blocks
from woodfisher_core.options import Labels

COMPUTE = torch.float64
# Bytes of float64 steps, or of projections of gradients on steps, held together.
STEP_BYTES = 1 << 26

Told = Callable[[str, int, int], None]


def one_step(config: PruneConfig) -> PruneConfig:
    """``config`` pruned by WoodFisher's statistic in one step from the dense network, whose BatchNorm statistics stay.

    That is all a quadratic model around the dense weights can speak of.
    """
    own = {} if config.method == "woodfisher" else {"method": "woodfisher", "update": None, "update_scale": 1.0}
    return config.replace(**own, stages=1, batchnorm_images=0)


def steps_together(dim: int) -> int:
    """How many steps (d,) of ``dim`` weights are held together."""
    return max(1, STEP_BYTES // (COMPUTE.itemsize * dim))


def terms_of_steps(rows: Iterable[Tensor], steps: Tensor, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """(gᵀδ, ½ Σ_blocks ‖G_b δ_b‖²/N) of each of the ``steps`` (k, d), (k,) float64 each, from row chunks (c, d) of G.

    The same as :func:`woodfisher_core.loss_change.quadratic_terms` of each step, all of them in few products.
    """
    steps = steps.to(COMPUTE)
    widest = max(run.count * len(steps) for run in blocks.runs)
    together = steps_together(max(steps.shape[1], widest))
    total = torch.zeros(steps.shape[1], dtype=COMPUTE, device=steps.device)
    second, count = torch.zeros(len(steps), dtype=COMPUTE, device=steps.device), 0
    for part in (some.to(steps) for piece in rows for some in piece.split(together)):
        count += len(part)
        total += part.sum(0)
        for run in blocks.runs:
            if run.size == 1:
                second += steps[:, run.slice].square() @ part[:, run.slice].square().sum(0)
                continue
            columns = part[:, run.slice].unflatten(1, (run.count, run.size)).transpose(0, 1)
            moved = torch.bmm(columns, steps[:, run.slice].unflatten(1, (run.count, run.size)).permute(1, 2, 0))
            second += moved.square_().sum((0, 1))
    if count == 0:
        raise InputError("predicted loss change: expected at least one gradient row, got none.")
    return steps @ total / count, 0.5 * second / count


def split(space: Workspace, config: PruneConfig) -> tuple[np.ndarray, np.ndarray]:
    """(Fisher samples, held-out samples), of which there must be some."""
    used, held_out = space.samples(config)
    if not len(held_out):
        raise InputError(
            f"held-out samples: expected at least one training image that the Fisher does not use, but it uses all "
            f"{len(used):,}. Lower the Fisher samples N."
        )
    return used, held_out


def samples_read(space: Workspace, config: PruneConfig, own: bool = True) -> tuple:
    """What a prediction or measurement on the config's samples depends on beyond network, data and step; ``own`` if on the
    Fisher's too."""
    used, held_out = split(space, config)
    drawn = None if config.labels is Labels.TRUE else (config.seed, len(used))  # held-out labels are drawn after theirs
    return (source_key(config), digest(used) if own else None, digest(held_out), drawn)


def losses(
    space: Workspace,
    config: PruneConfig,
    indices: np.ndarray,
    points: Iterable[Tensor],
    told: Callable[[int], None] | None = None,
) -> Tensor:
    """Mean losses (k,) on these training samples at each of k weight vectors (d,), which may be made on the way."""
    problem = space.problem(config)
    found = mean_losses(problem, problem.train_samples(indices), points, told)
    values = found.to(problem.weights.device, COMPUTE)
    if not torch.isfinite(values).all():
        raise NumericalError(
            "measured loss: NaN or infinite, so large is the step. Use a larger damping or a lower sparsity."
        )
    return values


def table_bytes(table: pd.DataFrame) -> int:
    """What a cache counts for it."""
    return int(table.memory_usage(deep=True).sum())
