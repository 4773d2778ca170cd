"""Dense float64 curvatures of layers, from the definitions: one sample, one input and one position at a time."""

import copy
from collections.abc import Iterator

import torch
from cases import batch, network, seeded
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core.parameters import Layer, PrunableParameters


class OddNet(nn.Module):
    """Convolutions with stride, padding, dilation and groups on (n, 2, 7, 6), used in place; d = 36 + 96 + 24 + 36."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 0), groups=2)
        self.dilated = nn.Conv2d(4, 6, 2, dilation=2, padding="same", padding_mode="circular")
        self.depthwise = nn.Conv2d(6, 6, (2, 2), groups=6, bias=False)
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.strided(x), inplace=True)
        x = self.depthwise(self.dilated(x).tanh()).mean((2, 3))
        return self.fc(x)[:, :3]


def material(kind: str, count: int, dead: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 network of ``kind`` in eval mode, with ``count`` inputs and targets."""
    if kind == "odd":
        generator = torch.Generator().manual_seed(5)
        inputs = torch.randn(count, 2, 7, 6, generator=generator, dtype=torch.float64)
        return seeded(OddNet).double().eval(), inputs, torch.randint(3, (count,), generator=generator)
    inputs, targets = batch(kind, count)
    return copy.deepcopy(network(kind, dead)).double(), inputs.double(), targets


def modules_of(model: nn.Module, layer: Layer) -> list[nn.Module]:
    """The modules that hold the layer's weight, under any of its names."""
    return [model.get_submodule(name.rpartition(".")[0]) for name in (layer.name, *layer.aliases)]


def patches(module: nn.Module, x: Tensor) -> Tensor:
    """(groups, in, positions): input j is read off by the module itself, its weight one there and zero elsewhere."""
    probe, groups = copy.deepcopy(module).requires_grad_(False), getattr(module, "groups", 1)
    found = []
    for j in range(probe.weight[0].numel()):
        probe.weight.zero_()
        probe.weight.view(len(probe.weight), -1)[:, j] = 1.0
        if probe.bias is not None:
            probe.bias.zero_()
        out = probe(x)
        out = out.movedim(-1, 0) if isinstance(module, nn.Linear) else out.movedim(1, 0)
        found.append(out.flatten(1)[:: len(out) // groups])
    return torch.stack(found, dim=1)


def traced(model: nn.Module, layer: Layer, x: Tensor, y: Tensor, loss=cross_entropy) -> Iterator[tuple[Tensor, Tensor]]:
    """(patches, output gradients (groups, out, positions)) of each use of ``layer`` for one sample (1, ...)."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def nudge(module, args, output):
        # Nothing, but something to differentiate by.
        nothing = torch.zeros_like(output, requires_grad=True)
        seen.append((module, args[0].detach().clone(), nothing))
        return output + nothing

    hooks = [module.register_forward_hook(nudge) for module in modules_of(model, layer)]
    value = loss(model(x), y)
    for hook in hooks:
        hook.remove()
    for module, inputs, nothing in seen:
        (gradient,) = torch.autograd.grad(value, nothing, retain_graph=True)
        gradient = gradient.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)
        yield patches(module, inputs), gradient.unflatten(0, (getattr(module, "groups", 1), -1))


def moments(
    model: nn.Module, layer: Layer, inputs: Tensor, targets: Tensor, loss=cross_entropy
) -> tuple[Tensor, Tensor]:
    """A and Γ as sums of outer products, one position at a time."""
    first = second = 0.0
    positions = 0
    for x, y in zip(inputs.split(1), targets.split(1), strict=True):
        for a, g in traced(model, layer, x, y, loss):
            for t in range(a.shape[2]):
                first = first + a[:, :, t, None] * a[:, None, :, t]
                second = second + g[:, :, t, None] * g[:, None, :, t]
            positions += a.shape[2]
    return first / len(inputs), second / positions


def dense_curvature(model: nn.Module, inputs: Tensor, targets: Tensor, gradients: bool) -> Tensor:
    """(d, d) undamped: A ⊗ Γ of each layer with ``gradients``, A ⊗ I without; zero between layers and groups."""
    parameters = PrunableParameters.from_model(model)
    full = torch.zeros(parameters.num_prunable, parameters.num_prunable, dtype=torch.float64)
    for layer in parameters.layers:
        first, second = moments(model, layer, inputs, targets)
        start = layer.offset
        for a, g in zip(first, second, strict=True):
            block = torch.kron(g if gradients else torch.eye(len(g), dtype=torch.float64), a)
            full[start : start + len(block), start : start + len(block)] = block
            start += len(block)
    return full


def drawn_mask(count: int, sparsity: float, seed: int = 3) -> Tensor:
    """(count,) bool, True for a random share 1 − sparsity."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) >= sparsity
