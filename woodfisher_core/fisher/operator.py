"""The damped, block-diagonal empirical Fisher F = λI + (1/N) GᵀG and its inverse as a linear operator.

Normalisation: N counts the rows of G; λ is added, so that the paper's recursion starts from F₀⁻¹ = λ⁻¹I (Singh &
Alistarh 2020, eq. 7). No B×B matrix is formed where N < B.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from woodfisher_core.errors import InputError
from woodfisher_core.fisher.blocks import Blocks
from woodfisher_core.fisher.dual import Dual
from woodfisher_core.fisher.eigenbasis import EigenbasisSolver
from woodfisher_core.fisher.groups import COMPUTE, Group, Window, groups_of
from woodfisher_core.fisher.joint import joint_steps
from woodfisher_core.fisher.primal import Primal
from woodfisher_core.fisher.spectral import Spectral
from woodfisher_core.options import Solver


class EmpiricalFisher:
    """Gradient rows G (N, d) cut into ``blocks``; makes inverses at any damping and keeps what they share.

    Args:
        rows: (N, d) gradients, never changed; bfloat16, float32 or float64, on any device. Or one wide block of them that is
            read in parts.
        blocks: Partition of the d columns.
        first_block: Number of the first of them, for messages.
        keep_products: Where G is small, keep GᵀG and GGᵀ also of blocks a few times wider than high, and for the spectral
            solver the latter's eigenvectors (together 210 MB at most, of rows in bfloat16 twice that): the first joint step
            then takes longer than alone, all others less.
    """

    def __init__(self, rows: Tensor | Window, blocks: Blocks, first_block: int = 0, keep_products: bool = False):
        self.rows, self.blocks = rows, blocks
        if isinstance(rows, Tensor):
            if rows.ndim != 2 or rows.shape[0] < 1:
                raise InputError(
                    f"gradients: expected a matrix (N, d) with N at least 1, got shape {tuple(rows.shape)}."
                )
            if rows.shape[1] != blocks.dim:
                raise InputError(f"gradients: expected {blocks.dim} columns for these blocks, got {rows.shape[1]}.")
            self.groups = groups_of(rows, blocks, first_block, keep_products)
        else:
            self.groups = [Group(rows, slice(0, blocks.dim), first_block)]
        self._prepared: dict[Solver, list] = {}
        self._projections: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def num_rows(self) -> int:
        """N."""
        return self.rows.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the rows themselves."""
        return self.kept_nbytes + sum(p.nbytes for prepared in self._prepared.values() for p in prepared)

    @property
    def kept_nbytes(self) -> int:
        """Bytes that the groups hold or may come to hold: rows of their own, GᵀG of smaller blocks, GGᵀ with its eigenvectors
        of wider ones whose rows are small, w and Gw of large ones."""
        own = [g for g in self.groups if isinstance(g.columns, Tensor) or g.rows.dtype is not self.rows.dtype]
        blocks = sum(
            g.rows.shape[0]
            * (
                (g.size**2 if g.keeps_covariance else 0)
                + (g.num_rows * (g.num_rows + 2 * g.size + 1) if g.keeps_eigenbasis else 0)
            )
            for g in self.groups
        )
        alone = sum(g.size + g.num_rows for g in self.groups if g.rows.shape[0] == 1 and g.size > g.num_rows)
        return sum(g.rows.nbytes for g in own) + COMPUTE.itemsize * (blocks + alone)

    @cached_property
    def diagonal(self) -> Tensor:
        """diag (1/N) GᵀG, without damping, (d,) float64."""
        return self._by_column(lambda group: group.curvature)

    @cached_property
    def mean(self) -> Tensor:
        """The mean gradient ḡ = (1/N) Σ_n G_n, (d,) float64."""
        return self._by_column(Group.mean)

    @cached_property
    def mean_absolute(self) -> Tensor:
        """(1/N) Σ_n |G_n|, (d,) float64."""
        return self._by_column(Group.mean_absolute)

    def _by_column(self, statistic: Callable[[Group], Tensor]) -> Tensor:
        out = torch.zeros(self.blocks.dim, 1, dtype=COMPUTE, device=self.rows.device)
        for group in self.groups:
            group.put(out, statistic(group).unsqueeze(-1))
        return out.squeeze(1)

    def solver_of(self, group: Group, solver: Solver) -> type:
        """The class that handles ``group`` under the user's choice ``solver``."""
        if solver is Solver.SPECTRAL:
            return EigenbasisSolver if group.keeps_eigenbasis else Spectral
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
        check_damping(damping)
        self.prepare(solver)
        return InverseFisher(self, damping, [prepared.at(damping) for prepared in self._prepared[solver]])

    def diagonals(self, dampings: Sequence[float], solver: Solver = Solver.AUTO) -> Tensor:
        """diag F⁻¹ at every damping, (k, d) float64; with the spectral solver all of them cost one matrix product."""
        for damping in dampings:
            check_damping(damping)
        self.prepare(solver)
        inverses = torch.tensor(dampings, dtype=COMPUTE, device=self.rows.device).reciprocal()
        out = inverses.expand(self.blocks.dim, -1).contiguous()
        for group, prepared in zip(self.groups, self._prepared[solver], strict=True):
            if isinstance(prepared, (Spectral, EigenbasisSolver)):
                found = prepared.diagonals(dampings)
            else:
                found = torch.stack([prepared.at(damping).diagonal() for damping in dampings])
            group.put(out, found.permute(1, 2, 0))
        return out.T

    def projections(self, x: Tensor) -> Iterator[Tensor]:
        """G_b x_b of the blocks b, (count, N) float64 of some blocks at a time; blocks without any gradient are left out."""
        flat = x.to(COMPUTE).unsqueeze(1)
        for group in self.groups:
            yield group.project(group.take(flat)).squeeze(2)

    def entry(self, first: int, second: int) -> float:
        """(1/N) Σ_n G_n,first G_n,second without damping; 0 across blocks."""
        if not self.blocks.together(first, second):
            return 0.0
        if isinstance(self.rows, Tensor):
            columns = self.rows[:, [first, second]]
        else:
            order = sorted({first, second})
            columns = self.groups[0].columns_at(torch.tensor(order, device=self.rows.device))[0]
        exact = columns.to(COMPUTE)
        return float(exact[:, 0] @ exact[:, -1]) / self.num_rows

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d) float64, one for each of k masks (d,): everything outside it goes at once.

        δ_P = −w_P and δ_S = F_SS⁻¹ F_SP w_P, the minimiser of ½δᵀFδ under δ_P = −w_P, within each block. Masks that
        nest, as those of one score do, cost little more than one.
        """
        check_damping(damping)
        keep, exact = torch.stack(list(keeps), dim=1), weights.to(COMPUTE).unsqueeze(1)
        steps = torch.where(keep, 0.0, -exact)
        for number, group in enumerate(self.groups):
            own, stays = group.take(exact), group.take(keep)
            moved = joint_steps(group, own, stays, damping, partial(self._projected, number, own))
            group.put(steps, moved + group.take(steps))
        return steps.T

    def _projected(self, number: int, own: Tensor) -> Tensor:
        """G w (1, N, 1) of a group that is one block; kept for the last w, since other masks and dampings ask for it."""
        kept = self._projections.get(number)
        if kept is None or not torch.equal(kept[0], own):
            kept = own.clone(), self.groups[number].project(own)  # the caller may change their own
            self._projections[number] = kept
        return kept[1]


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
        out = torch.full((self.fisher.blocks.dim, 1), 1.0 / self.damping, dtype=COMPUTE, device=self.fisher.rows.device)
        for group, factor in zip(self.fisher.groups, self._factors, strict=True):
            group.put(out, factor.diagonal().unsqueeze(-1))
        return out.squeeze(1)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x for x of shape (d,) or (d, k)."""
        flat = x.to(COMPUTE).view(len(x), -1)
        out = flat / self.damping
        for group, factor in zip(self.fisher.groups, self._factors, strict=True):
            own = group.take(flat)
            there = own.any(dim=(0, 1)) if own.shape[2] > 1 else None
            if there is None or bool(there.all()):
                group.put(out, factor.apply(own))
            elif bool(there.any()):
                # Unit vectors, say, each of which lies in one block: the others' products would be zero.
                found = torch.zeros_like(own)
                found[:, :, there] = factor.apply(own[:, :, there])
                group.put(out, found)
        return out.view(x.shape)


def check_damping(damping: float) -> None:
    """Raises an InputError unless λ is positive and finite."""
    if not (math.isfinite(damping) and damping > 0):
        raise InputError(f"damping: expected a positive number, got {damping}. A usual value is 1e-3.")
