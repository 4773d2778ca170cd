"""Multiply-adds of the prunable layers, counted at the shapes that flow through them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from woodfisher_core.parameters import PRUNABLE_MODULES, PrunableParameters


def positions(model: nn.Module, parameters: PrunableParameters, inputs: Tensor) -> Tensor:
    """How often each weight is multiplied for one sample, (d,) float64: output positions of its layer.

    H_out·W_out for a convolution, 1 for a Linear layer on a vector; a layer used twice (or a tied weight) counts twice, one
    that is never used 0. ``inputs`` (n, …) are any samples; their first is sent through ``model``, which stays as it is.
    """
    counts = dict.fromkeys(parameters.names, 0)
    owners = {id(model.get_parameter(layer.name)): layer.name for layer in parameters.layers}

    def hook(module: nn.Module, _inputs: object, output: Tensor) -> None:
        name = owners.get(id(module.weight))
        if name is not None:
            counts[name] += output.numel() // module.weight.shape[0]

    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, PRUNABLE_MODULES)]
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(inputs[:1])
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
    return spread(parameters, [counts[name] for name in parameters.names], inputs.device)


def spread(parameters: PrunableParameters, values: Sequence[float], device: torch.device | str) -> Tensor:
    """(d,) float64: each layer's value at all of its weights."""
    sizes = torch.tensor([layer.numel for layer in parameters.layers], device=device)
    return torch.tensor(values, dtype=torch.float64, device=device).repeat_interleave(sizes)
