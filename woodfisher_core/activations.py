"""What flows through every prunable layer: second moments of its inputs, and of the gradients at its outputs.

They are what curvature made from activations needs: the layer-wise least squares of L-OBS (inputs alone) and the Kronecker
factors of K-FAC (both). Made by hooks in one forward, and one backward, pass over the samples, a bounded number at a time.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from woodfisher_core.devices import compute_device
from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.evaluation import Loss
from woodfisher_core.gradients import MAX_CHUNK, regrouped, sampled_labels
from woodfisher_core.options import Labels
from woodfisher_core.parameters import PRUNABLE_MODULES, PrunableParameters

# Bytes of outputs of prunable layers that one pass may make; what a backward pass holds is some times that.
PASS_BYTES = 1 << 26
# Bytes of float64 patches, or gradients, multiplied out together.
PATCH_BYTES = 1 << 26


@dataclass(frozen=True)
class Factors:
    """Second moments of one layer, float64; ``groups`` is 1 but for grouped convolutions, whose groups share nothing.

    ``inputs`` A = (1/N) Σ_n Σ_t a_nt a_ntᵀ is (groups, in, in): a_nt is what multiplies one row of the weight at position t of
    sample n, the patch under the kernel for a convolution. ``outputs`` Γ = (1/(NT)) Σ_n Σ_t g_nt g_ntᵀ is (groups, out, out):
    g_nt is the gradient of sample n's own loss at that output, in nats per unit of output for cross-entropy; None where no
    gradients were asked for. N is ``num_samples``, T the positions a sample; uses of a tied weight are further positions.
    A sums over positions and Γ averages over them, so that A ⊗ Γ has the scale of the layer's Fisher: the KFC factors of Grosse
    & Martens 2016, section 3; a fully connected layer with T = 1 has those of Martens & Grosse 2015, section 3.
    """

    inputs: Tensor
    outputs: Tensor | None
    num_samples: int


def layer_factors(
    model: nn.Module,
    parameters: PrunableParameters,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Loss = cross_entropy,
    labels: Labels = Labels.TRUE,
    uniforms: Tensor | None = None,
    gradients: bool = True,
    weights: Tensor | None = None,
    chunk: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Factors, ...]:
    """The factors of every layer of ``parameters``, in their order, on the model's device (MPS: on the CPU).

    Args:
        model: Any module that treats samples apart; evaluated in eval mode on a copy.
        parameters: The layers.
        batches: (inputs, targets) of any batch sizes; the targets are read only where gradients need them.
        loss: ``loss(outputs, targets)``, a mean over the batch; called with one sample at a time.
        labels: The given targets, or labels sampled from the softmax of the outputs.
        uniforms: (n,) uniform numbers that turn probabilities into sampled labels; needed for ``Labels.SAMPLED``.
        gradients: Whether Γ is wanted, which takes the backward pass.
        weights: (d,) values of the weights instead of the model's own.
        chunk: Samples a pass; chosen from the size of the activations by default.
        progress: Called with the number of samples done after each pass.

    Raises:
        InputError: There are no samples, sampled labels lack their uniforms, or a layer is not called as a module.
        NumericalError: An input or a gradient is NaN or infinite.
    """
    sampled = gradients and labels is Labels.SAMPLED
    if sampled and uniforms is None:
        raise InputError("sampled labels: expected one uniform number a sample (sampling.label_uniforms), got none.")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    if weights is not None:
        network.load_state_dict(parameters.written_into(network.state_dict(), weights))
    filled = ((inputs, targets) for inputs, targets in batches if len(targets))
    first = next(filled, None)
    if first is None:
        raise InputError("activations: expected at least one sample, got none.")
    modules = _modules(network, parameters)
    chunk = chunk or _default_chunk(network, list(modules), first[0][:1])
    sums = [_Sums() for _ in parameters.layers]
    leaves: list[Tensor] = []
    hooks = [
        module.register_forward_hook(_hook(sums[place], leaves if gradients else None), with_kwargs=True)
        for module, place in modules.items()
    ]
    done = 0
    try:
        for inputs, targets in regrouped(chain([first], filled), chunk, 1):
            with torch.set_grad_enabled(gradients):
                outputs = network(inputs)
                if sampled:
                    targets = sampled_labels(outputs.detach(), uniforms[done:][: len(targets)])
                if gradients:
                    _backward(_summed_loss(loss, outputs, targets), leaves)
            del outputs
            done += len(targets)
            _check(sums, parameters, done - len(targets), done)
            if progress:
                progress(done)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, own in zip(parameters.layers, sums, strict=True):
        if own.inputs is None:
            raise InputError(
                f"activations: the layer {layer.module} is never called as a module: it is unused, or its weight is used by "
                f"other means. Leave it out (exclude={layer.module!r}), or choose a method made from gradients."
            )
    return tuple(own.factors(done, gradients) for own in sums)


class _Sums:
    """Running sums of one layer: A, Γ and how many positions they have seen."""

    def __init__(self):
        self.inputs: Tensor | None = None
        self.outputs: Tensor | None = None
        self.positions = 0

    def add_inputs(self, module: nn.Module, x: Tensor) -> None:
        """Adds Σ a aᵀ of one call's inputs."""
        x = x.reshape(-1, x.shape[-1]) if isinstance(module, nn.Linear) else _batched(module, x)
        for part in x.split(_samples_together(module, x)):
            piece = _patches(module, part.to(compute_device(x.device), torch.float64))
            self.positions += piece.shape[2]
            self.inputs = _added(self.inputs, piece)

    def add_outputs(self, module: nn.Module, gradient: Tensor) -> None:
        """Adds Σ g gᵀ of one call's output gradients."""
        if isinstance(module, nn.Linear):
            rows = gradient.reshape(1, -1, gradient.shape[-1]).mT
        else:
            rows = _batched(module, gradient).transpose(0, 1).flatten(1).unflatten(0, (module.groups, -1))
        for part in rows.split(max(1, PATCH_BYTES // (8 * rows.shape[0] * rows.shape[1])), dim=2):
            self.outputs = _added(self.outputs, part.to(compute_device(part.device), torch.float64))

    def factors(self, num_samples: int, gradients: bool) -> Factors:
        """The means; Γ is zero where the loss does not depend on the layer."""
        return Factors(self.inputs / num_samples, self.outputs / self.positions if gradients else None, num_samples)


def _check(sums: list[_Sums], parameters: PrunableParameters, start: int, stop: int) -> None:
    """Refuses what the samples from ``start`` up to ``stop`` made NaN or infinite."""
    for what in ("inputs", "outputs"):
        for layer, own in zip(parameters.layers, sums, strict=True):
            total = getattr(own, what)
            # A NaN or an infinity in a vector shows in its square.
            if total is not None and not total.diagonal(dim1=1, dim2=2).isfinite().all():
                raise NumericalError(
                    f"activations: {'output gradients' if what == 'outputs' else what} of the layer {layer.module} hold NaN or "
                    f"infinite values among the samples {start} to {stop - 1}. Check the weights, the inputs and the loss."
                )


def _added(total: Tensor | None, part: Tensor) -> Tensor:
    """``total`` + P Pᵀ, P (groups, n, positions)."""
    return part @ part.mT if total is None else total.baddbmm_(part, part.mT)


def _hook(sums: _Sums, leaves: list[Tensor] | None) -> Callable:
    """A forward hook that adds to ``sums``; with ``leaves``, gradients at the output too."""

    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        sums.add_inputs(module, (args[0] if args else kwargs["input"]).detach())
        if leaves is None:
            return output
        if sums.outputs is None:
            groups = getattr(module, "groups", 1)
            out = len(module.weight) // groups
            sums.outputs = torch.zeros(groups, out, out, dtype=torch.float64, device=sums.inputs.device)
        if not output.requires_grad:
            # The first layers: no weight asks for a gradient, so their outputs must. A copy, for what follows may work in place.
            leaves.append(output.detach().requires_grad_())
            output = leaves[-1].clone()
        output.register_hook(lambda gradient: sums.add_outputs(module, gradient.detach()))
        return output

    return hook


def _summed_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Σ_n of each sample's own loss, so that the gradient at sample n's outputs is that of its loss, whatever loss averages."""
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(
            f"activations: expected a tensor of outputs with {len(targets)} rows, one a sample, got {got}."
        )
    values = [loss(output, target) for output, target in zip(outputs.split(1), targets.split(1), strict=True)]
    if values[0].ndim:
        raise InputError(f"loss: expected one number, the mean over the batch, got shape {tuple(values[0].shape)}.")
    return torch.stack(values).sum()


def _backward(value: Tensor, leaves: list[Tensor]) -> None:
    """The backward pass, which runs the hooks at the outputs, down to the first layers."""
    if value.requires_grad:
        torch.autograd.grad(value, leaves, allow_unused=True)
    leaves.clear()


def _modules(network: nn.Module, parameters: PrunableParameters) -> dict[nn.Module, int]:
    """Which of the layers each module computes; several compute one where weights are tied."""
    own = dict(network.named_parameters(remove_duplicate=False))
    places = {id(own[layer.name]): place for place, layer in enumerate(parameters.layers)}
    found: dict[nn.Module, int] = {}
    groups: dict[int, int] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            place = places.get(id(parameter))
            if place is None:
                continue
            alike = isinstance(module, PRUNABLE_MODULES) and parameter is module.weight
            count = getattr(module, "groups", 1)
            if not alike or groups.setdefault(place, count) != count:
                layer = parameters.layers[place].module
                raise InputError(
                    f"activations: {name} ({type(module).__name__}) uses the weight of {layer} in another way, so that it has "
                    f"no one input. Leave it out (exclude={layer!r}), or choose a method made from gradients."
                )
            found[module] = place
    return found


def _default_chunk(network: nn.Module, modules: list[nn.Module], one: Tensor) -> int:
    """Samples a pass, from what the layers give for ``one`` sample."""
    found = 0

    def count(module: nn.Module, args: tuple, output: Tensor) -> None:
        nonlocal found
        found += output.nbytes

    hooks = [module.register_forward_hook(count) for module in modules]
    try:
        with torch.no_grad():
            network(one)
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, min(MAX_CHUNK, PASS_BYTES // max(1, found)))


def _batched(module: nn.Module, x: Tensor) -> Tensor:
    """(n, channels, ...) also where a convolution was given one sample without its batch dimension."""
    return x.unsqueeze(0) if x.ndim == len(module.kernel_size) + 1 else x


def _patches(module: nn.Module, x: Tensor) -> Tensor:
    """(groups, in, positions): the vectors that the rows of the module's weight multiply, from inputs with a batch dimension."""
    if isinstance(module, nn.Linear):
        return x.T.unsqueeze(0)
    dims = len(module.kernel_size)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    margins = [margin for axis in reversed(range(dims)) for margin in _margins(module, axis)]  # the last axis first
    if any(margins):
        x = functional.pad(x, margins, mode=mode)
    for axis, (size, step, gap) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        x = x.unfold(2 + axis, gap * (size - 1) + 1, step)[..., ::gap]
    # (n, channels, positions..., kernel...) → (groups, channels a group × kernel, n × positions)
    places, kernel = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
    return x.permute(1, *kernel, 0, *places).reshape(module.groups, module.weight[0].numel(), -1)


def _margins(module: nn.Module, axis: int) -> tuple[int, int]:
    """Padding before and after along one axis; "same" puts the odd one after."""
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        total = module.dilation[axis] * (module.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    return module.padding[axis], module.padding[axis]


def _samples_together(module: nn.Module, x: Tensor) -> int:
    """How many samples' patches fit their bytes; one sample at least."""
    width = module.weight[0].numel()
    if not isinstance(module, nn.Linear):
        padded = [length + sum(_margins(module, axis)) for axis, length in enumerate(x.shape[2:])]
        steps = [-(-length // step) for length, step in zip(padded, module.stride, strict=True)]
        width *= module.groups * prod(steps)
    return max(1, PATCH_BYTES // (8 * width))
