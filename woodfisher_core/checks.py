"""Checks of single numbers that a caller gives, each with the error that names the knob."""

import math
import operator
from collections.abc import Callable

from woodfisher_core.errors import InputError


def whole_number(knob: str, value: object, least: int) -> int:
    """``value`` as an int if it is a whole number of at least ``least`` (numpy's count, booleans do not)."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
        raise InputError(f"{knob}: expected a whole number of at least {least}, got {value!r}.")
    return operator.index(value)


def real_number(knob: str, value: object, expected: str, usable: Callable[[float], bool]) -> float:
    """``value`` as a float if it is a finite number that is ``usable``; ``expected`` says which ones are."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and usable(value)):
        raise InputError(f"{knob}: expected {expected}, got {value!r}.")
    return float(value)
