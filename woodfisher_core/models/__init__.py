"""Networks by name. A new one is one file here and one line in ``MODELS``."""

from woodfisher_core.errors import InputError
from woodfisher_core.models import digits_cnn, digits_mlp, mlpnet, resnet20
from woodfisher_core.models.base import ModelSpec

MODELS: dict[str, ModelSpec] = {
    spec.name: spec for spec in (digits_mlp.SPEC, digits_cnn.SPEC, mlpnet.SPEC, resnet20.SPEC)
}


def get_model(name: str) -> ModelSpec:
    """The registered network ``name``."""
    if name not in MODELS:
        raise InputError(f"model: expected one of {', '.join(MODELS)}, got {name!r}.")
    return MODELS[name]


__all__ = ["MODELS", "ModelSpec", "get_model"]
