"""The spectrum of the undamped Fisher (1/N) GᵀG: how many directions of weight space it knows, and what the damping leaves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import fisher_key
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.fisher.groups import Group
from woodfisher_core.parameters import PrunableParameters

COMPUTE = torch.float64
ALL_LAYERS = "all layers"


def spectrum(space: Workspace, config: PruneConfig) -> pd.DataFrame:
    """Every eigenvalue of the config's Fisher above rounding, largest first within its layer.

    Columns: ``layer`` (``all layers`` where a block spans them), ``dimension`` (weights of the layer), ``rank`` (1 for the
    largest), ``eigenvalue`` in nats per squared weight. What is missing to ``dimension`` is zero: at most max(N, B)·eps times
    the largest of its block, or beyond the N there can be. Where the gradients do not fit in memory, this is refused.
    """
    config = space.resolve(config)

    def make() -> pd.DataFrame:
        fisher = space.context(config).fisher()
        if not isinstance(fisher, EmpiricalFisher):
            raise InputError(
                "spectrum: the gradients of this setting do not fit in memory at once. Lower the Fisher samples N."
            )
        return spectrum_table(fisher, space.problem(config).parameters)

    return space.results.get(("spectrum", *fisher_key(config)), make, lambda t: int(t.memory_usage(deep=True).sum()))


def spectrum_table(fisher: EmpiricalFisher, parameters: PrunableParameters) -> pd.DataFrame:
    """The same of any Fisher in memory."""
    found: dict[str, list[np.ndarray]] = {}
    for group in fisher.groups:
        values = positive_eigenvalues(group)
        columns = torch.arange(fisher.blocks.dim)[group.columns] if isinstance(group.columns, slice) else group.columns
        starts = columns.view(len(values), -1)[:, 0].tolist()
        for start, own in zip(starts, values, strict=True):
            found.setdefault(_layer(parameters, fisher.blocks, start), []).append(own)
    sizes = {layer.module: layer.numel for layer in parameters.layers} | {ALL_LAYERS: parameters.num_prunable}
    tables = []
    for layer in sorted(found, key=list(sizes).index):
        values = np.sort(np.concatenate(found[layer]))[::-1]
        columns = {"layer": layer, "dimension": sizes[layer], "rank": np.arange(1, len(values) + 1)}
        tables.append(pd.DataFrame({**columns, "eigenvalue": values}))
    empty = pd.DataFrame(columns=["layer", "dimension", "rank", "eigenvalue"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def positive_eigenvalues(group: Group) -> list[np.ndarray]:
    """Eigenvalues of (1/N) GᵀG of each block of ``group`` above max(N, B)·eps times its largest, rising.

    From float64 products of whichever of the N×N and B×B matrices is smaller: a float32 Gram matrix, good enough for the
    inverse, would drown what lies seven decades below the largest.
    """
    if group.keeps_eigenbasis:
        values = group.eigenbasis.values.unsqueeze(0)
    else:
        values = torch.linalg.eigvalsh(group.gram(COMPUTE) if group.num_rows < group.size else group.covariance())
    cutoff = max(group.num_rows, group.size) * torch.finfo(COMPUTE).eps * values[:, -1:].clamp_min(0.0)
    return [(own[own > least] / group.num_rows).cpu().numpy() for own, least in zip(values, cutoff, strict=True)]


def effective_directions(table: pd.DataFrame, dampings: Sequence[float]) -> pd.DataFrame:
    """One row a λ: ``damping``, ``above`` (eigenvalues above λ), ``effective`` (Σ σ/(σ + λ), the directions it leaves)."""
    values = table["eigenvalue"].to_numpy(dtype=float)
    rows = [
        (damping, int((values > damping).sum()), float((values / (values + damping)).sum())) for damping in dampings
    ]
    return pd.DataFrame(rows, columns=["damping", "above", "effective"])


def _layer(parameters: PrunableParameters, blocks: Blocks, start: int) -> str:
    if len(parameters.layers) > 1 and blocks.count == 1:
        return ALL_LAYERS
    return next(layer.module for layer in parameters.layers if start < layer.end)
