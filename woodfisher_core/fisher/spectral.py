"""Spectral solver: one eigendecomposition of a block serves every damping.

N < B: K = U diag(σ) Uᵀ, V = diag(σ)^{-1/2} Uᵀ G, Q = V∘V and
    diag F⁻¹(λ) = (1/λ) [(1 − Σ_k Q_kj) + Σ_k Q_kj · Nλ/(σ_k + Nλ)],
the sum over σ_k above max(N, B)·eps·σ_1 only (dead units and repeated samples leave zeros).
N ≥ B: GᵀG = W diag(σ) Wᵀ and diag F⁻¹(λ) = Σ_k W_jk² · N/(σ_k + Nλ), where nothing cancels.
"""

import torch
from torch import Tensor

from woodfisher_core.fisher.groups import COMPUTE, SPECTRUM_LIMIT, Group, check_condition, check_diagonal


class Spectral:
    """Eigenvalues, and the squared singular vectors Q as float32 (all terms are positive, so float32 loses nothing)."""

    def __init__(self, group: Group):
        self.group = group
        self.dual = group.num_rows < group.size
        values, self.vectors = torch.linalg.eigh(group.gram() if self.dual else group.covariance())
        self.values = values.clamp_(min=0.0)
        if not self.dual:
            self.curvature = torch.cat([part.square().mean(1) for _, part in group.chunks()], dim=1)
            return
        cutoff = max(group.num_rows, group.size) * torch.finfo(COMPUTE).eps * self.values[:, -1:]
        kept = self.values > cutoff
        scale = torch.where(kept, self.values, torch.inf).rsqrt()
        projector = self.vectors.mT * scale.unsqueeze(-1)
        self.squares = torch.empty_like(group.rows, memory_format=torch.contiguous_format)
        outside, curvature = [], []
        for picked, part in group.chunks():
            curvature.append(part.square().mean(1))
            squared = (projector @ part).square_()
            outside.append(1.0 - squared.sum(1))
            self.squares[:, :, picked] = squared
        # Not clamped at zero: rounding in V near the cutoff enters here and in Q with opposite signs and must cancel.
        self.outside, self.curvature = torch.cat(outside, dim=1), torch.cat(curvature, dim=1)

    @property
    def nbytes(self) -> int:
        held = [self.values, self.vectors, self.curvature]
        return sum(tensor.nbytes for tensor in held) + (self.squares.nbytes + self.outside.nbytes if self.dual else 0)

    def at(self, damping: float) -> "SpectralFactor":
        traces = self.values.sum(-1)
        check_condition(traces / (self.group.num_rows * damping), SPECTRUM_LIMIT, self.group, damping)
        return SpectralFactor(self, damping)


class SpectralFactor:
    """The inverse of a group's blocks at one damping."""

    def __init__(self, spectral: Spectral, damping: float):
        self.spectral, self.damping = spectral, damping
        self.shift = spectral.group.num_rows * damping

    @property
    def nbytes(self) -> int:
        return 0  # everything is the spectrum's

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (count, B)."""
        s = self.spectral
        if s.dual:
            shrink = (self.shift / (s.values + self.shift)).to(s.squares.dtype)
            inverse = (s.outside + (shrink.unsqueeze(1) @ s.squares).squeeze(1)) / self.damping
        else:
            gain = s.group.num_rows / (s.values + self.shift)
            inverse = (s.vectors.square() @ gain.unsqueeze(-1)).squeeze(-1)
        return check_diagonal(inverse, s.curvature, s.group, self.damping)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (count, B, k)."""
        s = self.spectral
        gain = 1.0 / (s.values + self.shift).unsqueeze(-1)
        if not s.dual:
            return s.group.num_rows * (s.vectors @ (gain * (s.vectors.mT @ x)))
        inner = s.vectors @ (gain * (s.vectors.mT @ s.group.project(x)))
        return (x - s.group.lift(inner)) / self.damping
