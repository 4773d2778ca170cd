"""Pruning any ``nn.Module``: the options of a method, the context that runs it, and the one-call Python interface."""

import copy
import dataclasses
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core import memory
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Blocks, EmpiricalFisher, InverseFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.loss_change import QuadraticTerms, quadratic_terms
from woodfisher_core.masks import Mask, check_sparsity
from woodfisher_core.methods import Method, Need, Outcome, get_method
from woodfisher_core.options import BLOCK_LAYER, Labels, Scope, Solver, Update, parse_block_size
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import label_uniforms
from woodfisher_core.timing import Stopwatch


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Everything about a pruning method that can change its result. Plain strings become their enum; bad values raise.

    ``update`` None means the method's own default.
    """

    method: str = "woodfisher"
    sparsity: float = 0.95
    num_samples: int = 1000
    mini_batch: int = 1
    labels: Labels = Labels.TRUE
    damping: float = 1e-3
    block_size: int | str = BLOCK_LAYER
    update: Update | None = None
    update_scale: float = 1.0
    scope: Scope = Scope.GLOBAL
    seed: int = 0
    solver: Solver = Solver.AUTO

    def __post_init__(self):
        method = get_method(self.method)
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - frozen after this
        put("sparsity", check_sparsity(self.sparsity))
        put("labels", Labels.parse(self.labels, "labels"))
        put("scope", Scope.parse(self.scope, "scope"))
        put("solver", Solver.parse(self.solver, "solver"))
        put("update", method.default_update if self.update is None else Update.parse(self.update, "update"))
        put("block_size", parse_block_size(self.block_size))
        for name, least in (("num_samples", 1), ("mini_batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
                knob = name.replace("_", " ")
                raise InputError(f"{knob}: expected a whole number of at least {least}, got {value!r}.")
            put(name, operator.index(value))
        if self.seed >= 2**32:
            raise InputError(f"seed: expected a whole number below 2³², got {self.seed}.")
        if not (isinstance(self.damping, (int, float)) and math.isfinite(self.damping) and self.damping > 0):
            raise InputError(f"damping: expected a positive number, got {self.damping}. A usual value is 1e-3.")
        if not (isinstance(self.update_scale, (int, float)) and math.isfinite(self.update_scale)):
            raise InputError(f"update scale: expected a finite number, got {self.update_scale}.")
        if self.update_scale != 1.0 and self.update is not Update.INDEPENDENT:
            raise InputError(
                f"update scale: only the independent update can be scaled, got scale {self.update_scale} with update "
                f"'{self.update}'. Set the scale to 1 or choose the independent update."
            )
        put("damping", float(self.damping))
        put("update_scale", float(self.update_scale))

    @property
    def uses_gradients(self) -> bool:
        """Whether the statistic or the update needs the Fisher."""
        return bool(get_method(self.method).needs) or self.update is not Update.NONE

    @property
    def uses_inverse(self) -> bool:
        """Whether the statistic or the update needs F⁻¹ (the joint update solves systems of its own)."""
        return Need.INVERSE in get_method(self.method).needs or self.update is Update.INDEPENDENT


class PruningContext:
    """A method's context over a source of Fishers; each expensive thing is made once and its time charged to a phase.

    ``store(name, make)`` may keep what is made ("fisher", "inverse", "diagonal", "saliency") elsewhere, to share it.
    """

    def __init__(
        self,
        weights: Tensor,
        parameters: PrunableParameters,
        options: PruneOptions,
        make_fisher: Callable[[], EmpiricalFisher],
        watch: Stopwatch | None = None,
        store: Callable[[str, Callable[[], object]], object] | None = None,
    ):
        self.weights, self.parameters, self.options = weights, parameters, options
        self.scope, self.update, self.update_scale = options.scope, options.update, options.update_scale
        self.damping = options.damping
        self.watch = watch or Stopwatch()
        self._make_fisher = make_fisher
        self._store = store or (lambda name, make: make())
        self._made: dict[str, object] = {}

    @property
    def method(self) -> Method:
        return get_method(self.options.method)

    def fisher(self) -> EmpiricalFisher:
        return self._once("fisher", self._make_fisher)

    def inverse(self) -> InverseFisher:
        def make() -> InverseFisher:
            fisher = self.fisher()
            with self.watch("inverse"):
                return fisher.inverse(self.damping, self.options.solver)

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
        self.saliency()
        outcomes = self.method.run(self, sparsities)
        for _ in sparsities:
            with self.watch("update"):
                outcome = next(outcomes)
            yield outcome

    def _once(self, name: str, make: Callable[[], object]):
        # Remembered here too: a store may let go of what is too large for it.
        if name not in self._made:
            self._made[name] = self._store(name, make)
        return self._made[name]


@dataclass(frozen=True)
class PruneResult:
    """A pruned network, apart from the model it came from.

    ``mask``, ``weights`` and ``saliency`` are flat (d,); ``masks()`` and ``state_dict()`` give them under the model's names.
    ``predicted`` is the quadratic model's loss change on the Fisher samples themselves (None where no gradients were used).
    """

    parameters: PrunableParameters
    mask: Mask
    weights: Tensor
    saliency: Tensor | None
    predicted: QuadraticTerms | None
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


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise InputError(f"device: expected auto, cpu or cuda, got {device!r}.") from None
    if resolved.type not in ("cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu or cuda, got {str(device)!r}.")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device: no CUDA device is usable here; expected --device cpu or auto.")
    return resolved


def prune(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Loss = cross_entropy,
    exclude: Iterable[str] = (),
    device: str | torch.device = "auto",
    memory_budget: int | None = None,
    progress: Callable[[int], None] | None = None,
    **options,
) -> PruneResult:
    """Prunes any ``nn.Module`` once, with gradients from the first ``num_samples`` × ``mini_batch`` samples of ``loader``.

    Args:
        model: Left untouched; Linear and Conv weights are prunable (embeddings and the packed input projections of
            ``nn.MultiheadAttention`` stay dense).
        loader: (inputs, targets) batches of any size; not read at all where no gradients are needed.
        loss: ``loss(outputs, targets)``, the mean over a batch.
        exclude: Layers to leave alone, by name or shell pattern.
        device: ``auto``, ``cpu``, ``cuda`` or a torch device.
        memory_budget: Bytes the run may take; a share of what is free by default.
        progress: Called with the number of gradient rows done.
        options: Fields of :class:`PruneOptions`.

    Raises:
        InputError: An option or the model cannot be used; MemoryBudgetError, NumericalError: see there.
    """
    known = {field.name for field in dataclasses.fields(PruneOptions)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"prune: unknown option {', '.join(unknown)}; expected among {', '.join(sorted(known))}.")
    chosen = PruneOptions(**options)
    where = resolve_device(device)
    network = copy.deepcopy(model).to(where).eval()
    parameters = PrunableParameters.from_model(network, exclude)
    state = network.state_dict()
    weights = parameters.flatten(state)
    if not torch.isfinite(weights).all():
        raise InputError("model: its prunable weights hold NaN or infinite values; expected finite ones.")
    blocks = Blocks.of(parameters, chosen.block_size)
    watch = Stopwatch(where)

    def make_fisher() -> EmpiricalFisher:
        need = memory.predict(chosen.num_samples, blocks, chosen.solver, weights.element_size())
        memory.check(need, memory.budget(memory_budget, where), chosen.num_samples, parameters.num_prunable)
        samples = chosen.num_samples * chosen.mini_batch
        with watch("gradients"):
            rows = gradient_matrix(
                network,
                parameters,
                _first(loader, samples, where),
                chosen.num_samples,
                loss=loss,
                labels=chosen.labels,
                uniforms=label_uniforms(samples, chosen.seed) if chosen.labels is Labels.SAMPLED else None,
                mini_batch=chosen.mini_batch,
                progress=progress,
            )
        with watch("inverse"):
            return EmpiricalFisher(rows, blocks)

    context = PruningContext(weights, parameters, chosen, make_fisher, watch)
    outcome = next(context.run([chosen.sparsity]))
    predicted = None
    if chosen.uses_gradients:
        predicted = quadratic_terms([context.fisher().rows], outcome.weights - weights, blocks, chosen.mini_batch)
    return PruneResult(
        parameters, outcome.mask, outcome.weights, outcome.saliency, predicted, dict(watch.seconds), state
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
