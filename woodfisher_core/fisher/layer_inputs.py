"""Layer-wise least squares as a curvature: what a change of a layer's weights does to that layer's own outputs.

½ Σ_t ‖ΔW a_t‖² a sample, averaged over samples, is ½δᵀHδ with H = I_out ⊗ A, A the second moment of the layer's inputs: every row
of the weight has the same Hessian (L-OBS: Dong et al. 2017, eq. 7; OBC: Frantar & Alistarh 2022, section 3). Its unit is squared
output error, not nats, so values of different layers do not compare. λ is added to the diagonal: H + λI = I_out ⊗ (A + λI).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from woodfisher_core.activations import Factors
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher.groups import COMPUTE, FACTOR_LIMIT
from woodfisher_core.fisher.operator import check_damping
from woodfisher_core.fisher.subsets import batches, gathered, packed, solve
from woodfisher_core.options import Solver
from woodfisher_core.parameters import Layer, PrunableParameters


class LayerInputs:
    """The second moments ``factors`` of every layer's inputs, as the curvature of its squared output error."""

    def __init__(self, factors: Sequence[Factors], parameters: PrunableParameters):
        check_factors(factors, parameters)
        self.factors, self.parameters = tuple(factors), parameters

    @property
    def num_rows(self) -> int:
        """N, the number of samples."""
        return self.factors[0].num_samples

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(own.inputs.nbytes for own in self.factors)

    @cached_property
    def diagonal(self) -> Tensor:
        """diag H without damping, (d,) float64: the mean square of each weight's input."""
        return torch.cat([spread(own.inputs.diagonal(dim1=1, dim2=2), layer) for layer, own in self._layers()])

    def is_prepared(self, solver: Solver) -> bool:
        """Always: dampings share nothing beyond the factors."""
        return True

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> "LayerInputsInverse":
        """(H + λI)⁻¹ at ``damping`` λ > 0; there is one way to solve it, whatever ``solver`` says.

        Raises:
            NumericalError: λ is too small for float64; the message names one that works.
        """
        return LayerInputsInverse(self, damping, [self._cholesky(*pair, damping) for pair in self._layers()])

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d) float64, one for each of k masks (d,): each row's damped least squares.

        δ_P = −w_P and δ_S = (A + λI)_SS⁻¹ A_SP w_P in every row of every layer, through whichever is smaller of its survivors S
        and its pruned P: with B = (A + λI)⁻¹, δ_S = −B_SP (B_PP)⁻¹ w_P (Kurtic et al. 2022, eq. 4).
        """
        keep = torch.stack(list(keeps))
        steps = torch.where(keep, 0.0, -weights.to(COMPUTE))
        for layer, own in self._layers():
            factor = self._cholesky(layer, own, damping)
            refusal = ill_conditioned(layer, damping, _condition(own, damping))
            # (k, groups, out, in) → (groups, k × out, in): the rows of all masks are problems alike.
            shape = (len(keep), len(own.inputs), -1, own.inputs.shape[1])
            removed, stays = (x[:, layer.slice].view(shape).transpose(0, 1).flatten(1, 2) for x in (steps, keep))
            found = _row_steps(own.inputs, factor, damping, removed, stays, refusal)
            steps[:, layer.slice] = found.unflatten(1, (len(keep), -1)).transpose(0, 1).reshape(len(keep), -1)
        return steps

    def _layers(self) -> Iterator[tuple[Layer, Factors]]:
        return zip(self.parameters.layers, self.factors, strict=True)

    def _cholesky(self, layer: Layer, own: Factors, damping: float) -> Tensor:
        """Lower factors of A + λI, (groups, in, in)."""
        check_damping(damping)
        condition = _condition(own, damping)
        shifted = own.inputs.clone()
        shifted.diagonal(dim1=1, dim2=2).add_(damping)
        factors, info = torch.linalg.cholesky_ex(shifted)
        if condition > FACTOR_LIMIT or info.any():
            raise ill_conditioned(layer, damping, condition)
        return factors


class LayerInputsInverse:
    """(H + λI)⁻¹ at one damping; ``factors`` are the lower Cholesky factors (groups, in, in) of A + λI, one a layer."""

    def __init__(self, curvature: LayerInputs, damping: float, factors: Sequence[Tensor]):
        self.curvature, self.damping, self.factors = curvature, damping, tuple(factors)

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the curvature's own."""
        return sum(factor.nbytes for factor in self.factors)

    def diagonal(self) -> Tensor:
        """Its diagonal, (d,) float64; the same in every row of a layer."""
        return torch.cat(
            [
                spread(torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2), layer)
                for layer, factor in zip(self.curvature.parameters.layers, self.factors, strict=True)
            ]
        )

    def apply(self, x: Tensor) -> Tensor:
        """Its product with x of shape (d,) or (d, k)."""
        flat = x.to(COMPUTE).view(len(x), -1)
        out = torch.empty_like(flat)
        for layer, factor in zip(self.curvature.parameters.layers, self.factors, strict=True):
            groups, width = factor.shape[:2]
            # (groups, out, in, k) → the columns (groups, in, out × k) of one solve
            rows = flat[layer.slice].view(groups, -1, width, flat.shape[1]).transpose(1, 2)
            solved = torch.cholesky_solve(rows.flatten(2), factor).view(rows.shape)
            out[layer.slice] = solved.transpose(1, 2).reshape(layer.numel, -1)
        return out.view(x.shape)


def check_factors(factors: Sequence[Factors], parameters: PrunableParameters) -> None:
    """Raises an InputError unless ``factors`` fit the layers, one each."""
    if len(factors) != len(parameters.layers):
        raise InputError(f"factors: expected {len(parameters.layers)}, one a layer, got {len(factors)}.")
    for layer, own in zip(parameters.layers, factors, strict=True):
        width = layer.numel // layer.shape[0]
        if layer.shape[0] % len(own.inputs) or own.inputs.shape[1:] != (width, width):
            raise InputError(
                f"factors of {layer.module}: expected input moments (groups, {width}, {width}), got "
                f"{tuple(own.inputs.shape)}. Make them with the same model and exclusions."
            )


def spread(values: Tensor, layer: Layer) -> Tensor:
    """(numel,) from one value for each input of a group, (groups, in): the same in every row."""
    groups, width = values.shape
    return values.unsqueeze(1).expand(groups, layer.numel // (groups * width), width).reshape(-1)


def ill_conditioned(layer: Layer, damping: float, condition: float, limit: float = FACTOR_LIMIT) -> NumericalError:
    """The error for a damping that is too small for float64, with one that works."""
    return NumericalError(
        f"the curvature of the layer {layer.module} cannot be inverted accurately at damping {damping:.3g}: its condition may "
        f"reach {condition:.1e}, float64 bears {limit:.0e}. "
        f"Use a damping of at least {max(1.1 * condition * damping / limit, 1.1 * damping):.1e}."
    )


def _condition(own: Factors, damping: float) -> float:
    """trace(A)/λ of the worst group, a bound on the condition number of A + λI."""
    return float(own.inputs.diagonal(dim1=1, dim2=2).sum(1).max()) / damping


def _row_steps(
    moments: Tensor, factor: Tensor, damping: float, removed: Tensor, keep: Tensor, refusal: NumericalError
) -> Tensor:
    """δ (groups, rows, in) of every row from its δ_P = ``removed``, zero elsewhere; ``keep`` marks the survivors."""
    width = keep.shape[2]
    pull = -(removed @ moments).view(-1, width)  # A_SP w_P
    steps, stays = removed.reshape(-1, width).clone(), keep.reshape(-1, width)
    group = torch.arange(len(keep), device=keep.device).repeat_interleave(keep.shape[1])
    alive = stays.sum(1)
    gone = width - alive
    by_survivors = alive <= gone
    for rows in batches(torch.where(by_survivors, alive, 0)):
        index, valid = packed(stays[rows])
        systems = gathered(moments, group[rows], index)
        systems.diagonal(dim1=1, dim2=2).add_(damping)
        steps[rows] = steps[rows].scatter_add(1, index, solve(systems, valid, pull[rows].gather(1, index), refusal))
    sizes = torch.where(by_survivors, 0, gone)
    if sizes.any():
        inverse = torch.cholesky_inverse(factor)
        multipliers = torch.zeros_like(steps)
        for rows in batches(sizes):
            index, valid = packed(~stays[rows])
            systems = gathered(inverse, group[rows], index)
            found = solve(systems, valid, steps[rows].gather(1, index), refusal)
            multipliers[rows] = multipliers[rows].scatter_add(1, index, found)
        steps += torch.where(stays, (multipliers.view(keep.shape) @ inverse).view(-1, width), 0.0)
    return steps.view(keep.shape)
