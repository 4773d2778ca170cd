"""The inverse of a block from the eigenvectors of its Gram matrix, where many dampings ask a small G for it (N < B).

With GGᵀ = U diag(σ) Uᵀ and R = GᵀU (B, N): (NλI + GGᵀ)⁻¹ = U diag(σ + Nλ)⁻¹ Uᵀ, hence

    F⁻¹ = (1/λ) [I − R diag(σ + Nλ)⁻¹ Rᵀ],   diag F⁻¹ = (1/λ) (1 − Σ_k R_jk² / (σ_k + Nλ)):

after one eigendecomposition a λ costs BN multiply-adds, where a Cholesky factor costs N³/3 and N²B/2. Nothing is divided by a
small σ alone, so that rounding stays near the factor's: of diag F⁻¹, at most 2e-7 at trace(F)/λ = 5e10 over odd spectra, like
the factor's own, though 2e-9 where that has 4e-16 (rows whose norms span ten decades).
"""

from torch import Tensor

from woodfisher_core.fisher.groups import SPECTRUM_LIMIT, Group, check_condition, check_diagonal


class Turning:
    """Spectral solver of a block that :attr:`Group.turns`: makes its inverse at any damping that a spectrum bears."""

    nbytes = 0  # everything is the group's

    def __init__(self, group: Group):
        self.group = group
        self._trace = group.turned.values.sum()

    def at(self, damping: float) -> "TurnedFactor":
        condition = self._trace / (self.group.num_rows * damping)
        check_condition(condition.unsqueeze(0), SPECTRUM_LIMIT, self.group, damping)
        return TurnedFactor(self.group, damping)


class TurnedFactor:
    """That inverse at one damping."""

    nbytes = 0  # everything is the group's

    def __init__(self, group: Group, damping: float):
        self.group, self.damping = group, damping
        self._gains = (group.turned.values + group.num_rows * damping).reciprocal_()

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (1, B)."""
        found = (1.0 - self.group.turned.squares @ self._gains).div_(self.damping)
        return check_diagonal(found.unsqueeze(0), self.group.curvature, self.group, self.damping)

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x, (1, B, k)."""
        columns = self.group.turned.columns
        lifted = columns @ (columns.mT @ x[0]).mul_(self._gains.unsqueeze(1))
        return (x - lifted) / self.damping
