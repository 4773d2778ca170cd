"""Predicted loss change of a step δ = final − original weights, its terms apart (design: "Predicted loss change")."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.fisher import Blocks, Fisher

# Bytes of rows converted to float64 at a time.
CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class QuadraticTerms:
    """Mean loss change in nats per sample that the quadratic model predicts: ``first_order`` gᵀδ, ``second_order`` ½δᵀFδ."""

    first_order: float
    second_order: float

    @property
    def total(self) -> float:
        return self.first_order + self.second_order


def quadratic_terms(rows: Iterable[Tensor], step: Tensor, blocks: Blocks, mini_batch: int = 1) -> QuadraticTerms:
    """gᵀδ and ½ Σ_blocks ‖G_b δ_b‖²/N from row chunks (c, d) of G, without damping.

    ``mini_batch`` m multiplies the second term: the Fisher of m-sample means is about m times too small.
    """
    exact = step.to(torch.float64)
    first = second = torch.zeros((), dtype=torch.float64, device=step.device)
    count = 0
    for part in (
        some for piece in rows for some in piece.to(exact.device).split(max(1, CHUNK_BYTES // (8 * len(exact))))
    ):
        count += len(part)
        for run in blocks.runs:
            columns = part[:, run.slice].unflatten(1, (run.count, run.size)).transpose(0, 1).to(torch.float64)
            moved = torch.bmm(columns, exact[run.slice].view(run.count, run.size, 1))
            first = first + moved.sum()
            second = second + moved.square().sum()
    if count == 0:
        raise InputError("predicted loss change: expected at least one gradient row, got none.")
    return QuadraticTerms(float(first) / count, 0.5 * mini_batch * float(second) / count)


def own_quadratic_terms(fisher: Fisher, step: Tensor, mini_batch: int = 1) -> QuadraticTerms:
    """The same on the Fisher's own rows, wherever they are kept."""
    first = second = 0.0
    for moved in fisher.projections(step):
        first += float(moved.sum())
        second += float(moved.square().sum())
    return QuadraticTerms(first / fisher.num_rows, 0.5 * mini_batch * second / fisher.num_rows)
