"""K-FAC: each layer's Fisher as a Kronecker product of what its inputs and its output gradients do, with exact damping.

F = λI + A ⊗ Γ within a layer, nothing between layers nor between the groups of a convolution (Martens & Grosse 2015, section 3;
convolutions: Grosse & Martens 2016, section 3): for weights from input i to output o, F_{oi,o'i'} = Γ_oo' A_ii', and λ on the
diagonal. With A = V diag(α) Vᵀ and Γ = U diag(γ) Uᵀ its eigenvalues are γ_o α_i + λ, so λ needs no factored approximation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from woodfisher_core.activations import Factors
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.fisher.groups import COMPUTE
from woodfisher_core.fisher.layer_inputs import check_factors, ill_conditioned
from woodfisher_core.fisher.operator import check_damping
from woodfisher_core.fisher.subsets import batches, gathered, packed, solve
from woodfisher_core.options import Solver
from woodfisher_core.parameters import Layer, PrunableParameters

# Largest γα/λ up to which diag F⁻¹ keeps 1e-4 in float64 (measured over random spectra: 1.4e-5 at 1e11, 1.4e-4 at 1e12).
CONDITION_LIMIT = 5e11
# Most survivors of a layer whose F_SS is formed and factored; above, conjugate gradients.
DENSE_SURVIVORS = 2000
# When these stop: residual over right-hand side, and error over solution in the norm of F. How many steps they may take.
TOLERANCE = 1e-10
ENERGY_TOLERANCE = 1e-9
MAX_ITERATIONS = 10_000


class KroneckerFisher:
    """The second moments ``factors`` of every layer's inputs and output gradients, as a block-diagonal Fisher in nats."""

    def __init__(self, factors: Sequence[Factors], parameters: PrunableParameters):
        check_factors(factors, parameters)
        for layer, own in zip(parameters.layers, factors, strict=True):
            if own.outputs is None:
                raise InputError(f"factors of {layer.module}: expected output gradients, got none. Set gradients=True.")
        self.factors, self.parameters = tuple(factors), parameters
        self._spectra: list[_Spectrum] | None = None

    @property
    def num_rows(self) -> int:
        """N, the number of samples."""
        return self.factors[0].num_samples

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        moments = sum(own.inputs.nbytes + own.outputs.nbytes for own in self.factors)
        return moments + sum(spectrum.nbytes for spectrum in self._spectra or ())

    @cached_property
    def diagonal(self) -> Tensor:
        """diag A ⊗ Γ, without damping, (d,) float64."""
        diagonals = (
            own.outputs.diagonal(dim1=1, dim2=2).unsqueeze(2) * own.inputs.diagonal(dim1=1, dim2=2).unsqueeze(1)
            for own in self.factors
        )
        return torch.cat([diagonal.reshape(-1) for diagonal in diagonals])

    def prepare(self) -> None:
        """Computes what every damping shares: the eigenvectors of all factors."""
        if self._spectra is None:
            self._spectra = [_Spectrum.of(own) for own in self.factors]

    def is_prepared(self, solver: Solver) -> bool:
        """Whether :meth:`prepare` has been done."""
        return self._spectra is not None

    def inverse(self, damping: float, solver: Solver = Solver.AUTO) -> "KroneckerInverse":
        """F⁻¹ at ``damping`` λ > 0; there is one way to solve it, whatever ``solver`` says.

        Raises:
            NumericalError: λ is too small for float64; the message names one that works.
        """
        return KroneckerInverse(self.parameters, damping, [spectrum for _, _, spectrum in self._bearing(damping)])

    def joint_steps(self, weights: Tensor, keeps: Sequence[Tensor], damping: float) -> Tensor:
        """Exact joint OBS steps (k, d) float64, one for each of k masks (d,): everything outside it goes at once.

        δ_P = −w_P and δ_S = F_SS⁻¹ F_SP w_P within each layer: by Cholesky where few weights survive, else by conjugate
        gradients to a relative residual of 1e-10.

        Raises:
            NumericalError: λ is too small for float64, or the iteration does not come to an end.
        """
        keep = torch.stack(list(keeps))
        steps = torch.where(keep, 0.0, -weights.to(COMPUTE))
        for layer, own, spectrum in self._bearing(damping):
            # (k, groups × out × in) → (groups, k, out × in): the masks of every group are problems alike.
            shape = (len(keep), len(own.inputs), -1)
            removed, stays = (x[:, layer.slice].view(shape).transpose(0, 1) for x in (steps, keep))
            found = _joint_steps(layer, own, spectrum, removed, stays, damping)
            steps[:, layer.slice] = found.transpose(0, 1).reshape(len(keep), -1)
        return steps

    def _bearing(self, damping: float) -> Iterator[tuple[Layer, Factors, "_Spectrum"]]:
        """Every layer with its factors and spectrum; a λ is refused where float64 does not bear it."""
        check_damping(damping)
        self.prepare()
        for layer, own, spectrum in zip(self.parameters.layers, self.factors, self._spectra, strict=True):
            if spectrum.largest > CONDITION_LIMIT * damping:
                raise _ill_conditioned(layer, spectrum, damping)
            yield layer, own, spectrum


class KroneckerInverse:
    """F⁻¹ at one damping: its diagonal and its product with vectors, float64 on the factors' device."""

    # All it needs is the Fisher's.
    nbytes = 0

    def __init__(self, parameters: PrunableParameters, damping: float, spectra: Sequence["_Spectrum"]):
        self.parameters, self.damping, self._spectra = parameters, damping, spectra

    def diagonal(self) -> Tensor:
        """diag F⁻¹, (d,): Σ_jk U_oj² V_ik²/(γ_j α_k + λ)."""
        diagonals = (
            own.output_vectors.square() @ own.inverse_values(self.damping) @ own.input_vectors.square().mT
            for own in self._spectra
        )
        return torch.cat([diagonal.reshape(-1) for diagonal in diagonals])

    def apply(self, x: Tensor) -> Tensor:
        """F⁻¹x for x of shape (d,) or (d, k)."""
        flat = x.to(COMPUTE).view(len(x), -1)
        out = torch.empty_like(flat)
        for layer, own in zip(self.parameters.layers, self._spectra, strict=True):
            groups, width = own.input_values.shape
            columns = flat[layer.slice].view(groups, layer.numel // (groups * width), width, -1).mT
            out[layer.slice] = own.solve(columns, self.damping).mT.reshape(layer.numel, -1)
        return out.view(x.shape)


@dataclass(frozen=True)
class _Spectrum:
    """Eigenvalues α (groups, in) and γ (groups, out) of A and Γ, and their eigenvectors as columns of V and U."""

    input_values: Tensor
    input_vectors: Tensor
    output_values: Tensor
    output_vectors: Tensor

    @classmethod
    def of(cls, own: Factors) -> "_Spectrum":
        """Of one layer; eigenvalues that rounding has put below zero are zero."""
        alpha, inputs = torch.linalg.eigh(own.inputs)
        gamma, outputs = torch.linalg.eigh(own.outputs)
        return cls(alpha.clamp_min(0.0), inputs, gamma.clamp_min(0.0), outputs)

    @property
    def nbytes(self) -> int:
        vectors = self.input_vectors.nbytes + self.output_vectors.nbytes
        return vectors + self.input_values.nbytes + self.output_values.nbytes

    @property
    def largest(self) -> float:
        """The largest eigenvalue of A ⊗ Γ, of any group."""
        return float((self.input_values.amax(1) * self.output_values.amax(1)).max())

    def group(self, part: slice) -> "_Spectrum":
        """Of some groups only."""
        return _Spectrum(
            self.input_values[part], self.input_vectors[part], self.output_values[part], self.output_vectors[part]
        )

    def inverse_values(self, damping: float) -> Tensor:
        """The eigenvalues of F⁻¹, (groups, out, in)."""
        return (self.output_values.unsqueeze(2) * self.input_values.unsqueeze(1) + damping).reciprocal()

    def solve(self, x: Tensor, damping: float) -> Tensor:
        """F⁻¹x for x (groups, out, k, in)."""
        inner = _sandwich(self.output_vectors.mT, x, self.input_vectors)
        return _sandwich(self.output_vectors, inner * self.inverse_values(damping).unsqueeze(2), self.input_vectors.mT)


def _sandwich(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    """L X R of each group and each k: L (groups, out, out), x (groups, out, k, in), R (groups, in, in)."""
    lifted = (left @ x.flatten(2)).view(x.shape)
    return (lifted.flatten(1, 2) @ right).view(x.shape)


def _ill_conditioned(layer: Layer, spectrum: _Spectrum, damping: float) -> NumericalError:
    return ill_conditioned(layer, damping, spectrum.largest / damping, CONDITION_LIMIT)


def _joint_steps(
    layer: Layer, own: Factors, spectrum: _Spectrum, removed: Tensor, keep: Tensor, damping: float
) -> Tensor:
    """δ (groups, k, out × in) from its δ_P = ``removed``, zero elsewhere; ``keep`` marks the survivors."""
    groups, masks, size = keep.shape
    width = own.inputs.shape[1]
    rows = removed.unflatten(2, (-1, width)).transpose(1, 2)  # (groups, out, k, in)
    pull = -_sandwich(own.outputs, rows, own.inputs).transpose(1, 2).reshape(-1, size)  # F_SP w_P
    steps, stays = removed.reshape(-1, size).clone(), keep.reshape(-1, size)
    group = torch.arange(groups, device=keep.device).repeat_interleave(masks)
    alive = torch.where(stays.all(1), 0, stays.sum(1))  # where nothing goes, nothing moves
    for some in batches(torch.where(alive <= DENSE_SURVIVORS, alive, 0)):
        index, valid = packed(stays[some])
        systems = gathered(own.outputs, group[some], index // width)
        systems *= gathered(own.inputs, group[some], index % width)
        systems.diagonal(dim1=1, dim2=2).add_(damping)
        found = solve(systems, valid, pull[some].gather(1, index), _ill_conditioned(layer, spectrum, damping))
        steps[some] = steps[some].scatter_add(1, index, found)
    for one in (alive > DENSE_SURVIVORS).nonzero().squeeze(1).tolist():
        part = slice(one // masks, one // masks + 1)
        single = Factors(own.inputs[part], own.outputs[part], own.num_samples)
        steps[one] += _large_step(layer, single, spectrum.group(part), stays[one], pull[one], damping)
    return steps.view(keep.shape)


def _large_step(layer: Layer, own: Factors, spectrum: _Spectrum, stays: Tensor, pull: Tensor, damping: float) -> Tensor:
    """δ_S (out × in) of one group and mask, zero at the pruned weights, without forming F_SS."""
    shape = (1, -1, 1, own.inputs.shape[1])
    inside = stays.view(shape)

    def product(x: Tensor) -> Tensor:
        return torch.where(inside, damping * x + _sandwich(own.outputs, x, own.inputs), 0.0)

    def precondition(x: Tensor) -> Tensor:
        return torch.where(inside, spectrum.solve(x, damping), 0.0)

    right = torch.where(inside, pull.view(shape), 0.0)
    return _conjugate_gradients(product, precondition, right, layer, damping).view(-1)


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    right: Tensor,
    layer: Layer,
    damping: float,
) -> Tensor:
    """x of F_SS x = ``right`` by conjugate gradients (Hestenes & Stiefel 1952), preconditioned by M = (F⁻¹)_SS.

    M is never below F_SS⁻¹, so that the residual r bounds the error e: eᵀF_SS e ≤ rᵀM r.
    """
    x, residual, iterations = torch.zeros_like(right), right.clone(), 0
    goal = TOLERANCE * float(torch.linalg.norm(right))
    while float(torch.linalg.norm(residual)) > goal:
        direction, before = torch.zeros_like(right), 1.0
        while True:
            moved = precondition(residual)
            now = float((residual * moved).sum())
            left = float(torch.linalg.norm(residual))
            if left <= goal and now <= ENERGY_TOLERANCE**2 * float((x * right).sum()):
                break
            if iterations == MAX_ITERATIONS:
                raise NumericalError(
                    f"the joint step of the layer {layer.module} is not found at damping {damping:.3g}: after {iterations:,} "
                    f"iterations its residual is {left / goal * TOLERANCE:.1e} of what it was, expected {TOLERANCE:.0e}. "
                    "Use a larger damping, or another update."
                )
            direction = moved + now / before * direction
            image = product(direction)
            length = now / float((direction * image).sum())
            x += length * direction
            residual -= length * image
            before, iterations = now, iterations + 1
        # What is carried along drifts from the true residual; where it has, once more from there.
        residual = right - product(x)
    return x
