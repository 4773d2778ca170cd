"""Plain JSON back into a frozen description: unknown, missing and mistyped fields are refused by name."""

import dataclasses
import types
from collections.abc import Mapping
from typing import TypeVar, Union, get_args, get_origin, get_type_hints

from woodfisher_core.errors import InputError

Described = TypeVar("Described")

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", type(None): "null"}


def read_fields(cls: type[Described], values: object, group: str = "") -> Described:
    """The dataclass ``cls`` from what ``json.loads`` gives; fields that are dataclasses themselves are read alike.

    ``group`` stands before the names in errors (``tuning.``). Only types are looked at here: what a value may be is the
    class's own to check, and its errors pass through.

    Raises:
        InputError: The values are no object of fields, or a field is unknown, missing or of another type.
    """
    what = f"config: {group.rstrip('.')}: expected" if group else "config: expected"
    if not isinstance(values, Mapping):
        raise InputError(f"{what} an object of fields, got {_shown(values)}.")
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        names = ", ".join(group + name for name in unknown)
        raise InputError(f"config: unknown field {names}; expected among {', '.join(sorted(known))}.")
    missing = [name for name, field in known.items() if name not in values and _required(field)]
    if missing:
        raise InputError(f"config: field {', '.join(group + name for name in missing)} is missing. Give it a value.")
    hints, found = get_type_hints(cls), {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            found[name] = read_fields(hints[name], value, f"{group}{name}.")
            continue
        if not _fits(value, hints[name]):
            raise InputError(f"config: {group}{name}: expected {_in_words(hints[name])}, got {_shown(value)}.")
        found[name] = value
    return cls(**found)


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fits(value: object, hint: object) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(item, get_args(hint)[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, str if issubclass(hint, str) else hint)  # choices are text, which their class parses


def _in_words(hint: object) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_in_words(one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each of it {_in_words(get_args(hint)[0])}"
    return _WORDS[str if issubclass(hint, str) else hint]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} …"
