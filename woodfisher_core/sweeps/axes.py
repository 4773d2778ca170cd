"""The command line's words for what a sweep varies.

``damping=1e-5,1e-3`` these values; ``damping=1e-6..1e-1:log:6`` six steps, evenly in the logarithm; ``seed=0..4`` every whole
number; ``num_samples=10..1000:log`` anything in between, for a random sample.
"""

import types
import typing
from collections.abc import Sequence

import numpy as np

from woodfisher_core.errors import InputError
from woodfisher_core.methods import get_method
from woodfisher_core.models import get_model
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, Choice
from woodfisher_core.sweeps.spec import FIELDS, MOST_POINTS, Between, Values, rounded

# Words for "as if it were not given", where a field can be left out.
NOTHING = ("none", "default")
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


def parse_axes(texts: Sequence[str], random: bool) -> tuple[tuple[str, Values | Between], ...]:
    """All ``--vary`` of a command line, for a ``random`` sample or for a grid."""
    found = [parse_axis(text, random) for text in texts]
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"--vary {twice}: given twice. Write all its values in one: {twice}=A,B,C.")
    return tuple(found)


def parse_axis(text: str, random: bool) -> tuple[str, Values | Between]:
    """(field, what it goes over) of ``FIELD=VALUES``; every error says what to write instead."""
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in FIELDS or name == "engine_version":
        known = ", ".join(sorted(set(FIELDS) - {"engine_version"}))
        raise InputError(f"--vary {text}: unknown field {name}; expected among {known}.")
    if not equals or not values.strip():
        raise InputError(f"--vary {text}: expected {name}=A,B,C or {name}=A..B:log:STEPS.")
    takes = _types(name)
    if ".." in values and takes & {int, float}:
        return name, _range(name, values, whole=int in takes and float not in takes, random=random)
    return name, Values(tuple(_value(name, takes, word.strip()) for word in values.split(",")))


def _range(name: str, text: str, whole: bool, random: bool) -> Values | Between:
    ends, *words = (word.strip() for word in text.split(":"))
    log = "log" in words
    steps = [word for word in words if word != "log"]
    low, _, high = ends.partition("..")
    low, high = _number(name, low), _number(name, high)
    try:
        ends = Between(low, high, log=log, whole=whole)
    except InputError as error:
        raise InputError(f"--vary {name}={text}: {error}") from None
    if len(steps) > 1 or (steps and not (steps[0].isdecimal() and 2 <= int(steps[0]) <= MOST_POINTS)):
        raise InputError(
            f"--vary {name}={text}: expected A..B, A..B:STEPS, A..B:log or A..B:log:STEPS, "
            f"with 2 to {MOST_POINTS:,} steps."
        )
    if steps:
        spaced = np.geomspace if log else np.linspace
        inner = spaced(ends.low, ends.high, int(steps[0]))[1:-1].tolist()
        numbers = [ends.low, *((round if whole else rounded)(number) for number in inner), ends.high]
        return Values(tuple(numbers))
    if random:
        return ends
    if whole and not log and ends.high - ends.low < MOST_POINTS:
        return Values(tuple(range(ends.low, ends.high + 1)))
    raise InputError(
        f"--vary {name}={text}: a grid needs to know how many steps that is. Write {name}={text}:6, say, or ask for a random "
        "sample with --random COUNT."
    )


def _types(name: str) -> set[type]:
    """The types that a field takes; of a list, its entries' too."""
    kind = FIELDS[name].type
    parts = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    found = set()
    for part in parts:
        if typing.get_origin(part) is tuple:
            found |= {tuple, typing.get_args(part)[0]}
        else:
            found.add(part)
    return found


def _value(name: str, takes: set[type], word: str) -> object:
    choice = next((kind for kind in takes if issubclass(kind, Choice)), None)
    if types.NoneType in takes and word in NOTHING and not (choice and word in {str(member) for member in choice}):
        return None
    if choice:
        return str(choice.parse(word, f"--vary {name}"))
    if tuple in takes:
        return tuple(_value(name, takes - {tuple}, part) for part in word.split("+") if part)
    if name == "method":
        get_method(word)
    if name == "model":
        get_model(word)
    if bool in takes:
        if word.lower() not in BOOLEANS:
            raise InputError(f"--vary {name}: expected true or false, got {word!r}.")
        return BOOLEANS[word.lower()]
    if name == "block_size" and word in (BLOCK_LAYER, BLOCK_NETWORK):
        return word
    if float in takes:
        return _number(name, word)
    if int in takes:
        number = _number(name, word)
        if number != int(number):
            raise InputError(f"--vary {name}: expected whole numbers, got {word!r}.")
        return int(number)
    return word


def _number(name: str, word: str) -> float:
    try:
        number = float(word)
        if not np.isfinite(number):
            raise ValueError
    except ValueError:
        raise InputError(f"--vary {name}: expected numbers, got {word!r}.") from None
    return number
