"""The damped, block-diagonal empirical Fisher F = λI + (1/N) GᵀG and its inverse as a linear operator.

Normalisation: N counts the rows of G; λ is added, so that the paper's recursion starts from F₀⁻¹ = λ⁻¹I (Singh &
Alistarh 2020, eq. 7). No B×B matrix is formed where N < B.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.fisher.blocks import Blocks
from woodfisher_core.fisher.dual import Dual
from woodfisher_core.fisher.groups import COMPUTE, Group, groups_of
from woodfisher_core.fisher.joint import joint_steps
from woodfisher_core.fisher.primal import Primal
from woodfisher_core.fisher.spectral import Spectral
from woodfisher_core.options import Solver


class EmpiricalFisher:
    """Gradient rows G (N, d) cut into ``blocks``; makes inverses at any damping and keeps what they share.

    Args:
        rows: (N, d) gradients, never changed; float32 or float64, on any device.
        blocks: Partition of the d columns.
    """

    def __init__(self, rows: Tensor, blocks: Blocks):
        if rows.ndim != 2 or rows.shape[0] < 1:
            raise InputError(f"gradients: expected a matrix (N, d) with N at least 1, got shape {tuple(rows.shape)}.")
        if rows.shape[1] != blocks.dim:
            raise InputError(f"gradients: expected {blocks.dim} columns for these blocks, got {rows.shape[1]}.")
        self.rows, self.blocks = rows, blocks
        # Column maxima, not comparisons: no temporary of G's size.
        self.active = torch.maximum(rows.amax(0), -rows.amin(0)) > 0
        self.groups = groups_of(rows, blocks, self.active)
        self._prepared: dict[Solver, list] = {}

    @property
    def num_rows(self) -> int:
        """N."""
        return self.rows.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the rows themselves."""
        gathered = sum(g.rows.nbytes for g in self.groups if isinstance(g.columns, Tensor))
        return gathered + sum(p.nbytes for prepared in self._prepared.values() for p in prepared)

    @cached_property
    def diagonal(self) -> Tensor:
        """diag (1/N) GᵀG, without damping, (d,) float64."""
        parts = [part.to(COMPUTE).square().mean(0) for part in self.rows.split(_column_width(self.num_rows), dim=1)]
        return torch.cat(parts)

    def solver_of(self, group: Group, solver: Solver) -> type:
        """The class that handles ``group`` under the user's choice ``solver``."""
        if solver is Solver.SPECTRAL:
            return Spectral
        if solver is Solver.AUTO:
            solver = Solver.DUAL if group.num_rows < group.size else Solver.PRIMAL
        return Dual if solver is Solver.DUAL else Primal

    def prepare(self, solver: Solver = Solver.AUTO) -> None:
        """Computes what every damping shares (Gram matrices, covariances or spectra)."""
        if solver not in self._prepared:
            self._prepared[solver] = [self.solver_of(group, solver)(group) for group in self.groups]

    def is_prepared(self, solver: Solver) -> bool:
        """Whether :meth:`prepare` has been done for ``solver``."""
        return solver in self._prepared

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> "InverseFisher":
        """F⁻¹ at ``damping`` λ > 0."""
        _check_damping(damping)
        self.prepare(solver)
        return InverseFisher(self, damping, [prepared.at(damping) for prepared in self._prepared[solver]])

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d) float64, one for each of k masks (d,): everything outside it goes at once.

        δ_P = −w_P and δ_S = F_SS⁻¹ F_SP w_P, the minimiser of ½δᵀFδ under δ_P = −w_P, within each block. Masks that
        nest, as those of one score do, cost little more than one.
        """
        _check_damping(damping)
        keep = torch.stack(list(keeps), dim=1)
        pruned = torch.where(keep, 0.0, weights.to(COMPUTE).unsqueeze(1))
        steps = -pruned
        for group in self.groups:
            removed = group.take(pruned)
            group.put(steps, joint_steps(group, removed, group.take(keep), damping) - removed)
        return steps.T


class InverseFisher:
    """F⁻¹ at one damping: its diagonal and its product with vectors, float64 on the rows' device."""

    def __init__(self, fisher: EmpiricalFisher, damping: float, factors: list):
        self.fisher, self.damping, self._factors = fisher, damping, factors

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the Fisher's own: the factors made for this damping."""
        return sum(factor.nbytes for factor in self._factors)

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (d,)."""
        out = self.fisher.rows.new_full((self.fisher.blocks.dim, 1), 1.0 / self.damping, dtype=COMPUTE)
        for group, factor in zip(self.fisher.groups, self._factors, strict=True):
            group.put(out, factor.diagonal().unsqueeze(-1))
        return out.squeeze(1)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x for x of shape (d,) or (d, k)."""
        flat = x.to(COMPUTE).view(len(x), -1)
        out = flat / self.damping
        for group, factor in zip(self.fisher.groups, self._factors, strict=True):
            group.put(out, factor.apply(group.take(flat)))
        return out.view(x.shape)


def _check_damping(damping: float) -> None:
    if not (math.isfinite(damping) and damping > 0):
        raise InputError(f"damping: expected a positive number, got {damping}. A usual value is 1e-3.")


def _column_width(num_rows: int) -> int:
    """Columns whose float64 copy stays in cache."""
    return max(1, (1 << 21) // (8 * num_rows))
