"""Weights from files, tensors only: nothing a file brings is ever executed.

``.safetensors`` is read by its own library. ``.pt``/``.pth``/``.ckpt``/``.tar`` go through ``torch.load(weights_only=
True)``; the one concession is that classes of ``torch.optim`` named in a training checkpoint are stood in for by an
inert placeholder (the official WoodFisher checkpoint holds two). Any other class or function refuses the file by name.
"""

import hashlib
import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from woodfisher_core.errors import InputError

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".bin")
# Where training scripts put the weights inside a checkpoint.
STATE_KEYS = ("model_state_dict", "state_dict", "model", "net")


class _Inert:
    """Stands in for an optimizer class a checkpoint mentions; does nothing whatever it is called with."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint file under clean names (``fc1.weight``), on the CPU.

    Wrapper names of data-parallel training and of the official code's masking layers are undone; where such a layer
    carries a mask, its weight is multiplied by it (that is the weight the official code computes with). The masks that
    ``export.save_pruned`` writes beside the weights (``<name>.mask``) are applied and left out likewise.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights: expected a file at {str(path)!r}, found none. Check --weights.")
    if path.suffix == ".safetensors":
        try:
            raw = load_file(str(path))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"weights: {path.name} is damaged or no safetensors file ({error}). Copy it again."
            ) from None
    elif path.suffix in TORCH_SUFFIXES:
        raw = _find_state(_load_torch(path), path)
    else:
        raise InputError(f"weights: expected .safetensors or one of {', '.join(TORCH_SUFFIXES)}, got {path.name!r}.")
    return _clean(raw)


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copies ``state`` into ``model`` after checking every name, shape and value; ``source`` names the file in errors."""
    own = model.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    problems = [f"lacks {name}" for name in own if name not in state and name not in optional]
    problems += [f"has {name}, which the model does not" for name in state if name not in own]
    problems += [
        f"{name}: expected shape {tuple(own[name].shape)}, got {tuple(state[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise InputError(
            f"weights: {source} does not fit {type(model).__name__}: {shown}. Choose the --model it was trained as."
        )
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise InputError(
                f"weights: {source}: {name} holds {bad} values that are NaN or infinite; expected finite ones."
            )
    model.load_state_dict(dict(state), strict=False)


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Hex sha256 over names, shapes, dtypes and bytes, independent of the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_torch(path: Path) -> object:
    refused = f"weights: {path.name} is refused"
    try:
        mentioned = _globals_in(path)
    except Exception as error:  # damaged bytes make these parsers raise almost anything
        raise InputError(
            f"weights: {path.name} is truncated or no PyTorch checkpoint ({_short(error)}). Copy it again."
        ) from None
    placeholders = [(_Inert, name) for name in mentioned if name.startswith("torch.optim.")]
    try:
        with torch.serialization.safe_globals(placeholders), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # what matters is whether it loads
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        suspects = sorted(name for name in mentioned if not name.startswith(("torch.", "collections.")))
        if not suspects:
            raise InputError(f"weights: {path.name} is damaged or no PyTorch checkpoint. Copy it again.") from None
        raise InputError(
            f"{refused}: it would run {', '.join(suspects)} when opened, and a checkpoint may hold tensors "
            "only. Save its state dict as .safetensors where you trust it."
        ) from None
    except Exception as error:
        raise InputError(f"weights: {path.name} is truncated or damaged ({_short(error)}). Copy it again.") from None


def _short(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _globals_in(path: Path) -> set[str]:
    """Dotted names of every class and function the file's pickles mention, found without executing anything."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if not members:
                raise KeyError("no data.pkl inside")
            streams = [io.BytesIO(archive.read(name)) for name in members]
            return set().union(*(_globals_in_pickle(stream) for stream in streams))
    with path.open("rb") as stream:
        found: set[str] = set()
        # The format before PyTorch 1.6 is five pickles in a row (magic, protocol, system, object, keys), then bytes.
        magic = _pickle_at(stream, found)
        if magic != [0x1950A86A20F9469CFC6C]:
            # A bare pickle: its names are enough to refuse it by.
            return found
        for _ in range(3):
            _pickle_at(stream, found)
        return found


def _globals_in_pickle(stream) -> set[str]:
    found: set[str] = set()
    _pickle_at(stream, found)
    return found


def _pickle_at(stream, found: set[str]) -> list:
    """Walks one pickle's opcodes, adding the names it mentions to ``found``; returns its integer arguments."""
    integers, strings = [], []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            found.add(argument.replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            found.add(".".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
        elif isinstance(argument, int) and opcode.name.startswith("LONG"):
            integers.append(argument)
    return integers


def _find_state(loaded: object, path: Path) -> Mapping[str, Tensor]:
    candidates = [loaded]
    if isinstance(loaded, Mapping):
        candidates = [loaded[key] for key in STATE_KEYS if key in loaded] + candidates
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            tensors = {k: v for k, v in candidate.items() if isinstance(k, str) and isinstance(v, Tensor)}
            if tensors:
                return tensors
    raise InputError(
        f"weights: {path.name} holds no state dict; expected tensors by name, at the top or under one of "
        f"{', '.join(STATE_KEYS)}."
    )


def _clean(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in raw.items():
        while name.startswith("module."):
            name = name.removeprefix("module.")
        renamed[name.replace("._layer.", ".")] = tensor.detach()
    masks = {name: tensor for name, tensor in renamed.items() if name.endswith(("._weight_mask", "._bias_mask"))}
    clean = {name: tensor for name, tensor in renamed.items() if name not in masks}
    for name, mask in masks.items():
        target = name.removesuffix("_mask").replace("._weight", ".weight").replace("._bias", ".bias")
        if target in clean and mask.shape == clean[target].shape:
            clean[target] = clean[target] * mask
    for name in [name for name in clean if name.endswith(".mask")]:
        target, mask = name.removesuffix(".mask"), clean[name]
        if mask.dtype == torch.bool and target in clean and mask.shape == clean[target].shape:
            clean[target] = clean[target] * clean.pop(name)
    return clean
