"""Pruning methods by name. A new one is one file here and one line in ``METHODS``."""

from woodfisher_core.errors import InputError
from woodfisher_core.methods import (
    diagonal_fisher,
    diagonal_hessian,
    exact_obs,
    kfac,
    l_obs,
    lamp,
    magnitude,
    random,
    snip,
    structured,
    taylor,
    woodfisher,
    woodtaylor,
)
from woodfisher_core.methods.base import EMPIRICAL, Context, Method, Need, Outcome

# In the order they are offered: what looks at no data first, then first order, diagonals, and whole curvatures.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        random.METHOD,
        magnitude.METHOD,
        lamp.METHOD,
        snip.METHOD,
        taylor.METHOD,
        diagonal_fisher.METHOD,
        diagonal_hessian.METHOD,
        l_obs.METHOD,
        kfac.METHOD,
        woodfisher.METHOD,
        woodtaylor.METHOD,
        exact_obs.METHOD,
        structured.METHOD,
    )
}


def get_method(name: str) -> Method:
    """The registered method ``name``."""
    if name not in METHODS:
        raise InputError(f"method: expected one of {', '.join(METHODS)}, got {name!r}.")
    return METHODS[name]


__all__ = ["EMPIRICAL", "METHODS", "Context", "Method", "Need", "Outcome", "get_method"]
