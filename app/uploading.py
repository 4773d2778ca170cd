"""Bringing weights and data: the two fields, what came of a file, samples to try it with, and taking it away again."""

from functools import partial
from pathlib import PurePath

import streamlit as st

from app.explain_own import brought_words
from app.own_choice import mine, note_brought, note_removed
from app.shared import workspace
from app.showing import download
from woodfisher_core.data.brought import DATA, WEIGHTS, own_folder
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.models import MODELS, get_model
from woodfisher_core.models.base import SHIPPED
from woodfisher_core.own import Brought, bring_data, bring_weights, remove, sample_data, sample_weights, total_bytes
from woodfisher_core.own.incoming import found_again
from woodfisher_core.own.limits import CLASSES, IMAGES, KEPT_BYTES, MB, UNPACKED_BYTES, UPLOAD_BYTES, megabytes

# What became of the file in each field, so that it is read once; how often a field was emptied.
_OUTCOME, _ROUND = "own: outcome {}", "own: round {}"
# Small, and here without a download.
SAMPLE_MODEL, SAMPLE_DATA = "digits-cnn", "digits"
LIMITS = {
    WEIGHTS: f"A .safetensors file of at most {megabytes(UPLOAD_BYTES)}, with the tensors of {', '.join(MODELS)}: which of them "
    "is found by names and shapes.",
    DATA: "An .npz file with train_images, train_labels, test_images, test_labels (or images and "
    "labels), and if you like `classes`, `mean` and `std` (by which "
    "images are normalised, of pixels from 0 to 1; else by their own); or a zip of folders "
    f"train/<class>/… and test/<class>/… with PNG or JPEG images of one size. At most {megabytes(UPLOAD_BYTES)} packed, "
    f"{megabytes(UNPACKED_BYTES)} unpacked, {IMAGES:,} images, {CLASSES:,} classes.",
}


def bring() -> None:
    """Both fields. What comes in is chosen in the sidebar at once, which must not be drawn yet."""
    with st.grid(2, min_column_width=320):
        for kind, label, file, make in (
            (WEIGHTS, "A .safetensors file", f"{SAMPLE_MODEL}.safetensors", partial(sample_weights, SAMPLE_MODEL)),
            (DATA, "An .npz file, or a zip of images", f"{SAMPLE_DATA}.npz", partial(sample_data, SAMPLE_DATA)),
        ):
            with st.container():
                st.subheader(kind.capitalize())
                _field(kind, label)
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.caption("Nothing at hand? Take ours and bring it:")
                    download(file, make, file, "application/octet-stream", f"sample-{kind}")


def _field(kind: str, label: str) -> None:
    came = st.file_uploader(
        label,
        key=f"bring-{kind}-{st.session_state.get(_ROUND.format(kind), 0)}",
        max_upload_size=UPLOAD_BYTES // MB,
        help=LIMITS[kind],
    )
    slot = _OUTCOME.format(kind)
    if came is None:
        st.session_state.pop(slot, None)
        return
    known = st.session_state.get(slot)
    if known is None or known[0] != came.file_id:
        known = (came.file_id, _taken(kind, came.getvalue(), came.name))
        st.session_state[slot] = known
    outcome = known[1]
    if isinstance(outcome, Brought):
        st.success(brought_words(outcome), icon=":material/check:")
    else:
        st.error(outcome, icon=":material/block:")


def _taken(kind: str, raw: bytes, file_name: str) -> Brought | str:
    """What was kept of a file, and chosen; or why it is refused."""
    status, model = st.empty(), st.session_state.get("model", PruneConfig(model=next(iter(MODELS))).model)

    def progress(done: int, total: int) -> None:
        status.progress(done / total, text=f"Looking at the images: {done:,} of {total:,}")

    try:
        with workspace().cache.computing:  # unpacked it may be large: one at a time
            brought = bring_weights(raw, file_name) if kind == WEIGHTS else bring_data(raw, file_name, model, progress)
    except InputError as error:
        words = str(error).partition(": ")[2] or str(error)
        # A sentence that begins with the name of their file keeps it as it is.
        return words if words.startswith(PurePath(file_name).stem) else words[:1].upper() + words[1:]
    finally:
        status.empty()
    note_brought(kind, brought.name)
    _choose(brought, model)
    return brought


def _choose(brought: Brought, model: str) -> None:
    """Makes it what the sidebar says."""
    st.session_state[brought.kind] = brought.name
    if model not in brought.models:
        st.session_state["model"] = brought.models[0]
        other = WEIGHTS if brought.kind == DATA else DATA
        fitting = [name for name in mine(other) if brought.models[0] in found_again(other, name).models]
        st.session_state[other] = fitting[-1] if fitting else _usual(other, brought.models[0])


def _usual(kind: str, model: str) -> str:
    return SHIPPED if kind == WEIGHTS else get_model(model).dataset


def kept_here() -> None:
    """What this session brought, where it lies, and buttons that take it away."""
    names = [(kind, name) for kind in (WEIGHTS, DATA) for name in mine(kind)]
    with st.expander("What is kept, and where", icon=":material/folder:"):
        st.markdown(
            f"Files stay on the machine that serves this page, in `{own_folder(DATA).parent}`, under names of their contents; "
            f"nothing is sent elsewhere. All together take {megabytes(total_bytes())} of at most {megabytes(KEPT_BYTES)}; what "
            "was not used for longest leaves first. Only this session sees what it brought, and whoever has a link that names it."
        )
        for kind, name in names:
            with st.container(horizontal=True, vertical_alignment="center", key=f"kept-{kind}-{name}"):
                try:
                    st.markdown(brought_words(found_again(kind, name)))
                except InputError:
                    st.markdown(f"`{name}` is no longer here.")
                st.button(
                    "Remove",
                    icon=":material/delete:",
                    key=f"remove-{kind}-{name}",
                    on_click=_removed,
                    args=(kind, name),
                )


def _removed(kind: str, name: str) -> None:
    """Takes it from the disk, from the memory, from the lists and out of the field."""
    remove(kind, name)
    space = workspace()
    for cache in (space.cache, space.results):
        cache.drop(lambda key: name in str(key))
    note_removed(kind, name)
    model = st.session_state.get("model", next(iter(MODELS)))
    if st.session_state.get(kind) == name:
        st.session_state[kind] = _usual(kind, model)
    st.session_state[_ROUND.format(kind)] = st.session_state.get(_ROUND.format(kind), 0) + 1
