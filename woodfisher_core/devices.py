"""Where the arithmetic runs: the network on its device, float64 where float64 exists."""

import torch

from woodfisher_core.errors import InputError

KINDS = ("cpu", "cuda", "mps")


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; ``mps`` (Apple) is taken only by name: it is untested."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise InputError(f"device: expected auto, cpu, cuda or mps, got {device!r}.") from None
    if resolved.type not in KINDS:
        raise InputError(f"device: expected auto, cpu, cuda or mps, got {str(device)!r}.")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device: no CUDA device is usable here; expected --device cpu or auto.")
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device: no MPS device is usable here; expected --device cpu or auto.")
    return resolved


def compute_device(device: torch.device) -> torch.device:
    """Where G and the flat vectors of a network on ``device`` live: MPS has no float64, so there it is the CPU."""
    return torch.device("cpu") if device.type == "mps" else device
