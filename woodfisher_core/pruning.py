"""Pruning any ``nn.Module``: the context a method runs in, and the one-call Python interface."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core import memory
from woodfisher_core.building import build_fisher, plan_fisher
from woodfisher_core.devices import compute_device, resolve_device
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Fisher, Inverse
from woodfisher_core.loss_change import QuadraticTerms, own_quadratic_terms
from woodfisher_core.masks import Mask
from woodfisher_core.methods import Method, Outcome, get_method
from woodfisher_core.options import DampingScale
from woodfisher_core.parameters import NOT_PRUNED, PrunableParameters, dense_layers
from woodfisher_core.planning import Plan, parse_storage
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.timing import Stopwatch


class PruningContext:
    """A method's context over a source of Fishers; each expensive thing is made once and its time charged to a phase.

    ``store(name, make)`` may keep what is made ("fisher", "damping", "inverse", "diagonal",
    "saliency") elsewhere, to share it.
    """

    def __init__(
        self,
        weights: Tensor,
        parameters: PrunableParameters,
        options: PruneOptions,
        make_fisher: Callable[[], Fisher],
        watch: Stopwatch | None = None,
        store: Callable[[str, Callable[[], object]], object] | None = None,
    ):
        self.weights, self.parameters, self.options = weights, parameters, options
        self.scope, self.update, self.update_scale = options.scope, options.update, options.update_scale
        self.watch = watch or Stopwatch()
        self._make_fisher = make_fisher
        self._store = store or (lambda name, make: make())
        self._made: dict[str, object] = {}

    @property
    def method(self) -> Method:
        return get_method(self.options.method)

    def fisher(self) -> Fisher:
        return self._once("fisher", self._make_fisher)

    @property
    def damping(self) -> float:
        """λ in force, in the units of F: the damping itself, or that multiple of mean_j (1/N) Σ_n G_nj² in float64."""
        if self.options.damping_scale is DampingScale.ABSOLUTE:
            return self.options.damping

        def make() -> float:
            fisher = self.fisher()
            with self.watch("inverse"):
                curvature = float(fisher.diagonal.mean())
            if not curvature > 0.0:
                raise NumericalError(
                    f"relative damping: expected a gradient that is not zero to take a multiple of, got {fisher.num_rows:,} "
                    "rows of zeros. Set the damping scale to absolute, or take other samples."
                )
            return self.options.damping * curvature

        return self._once("damping", make)

    def inverse(self) -> Inverse:
        def make() -> Inverse:
            fisher, damping = self.fisher(), self.damping
            with self.watch("inverse"):
                return fisher.inverse(damping, self.options.solver)

        return self._once("inverse", make)

    def inverse_diagonal(self) -> Tensor:
        def make() -> Tensor:
            inverse = self.inverse()
            with self.watch("inverse"):
                return inverse.diagonal()

        return self._once("diagonal", make)

    def saliency(self) -> Tensor:
        def make() -> Tensor:
            with self.watch("score"):
                return self.method.score(self)

        return self._once("saliency", make)

    def run(self, sparsities: Sequence[float]) -> Iterator[Outcome]:
        """One outcome a sparsity."""
        with self._naming_the_knob():
            self.saliency()
        outcomes = self.method.run(self, sparsities)
        for _ in sparsities:
            with self._naming_the_knob(), self.watch("update"):
                outcome = next(outcomes)
            yield outcome

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


@dataclass(frozen=True)
class PruneResult:
    """A pruned network, apart from the model it came from.

    ``mask``, ``weights`` and ``saliency`` are flat (d,); ``masks()`` and ``state_dict()`` give them under the model's names.
    ``predicted`` is the quadratic model's loss change on the Fisher samples themselves, ``plan`` says how their gradients were
    kept (both None where no gradients were used); ``seconds`` by phase.
    """

    parameters: PrunableParameters
    mask: Mask
    weights: Tensor
    saliency: Tensor | None
    predicted: QuadraticTerms | None
    plan: Plan | None
    seconds: dict[str, float]
    _state: dict[str, Tensor]

    @property
    def sparsity(self) -> float:
        return self.mask.sparsity

    def masks(self) -> dict[str, Tensor]:
        """Parameter name → bool tensor, True where a weight stays."""
        return self.parameters.unflatten(self.mask.keep)

    def state_dict(self) -> dict[str, Tensor]:
        """The model's whole state dict with the pruned weights in place."""
        return self.parameters.written_into(self._state, self.weights)

    def applied_to(self, model: nn.Module) -> nn.Module:
        """A pruned copy of ``model``, which itself stays as it is."""
        pruned = copy.deepcopy(model)
        pruned.load_state_dict(self.state_dict())
        return pruned


def prune(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Loss = cross_entropy,
    exclude: Iterable[str] = (),
    device: str | torch.device = "auto",
    memory_budget: int | None = None,
    storage: str | None = None,
    scratch: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int], None] | None = None,
    **options,
) -> PruneResult:
    """Prunes any ``nn.Module`` once, with gradients from the first ``num_samples`` × ``mini_batch`` samples of ``loader``.

    Args:
        model: Left untouched; Linear and Conv weights are prunable (other layers' weights stay dense, with a warning that
            names them).
        loader: (inputs, targets) batches of any size; not read at all where no gradients are needed.
        loss: ``loss(outputs, targets)``, the mean over a batch.
        exclude: Layers to leave alone, by name or shell pattern.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` (untested; float64 then is on the CPU) or a torch device.
        memory_budget: Bytes the run may add to the process; a share of what is free by default. Where the gradients do not
            fit they are spilled to a file, or recomputed.
        storage: ``memory``, ``spilled`` or ``recomputed`` instead of the fastest that fits.
        scratch: Folder for the scratch file; the system's by default.
        say: Told, before the work starts, where gradients will be kept and what that takes in bytes and seconds.
        progress: Called with the number of gradient rows done.
        options: Fields of :class:`PruneOptions`.

    Raises:
        InputError: An option or the model cannot be used; MemoryBudgetError, NumericalError: see there.
    """
    known = {field.name for field in dataclasses.fields(PruneOptions)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"prune: unknown option {', '.join(unknown)}; expected among {', '.join(sorted(known))}.")
    chosen = PruneOptions(**options)
    wanted = parse_storage(storage)
    where = resolve_device(device)
    network = copy.deepcopy(model).to(where).eval()
    parameters = PrunableParameters.from_model(network, exclude)
    if dense := dense_layers(network):
        warnings.warn(f"these layers stay dense: {', '.join(dense)}; {NOT_PRUNED}", stacklevel=2)
    state = network.state_dict()
    weights = parameters.flatten(state).to(compute_device(where))
    if not torch.isfinite(weights).all():
        raise InputError("model: its prunable weights hold NaN or infinite values; expected finite ones.")
    watch = Stopwatch(where)
    plans: list[Plan] = []

    def make_fisher() -> Fisher:
        samples = _first(loader, chosen.num_samples * chosen.mini_batch, where)
        some = next(samples)
        with watch("plan"):
            plan = plan_fisher(
                network,
                parameters,
                chosen,
                some,
                loss=loss,
                allowed=memory.budget(memory_budget, where),
                storage=wanted,
                scratch=scratch,
                timed=say is not None,
            )
        if say is not None:
            say(plan.describe())
        plans.append(plan)
        batches = chain([some], samples)
        return build_fisher(
            network, parameters, chosen, plan, batches, loss=loss, scratch=scratch, progress=progress, watch=watch
        )

    context = PruningContext(weights, parameters, chosen, make_fisher, watch)
    outcome = next(context.run([chosen.sparsity]))
    predicted = None
    if chosen.uses_gradients:
        with watch("prediction"):
            predicted = own_quadratic_terms(context.fisher(), outcome.weights - weights, chosen.mini_batch)
    return PruneResult(
        parameters,
        outcome.mask,
        outcome.weights,
        outcome.saliency,
        predicted,
        plans[0] if plans else None,
        dict(watch.seconds),
        state,
    )


def _first(
    loader: Iterable[tuple[Tensor, Tensor]], count: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    left = count
    for batch in loader:
        if not (
            isinstance(batch, (tuple, list))
            and len(batch) == 2
            and all(isinstance(t, Tensor) and t.ndim for t in batch)
        ):
            raise InputError("loader: expected batches (inputs, targets) of two tensors; wrap it to give just these.")
        inputs, targets = batch
        taken = min(left, len(targets))
        yield inputs[:taken].to(device), targets[:taken].to(device)
        left -= taken
        if left == 0:
            return
    raise InputError(
        f"loader: expected at least {count} samples (num_samples × mini_batch), got {count - left}. Lower num_samples."
    )
