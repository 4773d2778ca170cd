"""Pruning methods by name. A new one is one file here and one line in ``METHODS``."""

from woodfisher_core.errors import InputError
from woodfisher_core.methods import diagonal_fisher, magnitude, woodfisher
from woodfisher_core.methods.base import Context, Method, Need, Outcome

METHODS: dict[str, Method] = {
    method.name: method for method in (magnitude.METHOD, diagonal_fisher.METHOD, woodfisher.METHOD)
}


def get_method(name: str) -> Method:
    """The registered method ``name``."""
    if name not in METHODS:
        raise InputError(f"method: expected one of {', '.join(METHODS)}, got {name!r}.")
    return METHODS[name]


__all__ = ["METHODS", "Context", "Method", "Need", "Outcome", "get_method"]
