"""The two doors: bytes of a file and its name in, what was kept out."""

import json

from woodfisher_core.checkpoints import state_hash
from woodfisher_core.data.brought import DATA, WEIGHTS, metadata, own_file, own_name
from woodfisher_core.data.own import describe, digest_of, file_of
from woodfisher_core.errors import InputError
from woodfisher_core.models import MODELS
from woodfisher_core.own import arrays, folders
from woodfisher_core.own.archive import opened_archive
from woodfisher_core.own.dataset import data_set, fitting
from woodfisher_core.own.folders import Progress
from woodfisher_core.own.keeping import Brought, keep, label_of
from woodfisher_core.own.weights import LENGTH, read_weights

DESCRIPTION = "description"


def bring_weights(raw: bytes, file_name: str, model: str | None = None) -> Brought:
    """Checks and keeps the weights in a ``.safetensors`` file; ``model`` names their network, found by the shapes where None.

    Raises:
        InputError: They are refused; the words say why and what to do.
    """
    label = label_of(file_name)
    spec, state, said = read_weights(raw, label, model)
    name = own_name(state_hash(state))
    values = {DESCRIPTION: json.dumps({"label": label, "model": spec.name})}
    nbytes, gone = keep(WEIGHTS, name, state, values)
    return Brought(WEIGHTS, name, label, nbytes, (spec.name,), (*said, *_left(gone)))


def bring_data(raw: bytes, file_name: str, model: str | None = None, progress: Progress | None = None) -> Brought:
    """Checks and keeps the data set in an ``.npz`` file or a zip of images; ``model`` names the network it is for, if any.

    Raises:
        InputError: It is refused; the words say why and what to do.
    """
    label = label_of(file_name)
    if raw[LENGTH : LENGTH + 1] == b"{":
        raise InputError("data: this is a .safetensors file: weights. It goes to the field for weights.")
    with opened_archive(raw) as archive:
        if any(name.endswith(arrays.SUFFIX) for name in archive.names):
            came = arrays.read_npz(archive)
        elif any(name.endswith("data.pkl") for name in archive.names):
            raise InputError(
                "data: this is a PyTorch checkpoint, with a pickle inside. It was not opened: expected images."
            )
        else:
            came = folders.read_folders(archive, progress)
    data, said = data_set(came, model)
    shape, classes = tuple(data.train.images.shape[1:]), len(data.classes)
    fits = fitting(shape, classes)
    if not fits:
        tried = [spec for spec in MODELS.values() if spec.outputs(shape) is not None]
        why = (
            f"{classes} classes; {tried[0].name} tells {tried[0].outputs(shape)} apart, and labels count from 0"
            if tried
            else f"images of {'×'.join(map(str, shape))} (channels × height × width)"
        )
        raise InputError(f"data: no network here reads it: it has {why}. Listed are {', '.join(MODELS)}.")
    name = own_name(digest_of(data))
    nbytes, gone = keep(DATA, name, *file_of(data, label))
    return Brought(DATA, name, label, nbytes, fits, (*said, *_left(gone)))


def _left(gone: tuple[str, ...]) -> tuple[str, ...]:
    if not gone:
        return ()
    return (f"To make room, what was not used for longest left this machine: {', '.join(gone)}.",)


def found_again(kind: str, name: str) -> Brought:
    """What is kept under ``name``.

    Raises:
        InputError: It is not on this machine.
    """
    if kind == DATA:
        known = describe(name)
        label, models = known.label, fitting(known.shape, len(known.classes))
    else:
        values = json.loads(metadata(WEIGHTS, name).get(DESCRIPTION, "{}"))
        label, models = str(values.get("label", name)), (str(values.get("model", "")),)
    return Brought(kind, name, label, own_file(kind, name).stat().st_size, models)
