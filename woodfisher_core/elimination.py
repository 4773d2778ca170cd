"""Exact Optimal Brain Surgeon on one quadratic model: the cheapest weight goes, all others move, then the next is chosen.

The model is ½ δᵀMδ in nats for a step δ from the given weights, M = H + λI, no first-order term. With A = (M_SS)⁻¹ over the
survivors S and w their present values (Hassibi & Stork 1993, eq. 5; Frantar & Alistarh 2022, Lemma 1):

    q = argmin ½ w_q²/A_qq,    w ← w − A_:q w_q/A_qq,    A ← A − A_:q A_q:/A_qq.

At any moment the survivors are where the exact joint step of all removed weights would put them, and the costs paid so far add
up to the quadratic's rise. ``STEPS`` downdates of A are made together, as one matrix product on the rows that are left.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from woodfisher_core.errors import InputError, NumericalError

COMPUTE = torch.float64
# Downdates made together: fewer read A more often, more make each weight's own column dearer.
STEPS = 64
# With the matrix at hand, A is inverted anew when this share of the survivors is left since the last time: half a d×d inversion
# in all. Without, rounding adds up to about 1e-8 of the weights at condition 1e12 (measured at d = 3,000), with it to 1e-14.
SHRUNK = 0.7
# ‖(MA − I)z‖/‖z‖ beyond which A is the inverse of another matrix.
FOREIGN = 0.1
# Largest condition number (of the 1-norm) at which a float64 inverse is accepted; as for the Fisher's factorisations.
CONDITION_LIMIT = 1e12


@dataclass(frozen=True)
class Snapshot:
    """The network when some weights are gone.

    ``keep`` (d,) bool; ``weights`` (d,) float64, exact zeros where removed; ``cost`` (d,) float64 in nats, what the removal of a
    weight cost when it went, or would cost next if it is still there; ``order`` the removed weights, first to last.
    """

    keep: Tensor
    weights: Tensor
    cost: Tensor
    order: Tensor

    @property
    def loss_rise(self) -> float:
        """½ δᵀMδ of the whole step in nats, the sum of what was paid; λ‖δ‖²/2 is part of it."""
        return float(self.cost[self.order].sum())


def damped(hessian: Tensor, damping: float) -> Tensor:
    """H + λI in float64, (d, d), a new matrix."""
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1]:
        raise InputError(f"Hessian: expected a square matrix, got shape {tuple(hessian.shape)}.")
    if not (math.isfinite(damping) and damping >= 0):
        raise InputError(f"damping: expected a number from 0, got {damping}. A usual value is 1e-2.")
    matrix = hessian.to(COMPUTE, copy=True)
    matrix.diagonal().add_(damping)
    return matrix


def damped_inverse(hessian: Tensor, damping: float) -> Tensor:
    """(H + λI)⁻¹ of a symmetric H (d, d), float64, by Cholesky.

    Raises:
        NumericalError: H + λI is not positive definite, as the Hessian of a network often is not without damping, or too
            ill conditioned for float64; names the smallest eigenvalue of H and a damping that works.
    """
    matrix = damped(hessian, damping)
    if matrix.numel() and not torch.stack(torch.aminmax(matrix)).isfinite().all():
        raise NumericalError("Hessian: NaN or infinite values. Check the weights, the inputs and the loss.")
    factor, info = torch.linalg.cholesky_ex(matrix)
    if not info:
        inverse = torch.cholesky_inverse(factor)
        condition = float(torch.linalg.matrix_norm(matrix, 1) * torch.linalg.matrix_norm(inverse, 1))
        if condition <= CONDITION_LIMIT:
            return inverse
        trouble = f"its condition number {condition:.1e} is beyond float64's {CONDITION_LIMIT:.0e}"
    else:
        trouble = "it is not positive definite"
    smallest = float(torch.linalg.eigvalsh(hessian.to(COMPUTE))[0])
    # ‖M⁻¹‖₁ ≤ √d/λ_min(M), so that this gap keeps the condition number below its limit.
    gap = 2.0 * len(hessian) ** 0.5 * float(torch.linalg.matrix_norm(hessian.to(COMPUTE), 1)) / CONDITION_LIMIT
    enough = 1.1 * max(-smallest, 0.0) + gap
    raise NumericalError(
        f"Hessian ({len(hessian)} weights) cannot be inverted at damping {damping:.3g}: {trouble}. Its smallest eigenvalue "
        f"without damping is {smallest:.3g}. Use a damping of at least {1.1 * enough or 1e-8:.1e}."
    )


def eliminate(
    inverse: Tensor,
    weights: Tensor,
    counts: Sequence[int | Sequence[int]],
    *,
    matrix: Tensor | None = None,
    allowed: Tensor | None = None,
    ranges: Sequence[slice] | None = None,
) -> Iterator[Snapshot]:
    """One :class:`Snapshot` a count, in the order asked, all from one elimination, whatever their order.

    Args:
        inverse: (d, d) float64, M⁻¹ (:func:`damped_inverse`); left as it is.
        weights: (d,), any floating type. Zeros cost nothing, so what was pruned before goes first.
        counts: How many weights are left, each from 0 to d; or, with ``ranges``, how many of each range.
        matrix: (d, d), M itself (:func:`damped`). With it A is inverted anew now and then and the survivors are set right
            again, for a fifth more time: worth it from condition numbers of about 1e8.
        allowed: (d,) bool, False for weights that must stay (they still move); all may go by default.
        ranges: Disjoint slices with counts of their own (layers); weights outside all of them stay. The cheapest weight of
            the range with the largest share left goes next, so that counts of equal shares are met on the way and what
            else is asked changes nothing. Without ranges it is the cheapest of all. Among equals the last goes.

    Raises:
        InputError: Shapes or counts that do not fit, counts of ranges that do not nest, or an inverse of another matrix.
        NumericalError: A diagonal entry of A is no longer positive.
    """
    dim = len(weights)
    if weights.ndim != 1 or not torch.isfinite(weights).all():
        raise InputError(f"weights: expected a flat vector of finite numbers, got shape {tuple(weights.shape)}.")
    for name, given in (("inverse", inverse), ("matrix", matrix)):
        if given is not None and given.shape != (dim, dim):
            raise InputError(f"{name}: expected shape ({dim}, {dim}) for {dim} weights, got {tuple(given.shape)}.")
    if matrix is not None:
        _check_inverse(inverse, matrix)
    closed = torch.zeros(dim, dtype=torch.bool, device=inverse.device)
    if allowed is not None:
        if allowed.shape != (dim,):
            raise InputError(f"allowed: expected shape ({dim},), got {tuple(allowed.shape)}.")
        closed |= ~allowed.to(inverse.device)
    parts = [slice(0, dim)] if ranges is None else list(ranges)
    wanted = [(count,) if ranges is None else tuple(count) for count in counts]
    _check_counts(wanted, parts, closed, dim)
    return _in_order(wanted, _Surgeon(inverse, weights, matrix, closed, parts))


def _check_inverse(inverse: Tensor, matrix: Tensor) -> None:
    """One product with random signs tells another matrix's inverse, or one without the damping."""
    signs = torch.randint(0, 2, (len(inverse),), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    signs = signs.to(inverse.device, COMPUTE)
    off = matrix.to(signs) @ (inverse.to(signs) @ signs) - signs
    off = float(torch.linalg.norm(off) / torch.linalg.norm(signs)) if len(signs) else 0.0
    if not off <= FOREIGN:
        raise InputError(
            f"inverse: expected that of the given matrix (damping included), but their product is {off:.1g} off the identity."
        )


def _check_counts(wanted: Sequence[tuple[int, ...]], parts: Sequence[slice], closed: Tensor, dim: int) -> None:
    edges = [0, *(edge for part in sorted(parts, key=lambda part: part.start) for edge in (part.start, part.stop)), dim]
    if edges != sorted(edges):
        raise InputError(f"ranges: expected disjoint slices of 0 to {dim}, got {parts}.")
    for count in wanted:
        if len(count) != len(parts):
            raise InputError(f"counts: expected one number for each of {len(parts)} ranges, got {len(count)}.")
        for left, part in zip(count, parts, strict=True):
            stay, size = int(closed[part].sum()), part.stop - part.start
            if not stay <= left <= size:
                raise InputError(
                    f"counts: expected from {stay} (the weights that must stay) to {size} weights left in positions "
                    f"{part.start} to {part.stop - 1}, got {left}."
                )
    nested = sorted(wanted, key=sum, reverse=True)
    for more, fewer in itertools.pairwise(nested):
        if any(a < b for a, b in zip(more, fewer, strict=True)):
            raise InputError(
                f"counts: expected each range to lose weights in step with the others, got {more} and {fewer}."
            )


def _in_order(wanted: Sequence[tuple[int, ...]], surgeon: "_Surgeon") -> Iterator[Snapshot]:
    """Goes through the counts from most to fewest and hands out each when it was asked for."""
    ahead = iter(sorted(set(wanted), key=sum, reverse=True))
    taken: dict[tuple[int, ...], Snapshot] = {}
    for count in wanted:
        while count not in taken:
            following = next(ahead)
            surgeon.reduce_to(following)
            taken[following] = surgeon.snapshot()
        yield taken[count]


class _Surgeon:
    """A, w and the order of removal; A is ``inverse`` less the downdates uuᵀ that wait in ``rows``, over ``alive`` weights."""

    def __init__(self, inverse: Tensor, weights: Tensor, matrix: Tensor | None, closed: Tensor, parts: Sequence[slice]):
        device, dim = inverse.device, len(weights)
        self.start = weights.to(device, COMPUTE)
        self.matrix = None if matrix is None else matrix.to(device, COMPUTE)
        self.inverse = inverse.to(COMPUTE, copy=True)
        self.alive = torch.arange(dim, device=device)
        self.weights, self.diagonal = self.start.clone(), self.inverse.diagonal().clone()
        self.parts, self.left = parts, [part.stop - part.start for part in parts]
        self.paid = torch.zeros(dim, dtype=COMPUTE, device=device)
        self.order: list[int] = []
        # +∞ where a weight may not go, or has gone.
        self.barred = torch.zeros(dim, dtype=COMPUTE, device=device).masked_fill_(closed, math.inf)
        self.rows = torch.empty(STEPS, dim, dtype=COMPUTE, device=device)
        self.dropped: list[int] = []  # positions among ``alive`` whose downdates wait
        self.inverted_at = dim
        self._locate()

    def reduce_to(self, counts: Sequence[int]) -> None:
        """Removes weights until every range has its count left."""
        while any(left > count for left, count in zip(self.left, counts, strict=True)):
            above = [i for i, count in enumerate(counts) if self.left[i] > count]
            index = max(above, key=lambda i: (self.left[i] / (self.parts[i].stop - self.parts[i].start), -i))
            self._remove(self.bounds[index])
            self.left[index] -= 1

    def snapshot(self) -> Snapshot:
        """The present state; changes nothing in it."""
        gone = torch.tensor(self.order, dtype=torch.int64, device=self.alive.device)
        keep = torch.ones(len(self.start), dtype=torch.bool, device=self.alive.device)
        keep[gone] = False
        cost = torch.where(keep, self._spread(0.5 * self.weights.square() / self.diagonal), self.paid)
        return Snapshot(keep, self._spread(self.weights), cost, gone)

    def _remove(self, bounds: tuple[int, int]) -> None:
        """Removes the cheapest weight at positions [first, stop) of ``alive``."""
        some = slice(*bounds)
        costs = 0.5 * self.weights[some].square() / self.diagonal[some] + self.barred[some]
        q = bounds[1] - 1 - int(costs.flip(0).argmin())
        waiting = self.rows[: len(self.dropped)]
        column = self.inverse[q] - waiting[:, q] @ waiting
        column[self.dropped] = 0.0
        pivot, weight = float(column[q]), float(self.weights[q])
        if not (pivot > 0 and math.isfinite(weight)):
            cure = "a larger damping" if self.matrix is not None else "a larger damping, or give the matrix too"
            raise NumericalError(
                f"elimination: after {len(self.order)} weights [A]_qq came out as {pivot:.3g}; expected it positive. Use {cure}."
            )
        where = int(self.alive[q])
        self.paid[where] = 0.5 * weight**2 / pivot
        self.order.append(where)
        row = torch.mul(column, pivot**-0.5, out=self.rows[len(self.dropped)])
        self.dropped.append(q)
        self.weights.add_(column, alpha=-weight / pivot)
        self.diagonal.addcmul_(row, row, value=-1.0)
        self.barred[q], self.diagonal[q], self.weights[q] = math.inf, 1.0, 0.0
        if len(self.dropped) == STEPS:
            self._compact()

    def _compact(self) -> None:
        """Makes the downdates that wait, on the rows and columns that are left."""
        stays = torch.ones_like(self.alive, dtype=torch.bool)
        stays[self.dropped] = False
        stay = stays.nonzero().squeeze(1)
        self.alive, self.weights, self.barred = self.alive[stay], self.weights[stay], self.barred[stay]
        if self.matrix is not None and len(stay) <= SHRUNK * self.inverted_at:
            self._invert_anew()
        else:
            rows = self.rows[: len(self.dropped), stay]
            self.inverse = self.inverse[stay][:, stay].addmm_(rows.T, rows, alpha=-1.0)
        self.dropped, self.rows = [], self.rows.new_empty(STEPS, len(stay))
        self.diagonal = self.inverse.diagonal().clone()
        self._locate()

    def _invert_anew(self) -> None:
        """A from the survivors' part of M, and by it the weights at which the survivors' gradient is zero."""
        factor, info = torch.linalg.cholesky_ex(self.matrix[self.alive][:, self.alive])
        if info:
            raise NumericalError(
                f"elimination: the matrix of {len(self.alive)} survivors is not positive definite. Use a larger damping."
            )
        self.inverse, self.inverted_at = torch.cholesky_inverse(factor), len(self.alive)
        gradient = (self.matrix @ (self._spread(self.weights) - self.start))[self.alive]
        self.weights -= torch.cholesky_solve(gradient.unsqueeze(1), factor).squeeze(1)

    def _spread(self, values: Tensor) -> Tensor:
        """Values of the survivors at their places in the flat vector, zero elsewhere."""
        return torch.zeros_like(self.start).index_copy_(0, self.alive, values)

    def _locate(self) -> None:
        """Where each range lies among the survivors, which keep their order."""
        edges = torch.tensor([[part.start, part.stop] for part in self.parts], device=self.alive.device)
        self.bounds = [tuple(pair) for pair in torch.searchsorted(self.alive, edges).tolist()]
