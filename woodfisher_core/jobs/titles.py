"""What jobs say of their network and count of their parts, in words."""

from woodfisher_core.data.brought import DATA, title_of
from woodfisher_core.models import MODELS


def network_words(model: str, dataset: str | None) -> str:
    """``digits-mlp``, and ``digits-mlp with the data my digits`` where these are not the data that it has where nobody says."""
    usual = MODELS[model].dataset if model in MODELS else None
    return model if dataset in (None, usual) else f"{model} with the data {title_of(DATA, dataset)}"


def counted(count: int, unit: str) -> str:
    """``1 step``, ``6 steps``."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
