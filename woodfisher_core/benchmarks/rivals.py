"""Libraries that are needed for nothing but being compared with (the extra ``[bench]``); None where not installed.

BackPACK: Dangel, Kunstner & Hennig 2020. curvlinops: the same group's matrices as linear operators.
"""

import copy
import functools
import importlib
import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from woodfisher_core.parameters import PrunableParameters

NOT_INSTALLED = "not installed (the extra [bench])"


def quietly(function: Callable) -> Callable:
    """``function`` without the warnings these libraries and PyTorch give about each other."""

    @functools.wraps(function)
    def silent(*values, **named):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*values, **named)

    return silent


@quietly
def load(name: str) -> ModuleType | None:
    """The module ``name``, or None where its package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == name.partition(".")[0]:
            return None
        raise


def batch_grad(model: nn.Module, parameters: PrunableParameters) -> Callable[[Tensor, Tensor], Tensor] | None:
    """BackPACK's individual gradients of the cross-entropy: (inputs, targets) to G (n, d)."""
    backpack = load("backpack")
    if backpack is None:
        return None
    extensions = load("backpack.extensions")
    network = backpack.extend(_differentiable_in(model, parameters))
    # BackPACK's gradients carry the loss's 1/n: of a sum they are each sample's own.
    loss = backpack.extend(nn.CrossEntropyLoss(reduction="sum"))
    weights = [network.get_parameter(name) for name in parameters.names]

    @quietly
    def rows(inputs: Tensor, targets: Tensor) -> Tensor:
        with backpack.backpack(extensions.BatchGrad()):
            loss(network(inputs), targets).backward()
        found = torch.cat([weight.grad_batch.flatten(1) for weight in weights], dim=1)
        for weight in weights:
            del weight.grad_batch
            weight.grad = None
        return found

    return rows


class FisherOperators:
    """curvlinops' empirical Fisher F of the prunable weights over one batch, and (F + λI)⁻¹ by conjugate gradients."""

    @quietly
    def __init__(self, model: nn.Module, parameters: PrunableParameters, inputs: Tensor, targets: Tensor):
        network = _differentiable_in(model, parameters)
        weights = [network.get_parameter(name) for name in parameters.names]
        self._fisher = load("curvlinops").EFLinearOperator(network, nn.CrossEntropyLoss(), weights, [(inputs, targets)])
        self._shapes = [tuple(weight.shape) for weight in weights]

    @quietly
    def product(self, x: Tensor) -> Tensor:
        """F x, (d,)."""
        return self._fisher @ x

    @quietly
    def inverse_product(self, x: Tensor, damping: float, tolerance: float, most_steps: int) -> Tensor:
        """(F + λI)⁻¹ x, (d,), to a relative residual of ``tolerance`` or as far as ``most_steps`` steps lead."""
        identity = load("curvlinops.examples").IdentityLinearOperator(self._shapes, x.device, x.dtype)
        inverse = load("curvlinops").CGInverseLinearOperator(
            self._fisher + damping * identity, tolerance=tolerance, max_iter=most_steps, max_tridiag_iter=0
        )
        return inverse @ x


def _differentiable_in(model: nn.Module, parameters: PrunableParameters) -> nn.Module:
    """A copy of ``model`` in eval mode in which the prunable weights alone require gradients."""
    network = copy.deepcopy(model).eval().requires_grad_(False)
    for name in parameters.names:
        network.get_parameter(name).requires_grad_(True)
    return network
