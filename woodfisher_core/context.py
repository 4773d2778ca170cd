"""The context a method runs in: everything it may ask for, each expensive thing made once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core.batchnorm import reestimate
from woodfisher_core.curvature import Curvature, InverseCurvature
from woodfisher_core.errors import NumericalError
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Fisher
from woodfisher_core.flops import positions
from woodfisher_core.masks import Mask, select
from woodfisher_core.methods import EMPIRICAL, Method, Outcome, get_method
from woodfisher_core.options import Budget, DampingScale
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.timing import Stopwatch

Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Source:
    """Where a context's network, images and gradients come from.

    ``network`` is in eval mode, with the weights that are pruned; ``samples(n)`` gives n training samples as (inputs, targets)
    batches on its device, fewer being a prefix of more; ``make_fisher`` their Fisher. ``keep`` (d,) bool marks the weights that
    are still there.
    """

    network: nn.Module
    samples: Callable[[int], Batches]
    make_fisher: Callable[[], Fisher]
    loss: Loss = cross_entropy
    keep: Tensor | None = None


class PruningContext:
    """A method's context over a source; each expensive thing is made once and its time charged to a phase.

    ``store(name, make)`` may keep what is made ("fisher", "curvature", "damping", "inverse", "diagonal", "saliency", "positions")
    elsewhere, to share it.
    """

    def __init__(
        self,
        weights: Tensor,
        parameters: PrunableParameters,
        options: PruneOptions,
        source: Source,
        watch: Stopwatch | None = None,
        store: Callable[[str, Callable[[], object]], object] | None = None,
    ):
        self.weights, self.parameters, self.options = weights, parameters, options
        self.scope, self.budget = options.scope, options.budget
        self.update, self.update_scale = options.update, options.update_scale
        self.num_samples, self.mini_batch, self.labels = options.num_samples, options.mini_batch, options.labels
        self.seed, self.probes = options.seed, options.probes
        self.loss, self.keep = source.loss, source.keep
        self.watch = watch or Stopwatch()
        self._source = source
        self._store = store or (lambda name, make: make())
        self._made: dict[str, object] = {}

    @property
    def method(self) -> Method:
        return get_method(self.options.method)

    def network(self) -> nn.Module:
        return self._source.network

    def samples(self) -> Batches:
        return self._source.samples(self.num_samples * self.mini_batch)

    def fisher(self) -> Fisher:
        return self._once("fisher", self._source.make_fisher)

    def curvature(self) -> Curvature:
        if self.method.curvature is EMPIRICAL:
            return self.fisher()

        def make() -> Curvature:
            with self.watch("curvature"):
                return self.method.curvature(self)

        return self._once("curvature", make)

    @property
    def damping(self) -> float:
        """λ in force: the damping itself, or that multiple of the mean of the undamped curvature's diagonal, in float64."""
        if self.options.damping_scale is DampingScale.ABSOLUTE:
            return self.options.damping

        def make() -> float:
            curvature = self.curvature()
            with self.watch("inverse"):
                mean = float(curvature.diagonal.mean())
            if not mean > 0.0:
                raise NumericalError(
                    f"relative damping: expected a curvature above zero to take a multiple of, got {mean:g} (its gradients "
                    "are all zero, or it bends downwards). Set the damping scale to absolute, or take other samples."
                )
            return self.options.damping * mean

        return self._once("damping", make)

    def inverse(self) -> InverseCurvature:
        def make() -> InverseCurvature:
            curvature, damping = self.curvature(), self.damping
            with self.watch("inverse"):
                return curvature.inverse(damping, self.options.solver)

        return self._once("inverse", make)

    def inverse_diagonal(self) -> Tensor:
        def make() -> Tensor:
            inverse = self.inverse()
            with self.watch("inverse"):
                return inverse.diagonal()

        return self._once("diagonal", make)

    def positions(self) -> Tensor:
        """(d,) multiply-adds a sample of each weight."""

        def make() -> Tensor:
            [(inputs, _), *_] = self._source.samples(1)
            return positions(self.network(), self.parameters, inputs).to(self.weights.device)

        return self._once("positions", make)

    def saliency(self) -> Tensor:
        def make() -> Tensor:
            with self.watch("score"):
                found = self.method.score(self)
                if self.options.flops_power:
                    # A weight that is never multiplied costs nothing to keep.
                    power = self.positions().clamp_min(1.0) ** self.options.flops_power
                    # What is negative already goes first; where it costs much, it goes sooner still.
                    found = torch.where(found > 0, found / power, found * power)
                return found

        return self._once("saliency", make)

    def masks(self, sparsities: Sequence[float]) -> list[Mask]:
        costs = self.positions() if self.budget is Budget.FLOPS else None
        pattern = self.options.mask_pattern
        return select(
            self.saliency(), sparsities, self.scope, self.parameters, pattern=pattern, allowed=self.keep, costs=costs
        )

    def run(self, sparsities: Sequence[float], settle: bool = True) -> Iterator[Outcome]:
        """One outcome a sparsity, its BatchNorm statistics re-estimated where the options ask for it and ``settle`` does."""
        if (pattern := self.options.mask_pattern) is not None:
            pattern.check(self.parameters)
        with self._naming_the_knob():
            self.saliency()
        outcomes = self.method.run(self, sparsities)
        for _ in sparsities:
            with self._naming_the_knob(), self.watch("update"):
                outcome = next(outcomes)
            yield self._settled(outcome) if settle else outcome

    def _settled(self, outcome: Outcome) -> Outcome:
        """``outcome`` with the BatchNorm statistics that its own weights give."""
        if not self.options.batchnorm_images:
            return outcome
        with self.watch("BatchNorm"):
            images = self._source.samples(self.options.batchnorm_images)
            pruned = self.parameters.placed_in(self.network(), outcome.weights, outcome.tensors)
            found = reestimate(pruned, images)
        return replace(outcome, tensors={**outcome.tensors, **found})

    @contextmanager
    def _naming_the_knob(self) -> Iterator[None]:
        """An error about a λ that was made from a relative damping names that too: it is what can be set."""
        try:
            yield
        except NumericalError as error:
            # Absent under absolute damping, and where there was nothing to make it from.
            made = self._made.get("damping")
            if made is None:
                raise
            given = self.options.damping
            raise NumericalError(
                f"{error} (λ is the relative damping {given:g} times the mean curvature {made / given:.3g}.)"
            ) from error

    def _once(self, name: str, make: Callable[[], object]):
        # Remembered here too: a store may let go of what is too large for it.
        if name not in self._made:
            self._made[name] = self._store(name, make)
        return self._made[name]
