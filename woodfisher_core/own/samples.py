"""Files to try it with: what ships here, in the formats that may be brought."""

import io

import numpy as np
from safetensors.torch import save

from woodfisher_core.checkpoints import load_state
from woodfisher_core.data import find_root, get_dataset
from woodfisher_core.models import get_model


def sample_weights(model: str) -> bytes:
    """The shipped weights of ``model`` as a ``.safetensors`` file."""
    return save(load_state(get_model(model).shipped_weights()), metadata={"format": "pt"})


def sample_data(dataset: str) -> bytes:
    """``dataset`` as an ``.npz`` file, normalised as it is here: brought again it gives the very same numbers."""
    spec = get_dataset(dataset)
    data = spec.load(find_root(spec))
    arrays = {
        "mean": np.asarray(data.train.mean, dtype=np.float64),
        "std": np.asarray(data.train.std, dtype=np.float64),
        "classes": np.asarray(data.classes),
    }
    for split, content in (("train", data.train), ("test", data.test)):
        plain = abs(content.scale * 255.0 - 1.0) < 1e-12
        images = content.images if plain else content.images.float() * content.scale
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images.numpy(), content.targets.numpy()
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
