"""Pruning any ``nn.Module``: the one-call Python interface."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core import memory
from woodfisher_core.building import build_fisher, plan_fisher
from woodfisher_core.context import PruningContext, Source
from woodfisher_core.devices import compute_device, resolve_device
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Fisher
from woodfisher_core.loading import Loaded
from woodfisher_core.loss_change import QuadraticTerms, own_quadratic_terms
from woodfisher_core.masks import Mask
from woodfisher_core.methods import Outcome
from woodfisher_core.parameters import NOT_PRUNED, PrunableParameters, dense_layers
from woodfisher_core.planning import Plan, parse_storage
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.staged import Start, run_stages
from woodfisher_core.timing import Stopwatch


@dataclass(frozen=True)
class PruneResult:
    """A pruned network, apart from the model it came from.

    ``mask``, ``weights`` and ``saliency`` are flat (d,); ``masks()`` and ``state_dict()`` give them under the model's names.
    ``predicted`` is the quadratic model's loss change on the Fisher samples themselves (None where no gradients were used, or
    in several stages), ``plan`` says how the gradients were kept; ``seconds`` by phase.
    """

    parameters: PrunableParameters
    outcome: Outcome
    predicted: QuadraticTerms | None
    plan: Plan | None
    seconds: dict[str, float]
    _state: dict[str, Tensor]

    @property
    def mask(self) -> Mask:
        return self.outcome.mask

    @property
    def weights(self) -> Tensor:
        return self.outcome.weights

    @property
    def saliency(self) -> Tensor | None:
        return self.outcome.saliency

    @property
    def sparsity(self) -> float:
        return self.mask.sparsity

    def masks(self) -> dict[str, Tensor]:
        """Parameter name → bool tensor, True where a weight stays."""
        return self.parameters.unflatten(self.mask.keep)

    def state_dict(self) -> dict[str, Tensor]:
        """The model's whole state dict with the pruned weights, and re-estimated BatchNorm statistics, in place."""
        written = self.parameters.written_into(self._state, self.weights)
        return written | {name: tensor.to(written[name]) for name, tensor in self.outcome.tensors.items()}

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
    keep: Tensor | None = None,
    device: str | torch.device = "auto",
    memory_budget: int | None = None,
    storage: str | None = None,
    scratch: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int], None] | None = None,
    **options,
) -> PruneResult:
    """Prunes any ``nn.Module``, at once or in stages, by the first ``num_samples`` × ``mini_batch`` samples of ``loader``.

    Args:
        model: Left untouched; Linear and Conv weights are prunable (other layers' weights stay dense, with a warning that
            names them).
        loader: (inputs, targets) batches of any size; not read where nothing is learnt from data.
        loss: ``loss(outputs, targets)``, the mean over a batch.
        exclude: Layers to leave alone, by name or shell pattern.
        keep: (d,) bool, weights still there; those outside were pruned before, are set to zero and stay so.
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
    chosen = parse_options(options)
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
    if keep is not None:
        keep = parameters.checked_mask(keep).to(weights.device)
        weights = torch.where(keep, weights, 0.0)
    watch = Stopwatch(where)
    loaded = Loaded(loader, where, chosen.images)
    count = chosen.num_samples * chosen.mini_batch
    plans: list[Plan] = []
    contexts: list[PruningContext] = []

    def context_at(start: Start, stage: int) -> PruningContext:
        at = network if start.keep is None else parameters.placed_in(network, start.weights, start.tensors)
        skip = stage * count if chosen.fresh_samples else 0

        def make_fisher() -> Fisher:
            samples = loaded.batches(count, skip)
            some = next(samples)
            with watch("plan"):
                plan = plan_fisher(
                    at,
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
                at,
                parameters,
                chosen,
                plan,
                batches,
                loss=loss,
                keep=start.keep,
                scratch=scratch,
                progress=progress,
                watch=watch,
            )

        source = Source(at, lambda wanted: list(loaded.batches(wanted, skip)), make_fisher, loss, start.keep)
        contexts[:] = [PruningContext(start.weights, parameters, chosen, source, watch)]
        return contexts[0]

    outcome = run_stages(chosen, Start(weights, keep), context_at)
    predicted = None
    if chosen.uses_gradients and chosen.stages == 1:
        with watch("prediction"):
            predicted = own_quadratic_terms(contexts[0].fisher(), outcome.weights - weights, chosen.mini_batch)
    return PruneResult(parameters, outcome, predicted, plans[-1] if plans else None, dict(watch.seconds), state)


def parse_options(options: Mapping[str, object]) -> PruneOptions:
    """The :class:`PruneOptions` of these fields; unknown ones are refused by name."""
    known = {field.name for field in dataclasses.fields(PruneOptions)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"prune: unknown option {', '.join(unknown)}; expected among {', '.join(sorted(known))}.")
    return PruneOptions(**options)
