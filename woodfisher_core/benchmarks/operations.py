"""Floating-point operations (a multiply and an add are two) that a computation cannot do without."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from woodfisher_core.fisher import Blocks
from woodfisher_core.parameters import PrunableParameters


def diagonal_operations(num_rows: int, blocks: Blocks) -> float:
    """diag F⁻¹ at one damping. N < B: K and L⁻¹G, both triangular, N²B each, and L⁻¹ at ⅔ N³; else GᵀG at NB² and B³."""
    total = 0.0
    for run in blocks.runs:
        n, size = float(num_rows), float(run.size)
        total += run.count * (2 * n * n * size + 2 * n**3 / 3 if n < size else n * size**2 + size**3)
    return total


def backward(model: nn.Module, parameters: PrunableParameters, inputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """The mean gradient of the prunable weights, by one forward and one backward pass over the whole batch."""
    leaves = {name: model.get_parameter(name).detach().requires_grad_() for name in parameters.names}
    outputs = torch.func.functional_call(model, leaves, (inputs,))
    return torch.autograd.grad(cross_entropy(outputs, targets), list(leaves.values()))


def gradient_operations(model: nn.Module, parameters: PrunableParameters, inputs: Tensor, targets: Tensor) -> float:
    """Products and convolutions of the forward and backward pass of ``inputs``, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        backward(model, parameters, inputs, targets)
    return float(counter.get_total_flops())
