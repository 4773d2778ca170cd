"""A ``.safetensors`` file that a user brought: its head is read by hand before its tensors are, and nothing in it ever runs."""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from woodfisher_core.checkpoints import load_into, load_state
from woodfisher_core.errors import InputError
from woodfisher_core.models import MODELS, ModelSpec
from woodfisher_core.own.archive import shown
from woodfisher_core.own.limits import HEADER_BYTES, UPLOAD_BYTES, megabytes

# Bytes of one number, of the types that safetensors knows and this reads; whole numbers only where a counter is expected.
FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
COUNTERS = {"I64": 8, "I32": 4}
COUNTER = "num_batches_tracked"
# Beside the weights of a network that was pruned here stands which of them are left.
MASKS, MASK = {"BOOL": 1}, ".mask"
LENGTH = 8
CONVERT = (
    "Convert it on your own machine, where you trust it: `from safetensors.torch import save_file` and "
    "`save_file(model.state_dict(), 'mine.safetensors')`."
)


@dataclass(frozen=True)
class Head:
    """One tensor as the file's head announces it."""

    dtype: str
    shape: tuple[int, ...]


def read_weights(
    raw: bytes, label: str, model: str | None = None
) -> tuple[ModelSpec, dict[str, Tensor], tuple[str, ...]]:
    """(network, its whole state dict in float32, what else is to be said) of a file's bytes.

    ``model`` names the network it is for; found by the shapes where None.

    Raises:
        InputError: It is refused; the words say why and what to do.
    """
    heads = read_head(raw)
    spec = fitting(heads, label, model)
    # By the one reader of weights there is, from a file of our own.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "brought.safetensors"
        path.write_bytes(raw)
        state = load_state(path)
    network = spec.build()
    load_into(network, state, label)
    network.eval()
    own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    _check_values(own, network)
    said = sorted({head.dtype for head in heads.values() if head.dtype in FLOATS and head.dtype != "F32"})
    return spec, own, tuple([f"Its {' and '.join(said)} numbers are read as float32."] if said else [])


def read_head(raw: bytes) -> dict[str, Head]:
    """Name → type and shape of every tensor, after checking that the file holds exactly what its head says.

    Raises:
        InputError: It is too large, truncated, or something else.
    """
    if len(raw) > UPLOAD_BYTES:
        raise InputError(f"weights: expected a file of at most {megabytes(UPLOAD_BYTES)}, got {megabytes(len(raw))}.")
    if len(raw) <= LENGTH or raw[LENGTH : LENGTH + 1] != b"{":
        raise InputError(f"weights: expected a .safetensors file, got {_kind(raw)}")
    length = int.from_bytes(raw[:LENGTH], "little")
    if length > HEADER_BYTES:
        raise InputError(
            f"weights: the file says that its head alone is {megabytes(length)} long; expected at most "
            f"{megabytes(HEADER_BYTES)}. It is damaged, or made to harm: nothing of it was read."
        )
    if LENGTH + length > len(raw):
        raise InputError(
            f"weights: the file is truncated: its head needs {length:,} bytes, {len(raw) - LENGTH:,} are there. Copy it again."
        )
    return _check_tensors(_parse(raw[LENGTH : LENGTH + length]), len(raw) - LENGTH - length)


def _kind(raw: bytes) -> str:
    """What a file is that is no safetensors file."""
    if not raw:
        return "an empty file. Choose another."
    if raw.startswith(b"PK\x03\x04"):
        return (
            "a zip archive: a PyTorch checkpoint (.pt, .pth) is one, with a pickle inside, and opening a pickle can run any "
            f"program. It was not opened. {CONVERT} (Images in a zip go to the field for data.)"
        )
    if raw[:1] == b"\x80" and raw[1:2] in b"\x02\x03\x04\x05":
        return f"a pickle. Opening a pickle can run any program, so it was not opened. {CONVERT}"
    if raw.startswith(b"\x93NUMPY"):
        return f"a NumPy array. {CONVERT}"
    if raw.startswith(b"\x89HDF"):
        return f"an HDF5 file (Keras?). {CONVERT}"
    return f"something else, or a damaged file: its head does not begin where it should. {CONVERT}"


def _parse(head: bytes) -> dict[str, object]:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise InputError("weights: the file's head names a tensor twice. It is damaged, or made to harm.")
        return dict(pairs)

    try:
        parsed = json.loads(head.decode("utf-8"), object_pairs_hook=once)
    except InputError:
        raise
    except (ValueError, RecursionError):  # of which errors of decoding are one
        parsed = None
    if not isinstance(parsed, dict):
        raise InputError("weights: the file's head is no JSON table of tensors. It is damaged: copy it again.")
    parsed.pop("__metadata__", None)
    if not parsed:
        raise InputError("weights: the file holds no tensors.")
    return parsed


def _check_tensors(entries: dict[str, object], held: int) -> dict[str, Head]:
    """The tensors, each of which lies where it says, without gaps, to the end of the ``held`` bytes."""
    heads, places = {}, []
    for name, entry in entries.items():
        named = shown(name)
        dtype, shape, place = (entry.get(key) if isinstance(entry, dict) else None for key in _FIELDS)
        if not (_counts(shape) and _counts(place) and len(place) == 2 and isinstance(dtype, str)):
            raise InputError(f"weights: the file's head is damaged at {named}. Copy it again.")
        wanted = COUNTERS | FLOATS if name.endswith(COUNTER) else MASKS if name.endswith(MASK) else FLOATS
        if dtype not in wanted:
            raise InputError(
                f"weights: {named}: expected numbers of type {', '.join(wanted)}, got {shown(dtype)}. Whole numbers are no "
                "weights: save the network before it is quantised."
            )
        if place[1] - place[0] != math.prod(shape) * wanted[dtype]:
            raise InputError(
                f"weights: {named}: a {dtype} tensor of {_times(shape)} takes {math.prod(shape) * wanted[dtype]:,} bytes, the "
                f"file's head gives it {place[1] - place[0]:,}. It is damaged: copy it again."
            )
        heads[name] = Head(dtype, tuple(shape))
        places.append(tuple(place))
    end = 0
    for begin, after in sorted(places):
        if begin != end:
            raise InputError("weights: the file's tensors overlap or leave gaps. It is damaged: copy it again.")
        end = after
    if end != held:
        what = "truncated" if held < end else "longer than it says"
        raise InputError(
            f"weights: the file is {what}: its tensors take {end:,} bytes, {held:,} are there. Copy it again."
        )
    return heads


_FIELDS = ("dtype", "shape", "data_offsets")


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value) and len(value) <= 8


def fitting(heads: dict[str, Head], label: str, model: str | None = None) -> ModelSpec:
    """The listed network whose tensors have these names and shapes; it must be ``model`` where that is given."""
    fits = [spec for spec in MODELS.values() if not _differences(heads, spec)]
    wanted = [spec for spec in fits if model in (None, spec.name)]
    if wanted:
        return wanted[0]
    if fits:
        raise InputError(
            f"weights: {label} does not fit {model}: {_said(_differences(heads, MODELS[model]))}. It fits {fits[0].name}: choose "
            "that network."
        )
    nearest = MODELS[model] if model else min(MODELS.values(), key=lambda spec: len(_differences(heads, spec)))
    raise InputError(
        f"weights: {label} fits none of {', '.join(MODELS)}. Against {nearest.name}: {_said(_differences(heads, nearest))}."
    )


def _differences(heads: dict[str, Head], spec: ModelSpec) -> list[str]:
    """What keeps these tensors from being those of ``spec``, each in a few words; wrong shapes first."""
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in spec.build().state_dict().items()}
    given = {_clean(name): head.shape for name, head in heads.items()}
    shapes = [
        f"{name}: expected shape {_times(shape)}, got {_times(given[name])}"
        for name, shape in own.items()
        if name in given and given[name] != shape
    ]
    lacking = [f"{name} is missing" for name in own if name not in given and not name.endswith(COUNTER)]
    more = [
        f"{shown(name)} is not part of it" for name in given if name not in own and not name.endswith((MASK, "_mask"))
    ]
    return shapes + lacking + more


def _clean(name: str) -> str:
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name.replace("._layer.", ".")


def _said(differences: list[str]) -> str:
    more = len(differences) - 3
    return "; ".join(differences[:3]) + (f"; and {more} more" if more > 0 else "")


def _times(shape: tuple[int, ...] | list[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _check_values(state: dict[str, Tensor], network: nn.Module) -> None:
    """What is finite in the file may not be in float32, and a variance may not be negative."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"weights: {name} holds numbers beyond what float32 can: expected less than 3.4e38.")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise InputError(
                f"weights: {name} holds a negative variance, {float(tensor.min()):.3g}; expected none below 0."
            )
