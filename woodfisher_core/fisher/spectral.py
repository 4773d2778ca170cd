"""Spectral solver: one eigendecomposition of a block serves every damping.

N < B: K = U diag(σ) Uᵀ, V = diag(σ)^{-1/2} Uᵀ G, Q = V∘V and
    diag F⁻¹(λ) = (1/λ) [(1 − Σ_k Q_kj) + Σ_k Q_kj · Nλ/(σ_k + Nλ)],
the sum over σ_k above max(N, B)·eps·σ_1 only (dead units and repeated samples leave zeros).
N ≥ B: GᵀG = W diag(σ) Wᵀ and diag F⁻¹(λ) = Σ_k W_jk² · N/(σ_k + Nλ), where nothing cancels.

K and V come from float32 products where the bound of ``precision`` allows it at the damping asked for, else from float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import COMPUTE, SPECTRUM_LIMIT, TILE, Group, check_condition, check_diagonal
from woodfisher_core.fisher.precision import SINGLE, TOLERANCE, SingleBound, refined, single_helps


class Spectral:
    """The spectra of a group's blocks in one precision or, where small dampings ask for it, in both."""

    def __init__(self, group: Group):
        self.group = group
        self.dual = group.num_rows < group.size
        self.precisions = (SINGLE, COMPUTE) if self.dual and single_helps(group) else (COMPUTE,)
        self._spectra: dict[torch.dtype, DualSpectrum | PrimalSpectrum] = {}
        # Smallest damping at which float32 was found good enough, largest at which not: the bound is monotone in λ.
        self._good, self._bad = float("inf"), 0.0
        self.spectrum(self.precisions[0])

    @property
    def nbytes(self) -> int:
        return sum(spectrum.nbytes for spectrum in self._spectra.values())

    def at(self, damping: float) -> "SpectralFactor":
        traces = self.spectrum(self.precisions[0]).values.sum(-1)
        check_condition(traces / (self.group.num_rows * damping), SPECTRUM_LIMIT, self.group, damping)
        return SpectralFactor(self, damping)

    def for_damping(self, damping: float) -> "DualSpectrum | PrimalSpectrum":
        """The spectrum good enough at λ = ``damping``."""
        first = self.spectrum(self.precisions[0])
        if self.precisions[0] is COMPUTE or damping >= self._good:
            return first
        if damping > self._bad:
            if first.error(damping) <= TOLERANCE:
                self._good = damping
                return first
            self._bad = damping
        return self.spectrum(COMPUTE)

    def diagonals(self, dampings: Sequence[float]) -> Tensor:
        """diag F⁻¹ at every damping, (k, count, B) float64: one matrix product for all that share a spectrum."""
        for damping in dampings:
            self.at(damping)
        of = [self.for_damping(damping) for damping in dampings]
        count, _, size = self.group.rows.shape
        out = torch.empty(len(dampings), count, size, dtype=COMPUTE, device=self.group.rows.device)
        for spectrum in dict.fromkeys(of):
            mine = [i for i, owner in enumerate(of) if owner is spectrum]
            found = spectrum.diagonals([dampings[i] for i in mine])
            for i, diagonal in zip(mine, found.unbind(1), strict=True):
                out[i] = check_diagonal(diagonal, spectrum.curvature, self.group, dampings[i])
        return out

    def spectrum(self, precision: torch.dtype) -> "DualSpectrum | PrimalSpectrum":
        """The spectrum from products in ``precision``."""
        if precision not in self._spectra:
            make = DualSpectrum if self.dual else PrimalSpectrum
            self._spectra[precision] = make(self.group, precision)
        return self._spectra[precision]


class DualSpectrum:
    """Eigenvalues of K, and the squared singular vectors Q as float32 (all terms are positive: float32 loses nothing)."""

    def __init__(self, group: Group, precision: torch.dtype):
        self.group, self.precision = group, precision
        gram = group.gram(precision)
        self.norms = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
        values, self.vectors = torch.linalg.eigh(gram)
        self.values = values.clamp_(min=0.0)
        cutoff = max(group.num_rows, group.size) * torch.finfo(COMPUTE).eps * self.values[:, -1:]
        scale = torch.where(self.values > cutoff, self.values, torch.inf).rsqrt()
        projector = (self.vectors.mT * scale.unsqueeze(-1)).to(precision)
        self.squares = torch.empty(group.rows.shape, dtype=SINGLE, device=gram.device)
        outside, curvature = [], []
        for picked, part in group.chunks(precision):
            if precision is SINGLE:
                vectors = torch.bmm(projector, part, out=self.squares[:, :, picked])
                outside.append(1.0 - _norms(vectors))
                vectors.square_()
            else:
                squared = (projector @ part).square_()
                outside.append(1.0 - squared.sum(1))
                self.squares[:, :, picked] = squared
                curvature.append(torch.linalg.vecdot(part, part, dim=1) / group.num_rows)
        # Not clamped at zero: rounding in V near the cutoff enters here and in Q with opposite signs and must cancel.
        self.outside = torch.cat(outside, dim=1)
        # For the exact bounds; what came from float32 is held against its own instead.
        self.curvature = torch.cat(curvature, dim=1) if curvature else None

    @property
    def nbytes(self) -> int:
        held = (self.values, self.vectors, self.norms, self.curvature, self.squares, self.outside)
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def diagonals(self, dampings: Sequence[float]) -> Tensor:
        """diag F⁻¹, (count, k, B) float64, unchecked."""
        shifts = self.group.num_rows * torch.tensor(dampings, dtype=COMPUTE, device=self.values.device).unsqueeze(1)
        shrink = (shifts / (self.values.unsqueeze(1) + shifts)).to(SINGLE)
        inverse = torch.bmm(shrink, self.squares).to(COMPUTE) + self.outside.unsqueeze(1)
        return inverse.mul_(self.group.num_rows / shifts)

    def error(self, damping: float) -> float:
        """The bound on the relative error of diag F⁻¹ where everything here came from float32 products."""
        shift = self.group.num_rows * damping
        bound = SingleBound((self.values + shift).rsqrt().unsqueeze(-1) * self.vectors.mT * self.norms.unsqueeze(1))
        leverage = (1.0 - damping * self.diagonals([damping])[:, 0]).clamp_(min=0.0)
        return float((bound.gram(leverage) + bound.product(leverage)).max())


def _norms(vectors: Tensor) -> Tensor:
    """Σ_k V_kj², (count, c) float64, of float32 V (count, N, c)."""
    total = vectors.new_zeros(vectors.shape[0], vectors.shape[2], dtype=COMPUTE)
    for some in vectors.split(TILE, dim=1):
        total += torch.linalg.vecdot(some, some, dim=1)
    return total


class PrimalSpectrum:
    """Eigenvalues and eigenvectors of GᵀG."""

    def __init__(self, group: Group, precision: torch.dtype):
        self.group, self.precision = group, precision
        values, self.vectors = torch.linalg.eigh(group.covariance())
        self.values = values.clamp_(min=0.0)
        self.curvature = group.curvature

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.values, self.vectors, self.curvature))

    def diagonals(self, dampings: Sequence[float]) -> Tensor:
        """diag F⁻¹, (count, k, B) float64, unchecked."""
        shifts = self.group.num_rows * torch.tensor(dampings, dtype=COMPUTE, device=self.values.device).unsqueeze(1)
        gain = self.group.num_rows / (self.values.unsqueeze(1) + shifts)
        return gain @ self.vectors.square().mT


class SpectralFactor:
    """The inverse of a group's blocks at one damping."""

    nbytes = 0  # everything is the spectrum's

    def __init__(self, spectral: Spectral, damping: float):
        self.spectral, self.damping = spectral, damping

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (count, B)."""
        return self.spectral.diagonals([self.damping])[0]

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (count, B, k)."""
        group, shift = self.spectral.group, self.spectral.group.num_rows * self.damping
        spectrum = self.spectral.for_damping(self.damping)
        if not self.spectral.dual:
            return group.num_rows * _solve(spectrum, x, shift)
        target = group.project(x)
        lifted = None
        if spectrum.precision is SINGLE:
            lifted = refined(group, lambda right: _solve(spectrum, right, shift), target, shift)
        if lifted is None:
            lifted = group.lift(_solve(self.spectral.spectrum(COMPUTE), target, shift))
        return (x - lifted) / self.damping


def _solve(spectrum: "DualSpectrum | PrimalSpectrum", right: Tensor, shift: float) -> Tensor:
    """U (σ + Nλ)⁻¹ Uᵀ r."""
    gain = 1.0 / (spectrum.values + shift).unsqueeze(-1)
    return spectrum.vectors @ (gain * (spectrum.vectors.mT @ right))
