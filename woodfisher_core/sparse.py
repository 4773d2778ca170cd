"""Linear layers whose zeros are left out: CSR (any machine), 2:4 (NVIDIA GPUs since Ampere). Convolutions have no such kernel."""

import copy
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from woodfisher_core.errors import InputError


class CsrLinear(nn.Module):
    """``nn.Linear`` over a weight (out, in) kept as CSR; inputs (..., in), outputs (..., out)."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """W x + b, as Yᵀ = W Xᵀ + b: with the sparse factor on the left, where its kernels want it."""
        columns = inputs.reshape(-1, inputs.shape[-1]).T
        if self.bias is None:
            outputs = torch.mm(self.weight, columns)
        else:
            outputs = torch.addmm(self.bias.unsqueeze(1), self.weight, columns)
        return outputs.T.reshape(*inputs.shape[:-1], self.weight.shape[0])


def csr(weight: Tensor) -> Tensor:
    """``weight`` (rows, columns) without its zeros, as compressed sparse rows with 32-bit indices."""
    _csr_warning_said()
    found = weight.detach().to_sparse_csr()
    crow, column = found.crow_indices().int(), found.col_indices().int()
    return torch.sparse_csr_tensor(crow, column, found.values(), found.shape, check_invariants=True)


@lru_cache(maxsize=1)
def _csr_warning_said() -> None:
    """PyTorch says once a process that CSR is in beta; nobody who looks at a latency can do anything about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)
        torch.ones(1, 1).to_sparse_csr()


def with_csr(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """(a copy of ``model`` with its Linear layers as CSR, their names); only those that hold a zero.

    Raises:
        InputError: There is no such layer, or no CSR product in this build of PyTorch on the model's device.
    """

    def pack(layer: nn.Linear) -> nn.Module:
        return CsrLinear(csr(layer.weight), layer.bias)

    return _with(copy.deepcopy(model), pack, "CSR")


def with_semi_structured(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """(a half-precision copy of ``model`` with its Linear layers in the 2:4 format of NVIDIA's sparse tensor cores, their names).

    Only layers that hold a zero; biases stay.

    Raises:
        InputError: No GPU that can, or a layer whose size or zeros do not fit 2:4.
    """
    device = next(model.parameters()).device
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        raise InputError(
            "2:4: expected an NVIDIA GPU with sparse tensor cores (compute capability 8.0 or more), got "
            f"{device.type}. Choose another device where there is one."
        )

    def pack(layer: nn.Linear) -> nn.Module:
        weight = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
        layer.weight = nn.Parameter(weight, requires_grad=False)
        return layer

    return _with(copy.deepcopy(model).half(), pack, "2:4")


def _with(network: nn.Module, pack: Callable[[nn.Linear], nn.Module], what: str) -> tuple[nn.Module, tuple[str, ...]]:
    """``network`` with ``pack`` of each Linear layer that holds a zero in its place, tried once; and their names."""
    network.eval()
    names = tuple(
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and bool((module.weight == 0).any())
    )
    if not names:
        raise InputError(
            f"{what}: expected a Linear layer with zeros, found none. Convolutions stay dense: PyTorch has no sparse kernel for "
            "them."
        )
    for name in names:
        layer = network.get_submodule(name)
        example = torch.zeros(8, layer.in_features, device=layer.weight.device, dtype=layer.weight.dtype)
        try:
            packed = pack(layer)
            with torch.no_grad():
                packed(example)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{what}: this PyTorch cannot compute {name} ({layer.in_features} → {layer.out_features}) so on "
                f"{example.device.type}: {reason}"
            ) from None
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, packed)
    return network, names
