"""Structured pruning of any ``nn.Module``: from gradients to a network with fewer channels, in steps or in one call.

The steps are :func:`find_channels`, the rows G over θ (``gradients.gradient_matrix`` with the channels' parameters),
:func:`saliency_of` and :func:`structured_results`; whoever keeps what they give can share it between settings.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core import memory, updates
from woodfisher_core.devices import compute_device, resolve_device
from woodfisher_core.errors import InputError, MemoryBudgetError
from woodfisher_core.evaluation import Loss
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.loading import Loaded
from woodfisher_core.options import BLOCK_NETWORK, Labels, Update
from woodfisher_core.sampling import label_uniforms
from woodfisher_core.structured.options import Criterion, StructuredOptions
from woodfisher_core.structured.removal import without_channels
from woodfisher_core.structured.saliency import Undamped, fisher_saliency, magnitude_saliency
from woodfisher_core.structured.selection import Selection, select_groups
from woodfisher_core.structured.survey import Channels, find_channels

Given = TypeVar("Given", Tensor, EmpiricalFisher)
# Samples on which the network is traced and its removals are tried.
EXAMPLES = 4


class GroupRow(NamedTuple):
    """One channel group of a result: what it is, what it frees alone, its saliency, and whether it went."""

    name: str
    index: int
    parameters: int
    weights: int
    multiply_adds: int
    saliency: float
    removed: bool


@dataclass(frozen=True, eq=False)
class StructuredResult:
    """A network with fewer channels, apart from the model it came from.

    ``saliency`` (num_groups,) float64 as the criterion gives it; ``selection`` says which groups went; ``weights`` (D,) is
    the new θ, exactly zero where something went. ``original`` is the θ before.
    """

    channels: Channels
    saliency: Tensor
    selection: Selection
    original: Tensor
    weights: Tensor

    @property
    def keep(self) -> Tensor:
        """(D,) bool, True where θ stays."""
        return self.selection.keep

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable (Linear and Conv, not excluded) weights removed."""
        countable = self.channels.countable
        return int((countable & ~self.keep).sum()) / int(countable.sum())

    @property
    def parameters_before(self) -> int:
        """All of the model's parameters."""
        return self.channels.num_parameters

    @property
    def parameters_after(self) -> int:
        """The smaller network's."""
        return self.channels.num_parameters - int((~self.keep).sum())

    @property
    def multiply_adds_before(self) -> int:
        """A sample, in Linear and Conv layers."""
        return self.channels.multiply_adds

    @property
    def multiply_adds_after(self) -> int:
        """The smaller network's."""
        return self.channels.multiply_adds - int(self.channels.uses[~self.keep].sum())

    @property
    def table(self) -> tuple[GroupRow, ...]:
        """One row a group, in model order."""
        gone, values = set(self.selection.order), self.saliency.tolist()
        countable, uses = self.channels.countable, self.channels.uses
        return tuple(
            GroupRow(
                group.name,
                group.index,
                len(group.members),
                int(countable[group.members].sum()),
                int(uses[group.members].sum()),
                values[number],
                number in gone,
            )
            for number, group in enumerate(self.channels.groups)
        )

    @property
    def widths(self) -> tuple[tuple[str, int, int], ...]:
        """(name, groups before, groups after) of every set of dependent channels."""
        after = dict(self.channels.widths)
        for number in self.selection.order:
            after[self.channels.groups[number].name] -= 1
        return tuple((name, count, after[name]) for name, count in self.channels.widths.items())

    def masked(self, model: nn.Module) -> nn.Module:
        """A copy of ``model`` of the same architecture, with zeros."""
        return self.channels.parameters.placed_in(model, self.weights)

    def removed(self, model: nn.Module) -> nn.Module:
        """A smaller copy of ``model`` that computes what the masked one does (in eval mode, to rounding)."""
        return without_channels(self.masked(model), [self.channels.groups[n] for n in self.selection.order])


def saliency_of(
    channels: Channels, weights: Tensor, rows: Tensor | None, options: StructuredOptions, known: Undamped | None = None
) -> Tensor:
    """The saliency of every group under the options' criterion, (num_groups,) float64; ``rows`` None where not needed.

    ``known`` as in :func:`fisher_saliency`.
    """
    if options.criterion is Criterion.MAGNITUDE:
        return magnitude_saliency(weights, channels.groups)
    return fisher_saliency(_given(rows), weights, channels.groups, options.damping, known)


def one_block(channels: Channels, rows: Tensor, keep_products: bool = False) -> EmpiricalFisher:
    """The Fisher of ``rows`` (N, D) over all of θ as one block; it keeps what dampings share."""
    return EmpiricalFisher(rows, Blocks.of(channels.parameters, BLOCK_NETWORK), keep_products=keep_products)


def structured_results(
    channels: Channels,
    weights: Tensor,
    saliency: Tensor,
    fisher: EmpiricalFisher | None,
    options: StructuredOptions,
    sparsities: Sequence[float],
    allowed: Tensor | None = None,
) -> Iterator[StructuredResult]:
    """One result a sparsity (the options' own is not read); the joint steps of all share their Gram matrices.

    Args:
        channels: From :func:`find_channels`.
        weights: θ (D,), on the rows' device.
        saliency: From :func:`saliency_of`.
        fisher: From :func:`one_block`, or None without an update.
        options: λ, update, what is ranked and counted.
        sparsities: Fractions of the options' budget.
        allowed: (D,) bool, what is still there of θ; the others are zero in ``weights`` and in the rows, and so stay zero. They
            count towards the sparsities (see :func:`select_groups`), but only whole channels are in the results.
    """
    selections = select_groups(
        channels,
        saliency,
        sparsities,
        per=options.per,
        budget=options.budget,
        min_channels=options.min_channels,
        allowed=allowed,
    )
    keeps = [selection.keep.to(weights.device) for selection in selections]
    if options.update is Update.NONE:
        moved: Iterable[Tensor] = (updates.none(weights, keep) for keep in keeps)
    else:
        moved = updates.joint(weights, keeps, _given(fisher), options.damping)
    for selection, values in zip(selections, moved, strict=True):
        yield StructuredResult(channels, saliency, selection, weights, values)


def prune_channels(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Loss = cross_entropy,
    exclude: Iterable[str] = (),
    example: Tensor | None = None,
    device: str | torch.device = "auto",
    memory_budget: int | None = None,
    progress: Callable[[int], None] | None = None,
    **options,
) -> StructuredResult:
    """Removes whole channels of any ``nn.Module`` once, with gradients from the loader's first ``num_samples`` × ``mini_batch``.

    BatchNorm uses its running statistics throughout.

    Args:
        model: Left untouched.
        loader: (inputs, targets) batches of any size, read once; only its first batch where no gradients are needed, not at
            all where an example is given too.
        loss: ``loss(outputs, targets)``, the mean over a batch.
        exclude: Layers to leave alone, by name or shell pattern: nothing that touches them can go, and the update does not
            move them.
        example: Inputs (n, ...) to trace the network and count its multiply-adds on; the loader's first by default.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` or a torch device.
        memory_budget: Bytes the gradients and the work on them may take; a share of what is free by default.
        progress: Called with the number of gradient rows done.
        options: Fields of :class:`StructuredOptions`.

    Raises:
        InputError: An option or the model cannot be used, nothing can be cut, or not as much as asked for.
        MemoryBudgetError: The gradients do not fit; NumericalError: see there.
    """
    known = {field.name for field in dataclasses.fields(StructuredOptions)}
    if unknown := sorted(set(options) - known):
        raise InputError(
            f"prune_channels: unknown option {', '.join(unknown)}; expected among {', '.join(sorted(known))}."
        )
    chosen = StructuredOptions(**options)
    where = resolve_device(device)
    network = copy.deepcopy(model).to(where).eval()
    loaded = Loaded(loader, where)
    samples: Iterator[tuple[Tensor, Tensor]] = iter(())
    if chosen.uses_gradients:
        samples = loaded.batches(chosen.num_samples * chosen.mini_batch)
    elif example is None:
        samples = loaded.batches(1)
    if example is None:
        some = next(samples)
        example, samples = some[0][:EXAMPLES], chain([some], samples)
    channels = find_channels(network, example.to(where), exclude)
    weights = channels.parameters.flatten(network.state_dict()).to(compute_device(where))
    rows = None
    if chosen.uses_gradients:
        _check_memory(channels, weights, chosen, memory.budget(memory_budget, where))
        uniforms = None
        if chosen.labels is Labels.SAMPLED:
            uniforms = label_uniforms(chosen.num_samples * chosen.mini_batch, chosen.seed)
        rows = gradient_matrix(
            network,
            channels.parameters,
            samples,
            chosen.num_samples,
            loss=loss,
            labels=chosen.labels,
            uniforms=uniforms,
            mini_batch=chosen.mini_batch,
            progress=progress,
        )
    saliency = saliency_of(channels, weights, rows, chosen)
    fisher = None if rows is None else one_block(channels, rows)
    return next(structured_results(channels, weights, saliency, fisher, chosen, [chosen.sparsity]))


def _given(from_rows: Given | None) -> Given:
    if from_rows is None:
        raise InputError("structured pruning: the Fisher criterion and the joint update need gradient rows, got none.")
    return from_rows


def _check_memory(channels: Channels, weights: Tensor, options: StructuredOptions, allowed: int) -> None:
    blocks = Blocks.of(channels.parameters, BLOCK_NETWORK)
    need = memory.predict(options.num_samples, blocks, itemsize=weights.element_size()).total
    if need > allowed:
        raise MemoryBudgetError(
            f"memory: {options.num_samples:,} gradients of {blocks.dim:,} parameters, held at once, need {memory.gib(need)}, "
            f"the budget is {memory.gib(allowed)}. Raise the budget, lower num_samples, or exclude layers."
        )
