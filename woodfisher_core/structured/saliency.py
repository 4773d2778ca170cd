"""What it costs to remove everything that makes up a channel at once: the group form of the OBS statistic.

F = λI + (1/N)GᵀG over all of θ as one block, G (N, D) the rows; a channel's places in θ are the set C. Removing θ_C while the
rest moves to the best place costs ½ θ_Cᵀ([F⁻¹]_CC)⁻¹θ_C, the OBS statistic (Hassibi & Stork 1993; Singh & Alistarh 2020, eq. 4)
of several parameters at once. With M = NλI + GGᵀ = LLᵀ and Z = L⁻¹G, [F⁻¹]_CC = (I − Z_CᵀZ_C)/λ, hence on the smaller side

    |C| ≤ N:  ½λ θ_Cᵀ (I − Z_CᵀZ_C)⁻¹ θ_C
    |C| > N:  ½λ (‖θ_C‖² + uᵀ(M − G_C G_Cᵀ)⁻¹u),  u = G_C θ_C
    D ≤ N:    [F⁻¹]_CC read off the D×D inverse itself, where the dual forms would cancel.

With the eigenvectors GGᵀ = UΣUᵀ, Z = (Σ + NλI)^(−1/2) UᵀG does as well: where UᵀG is kept, a new λ costs no N²|C| for groups
with |C| ≤ N.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher.groups import (
    BOUND_SLACK,
    COMPUTE,
    FACTOR_LIMIT,
    SPECTRUM_LIMIT,
    Eigenbasis,
    Group,
    check_condition,
    cholesky,
)
from woodfisher_core.fisher.operator import EmpiricalFisher, check_damping
from woodfisher_core.structured.channels import ChannelGroup

# Bytes of float64 matrices that groups of equal size take together.
BATCH_BYTES = 1 << 26


class Undamped(NamedTuple):
    """What the saliencies of rows G and θ share over dampings, float64.

    ``gram`` is GGᵀ (1, N, N), None where D ≤ N and it has no use; ``pulls`` (num_groups, N) are u = G_C θ_C; ``eigenbasis`` is
    there where the rows' block keeps it.
    """

    gram: Tensor | None
    pulls: Tensor
    eigenbasis: Eigenbasis | None = None


def magnitude_saliency(weights: Tensor, groups: Sequence[ChannelGroup]) -> Tensor:
    """½‖θ_C‖² of every group, (num_groups,) float64: the limit of the Fisher's saliency over λ as λ → ∞."""
    exact = weights.to(COMPUTE)
    return torch.stack([0.5 * exact[group.members.to(exact.device)].square().sum() for group in groups])


def undamped(
    rows: Tensor, weights: Tensor, groups: Sequence[ChannelGroup], fisher: EmpiricalFisher | None = None
) -> Undamped:
    """What :func:`fisher_saliency` makes of rows (N, D) and θ (D,) before it looks at the damping; InputError as there.

    ``fisher`` of these rows as one block, where it keeps their eigenvectors, spares each damping N²|C| multiply-adds a group.
    """
    _check_fit(rows, weights)
    theta = weights.to(COMPUTE)
    pulls = torch.empty(len(groups), rows.shape[0], dtype=COMPUTE, device=rows.device)
    for numbers, places in _together(groups, rows.shape[0], rows.device):
        pulls[numbers] = _pulls(rows, theta[places], places)
    block = _block(rows)
    if block.size <= block.num_rows:
        return Undamped(None, pulls)
    kept = [group for group in (fisher.groups if fisher else ()) if group.keeps_eigenbasis]
    return Undamped(kept[0].kept_gram, pulls, kept[0].eigenbasis) if kept else Undamped(block.gram(), pulls)


def fisher_saliency(
    rows: Tensor, weights: Tensor, groups: Sequence[ChannelGroup], damping: float, known: Undamped | None = None
) -> Tensor:
    """½ θ_Cᵀ([F⁻¹]_CC)⁻¹θ_C of every group C, (num_groups,) float64 in nats.

    With rows that are means over m samples, F is about m times too small, and so is its part of the saliency.

    Args:
        rows: G (N, D), in any floating type; read a few groups' columns at a time, N²Σ|C| multiply-adds in all.
        weights: θ (D,).
        groups: Which places of θ go together.
        damping: λ > 0.
        known: :func:`undamped` of these rows, θ and groups, where it is kept.

    Raises:
        InputError: λ is not positive, or rows and θ do not fit; NumericalError: λ is too small for float64.
    """
    check_damping(damping)
    _check_fit(rows, weights)
    gram, all_pulls, eigenbasis = known or undamped(rows, weights, groups)
    block = _block(rows)
    primal = block.size <= block.num_rows
    if primal:
        check_condition(block.traces / damping, FACTOR_LIMIT, block, damping)
        shifted = block.covariance() / block.num_rows
        shifted.diagonal(dim1=-2, dim2=-1).add_(damping)
        inverse = torch.cholesky_inverse(cholesky(shifted, block, damping))[0]
    else:
        shifted = gram.clone()
        condition = shifted.diagonal(dim1=-2, dim2=-1).sum(-1) / block.num_rows / damping
        check_condition(condition, FACTOR_LIMIT, block, damping)
        shifted.diagonal(dim1=-2, dim2=-1).add_(block.num_rows * damping)
        if eigenbasis is None or float(condition) > SPECTRUM_LIMIT:
            factor = cholesky(shifted, block, damping)[0]
            whiten = partial(_by_factor, factor, rows)
        else:
            whiten = partial(_by_spectrum, eigenbasis, block.num_rows * damping)
    theta = weights.to(COMPUTE)
    found = torch.empty(len(groups), dtype=COMPUTE, device=rows.device)
    for numbers, places in _together(groups, block.num_rows, rows.device):
        own = theta[places]
        pulls = all_pulls[numbers]
        if primal:
            part = inverse[places.unsqueeze(2), places.unsqueeze(1)]
            cost = 0.5 * _quadratic(part, own, groups, numbers, damping)
        elif places.shape[1] <= block.num_rows:
            part = _complement(whiten(places))
            cost = 0.5 * damping * _quadratic(part, own, groups, numbers, damping)
        else:
            part = shifted - _grams(rows, places)
            cost = own.square().sum(1) + _quadratic(part, pulls, groups, numbers, damping)
            cost = 0.5 * damping * cost
        # Between what the group costs where the rest moves freely at the price λ alone, and where it stays: exact bounds.
        low = 0.5 * damping * own.square().sum(1)
        high = low + 0.5 * pulls.square().sum(1) / block.num_rows
        wrong = ~((cost >= low * (1 - BOUND_SLACK)) & (cost <= high * (1 + BOUND_SLACK)))
        if wrong.any():
            raise _singular(groups[numbers[int(wrong.nonzero()[0])]], damping)
        found[numbers] = cost
    return found


def _check_fit(rows: Tensor, weights: Tensor) -> None:
    if rows.ndim != 2 or weights.shape != rows.shape[1:]:
        raise InputError(
            f"channel saliency: expected rows (N, D) and θ (D,), got {tuple(rows.shape)} and {tuple(weights.shape)}."
        )


def _block(rows: Tensor) -> Group:
    """All of θ."""
    return Group(rows.unsqueeze(0), slice(0, rows.shape[1]), 0)


def _together(
    groups: Sequence[ChannelGroup], num_rows: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """(numbers of groups of one size |C|, their places (count, |C|)), as many as the batch has room for."""
    sizes: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        sizes.setdefault(len(group.members), []).append(number)
    for size, numbers in sizes.items():
        count = max(1, BATCH_BYTES // (8 * num_rows * min(size, num_rows)))
        for start in range(0, len(numbers), count):
            some = numbers[start : start + count]
            yield some, torch.stack([groups[number].members for number in some]).to(device)


def _pieces(rows: Tensor, places: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(places of each group, G's columns there (count, N, c) float64), a bounded number of bytes at a time."""
    width = max(1, BATCH_BYTES // (8 * rows.shape[0] * places.shape[0]))
    for start in range(0, places.shape[1], width):
        some = places[:, start : start + width]
        columns = rows.index_select(1, some.reshape(-1)).to(COMPUTE)
        yield slice(start, start + some.shape[1]), columns.unflatten(1, some.shape).transpose(0, 1)


def _pulls(rows: Tensor, own: Tensor, places: Tensor) -> Tensor:
    """u = G_C θ_C, (count, N)."""
    total = own.new_zeros(len(places), rows.shape[0])
    for part, columns in _pieces(rows, places):
        total += (columns @ own[:, part].unsqueeze(2)).squeeze(2)
    return total


def _grams(rows: Tensor, places: Tensor) -> Tensor:
    """G_C G_Cᵀ, (count, N, N)."""
    total = torch.zeros(len(places), len(rows), len(rows), dtype=COMPUTE, device=rows.device)
    for _, columns in _pieces(rows, places):
        total.baddbmm_(columns, columns.mT)
    return total


def _by_factor(factor: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Z_Cᵀ of L, (count, |C|, N)."""
    columns = rows.index_select(1, places.reshape(-1)).to(COMPUTE)
    return torch.linalg.solve_triangular(factor, columns, upper=False).mT.unflatten(0, places.shape)


def _by_spectrum(eigenbasis: Eigenbasis, shift: float, places: Tensor) -> Tensor:
    """Z_Cᵀ of the eigenvectors, (count, |C|, N); ``shift`` is Nλ."""
    return eigenbasis.columns[places].mul_((eigenbasis.values + shift).rsqrt())


def _complement(whitened: Tensor) -> Tensor:
    """I − Z_CᵀZ_C, (count, |C|, |C|), of Z_Cᵀ."""
    part = -(whitened @ whitened.mT)
    part.diagonal(dim1=-2, dim2=-1).add_(1.0)
    return part


def _quadratic(
    matrices: Tensor, vectors: Tensor, groups: Sequence[ChannelGroup], numbers: list[int], damping: float
) -> Tensor:
    """xᵀA⁻¹x of each of (count, n, n) and (count, n), (count,)."""
    factors, info = torch.linalg.cholesky_ex(matrices)
    if info.any():
        raise _singular(groups[numbers[int(info.nonzero()[0])]], damping)
    half = torch.linalg.solve_triangular(factors, vectors.unsqueeze(2), upper=False)
    return half.square().sum((1, 2))


def _singular(group: ChannelGroup, damping: float) -> NumericalError:
    return NumericalError(
        f"channel {group.index} of {group.name} ({len(group.members)} parameters): the inverse Fisher of its parameters is "
        f"numerically singular at damping {damping:.3g}: rounding has won. Use a damping ten times as large, or fewer samples."
    )
