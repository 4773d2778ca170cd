"""What any quadratic model of the loss offers a pruning method, whatever it is made from."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from woodfisher_core.options import Solver


class InverseCurvature(Protocol):
    """The inverse of a damped curvature: its diagonal and its product with vectors, float64."""

    @property
    def nbytes(self) -> int:
        """Bytes it holds."""

    def diagonal(self) -> Tensor:
        """(d,)."""

    def apply(self, x: Tensor) -> Tensor:
        """Its product with x of shape (d,) or (d, k)."""


class Curvature(Protocol):
    """A symmetric, block-diagonal d × d matrix H ≥ 0 to which a damping λ is added: ½δᵀ(H + λI)δ models the loss."""

    @property
    def nbytes(self) -> int:
        """Bytes it holds."""

    @property
    def diagonal(self) -> Tensor:
        """diag H, undamped, (d,) float64."""

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> InverseCurvature:
        """(H + λI)⁻¹."""

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d) float64, one for each of k masks: δ_P = −w_P, δ_S minimises ½δᵀ(H + λI)δ."""
