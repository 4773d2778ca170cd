"""What a sweep is: fields every point shares, and a grid or a random sample over others; frozen, hashable, JSON both ways.

Random points are a public contract, as the order of samples is: every field draws from a frozen stream of its own
(``numpy.random.RandomState``, NEP 19), so that neither the order of fields nor a larger count changes the points there are.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from woodfisher_core.checks import whole_number
from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import ENGINE_VERSION, PruneConfig

# A request for more points than this is a mistake.
MOST_POINTS = 20_000
# Drawn numbers and steps of a range are rounded to so many digits: the last ones differ between machines.
DIGITS = 12
FIELDS = {field.name: field for field in dataclasses.fields(PruneConfig)}
# What says which weights and data a point is about; a sweep over one of these names no hashes.
SOURCE_FIELDS = frozenset({"model", "dataset", "data_dir", "weights", "repair_batchnorm", "device"})


@dataclass(frozen=True)
class Values:
    """These values of a field: each one in a grid, any of them with the same chance in a random sample."""

    values: tuple[object, ...]

    def __post_init__(self):
        given = tuple(_plain(value) for value in self.values)
        object.__setattr__(self, "values", tuple(dict(((type(value), value), value) for value in given).values()))
        if not self.values:
            raise InputError("vary: expected at least one value of each field, got none.")

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return {"values": _listed(self.values)}

    def drawn(self, shares: np.ndarray) -> list[object]:
        """A value for each of ``shares`` in [0, 1)."""
        return [self.values[int(share * len(self.values))] for share in shares]


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high`` for a random sample, ``log`` evenly in the logarithm, ``whole`` ones with both ends."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self):
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, (int, float)) or not math.isfinite(end):
                raise InputError(f"range: expected two finite numbers, got {self.low!r} and {self.high!r}.")
        if self.low >= self.high:
            raise InputError(f"range: expected the lower number first, got {self.low:g}..{self.high:g}. Swap them.")
        if self.log and self.low <= 0:
            raise InputError(f"range: evenly in the logarithm it must begin above zero, got {self.low:g}.")
        if self.whole and (self.low != int(self.low) or self.high != int(self.high)):
            raise InputError(f"range: expected whole numbers, got {self.low:g}..{self.high:g}.")
        as_number = int if self.whole else float
        for name in ("low", "high"):
            object.__setattr__(self, name, as_number(getattr(self, name)))
        for name in ("log", "whole"):
            object.__setattr__(self, name, bool(getattr(self, name)))

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    def drawn(self, shares: np.ndarray) -> list[int | float]:
        """A number for each of ``shares`` in [0, 1)."""
        return [self._at(float(share)) for share in shares]

    def _at(self, share: float) -> int | float:
        low, high = self.low, self.high + 1 if self.whole else self.high
        number = low * (high / low) ** share if self.log else low + (high - low) * share
        return min(max(math.floor(rounded(number)), self.low), self.high) if self.whole else rounded(number)


@dataclass(frozen=True)
class Point:
    """One point of a sweep: its place, the fields that it alone sets, and its config or why there cannot be one."""

    position: int
    changes: Mapping[str, object]
    config: PruneConfig | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """``base``: the fields of :class:`PruneConfig` that every point has (those at their default are left out); ``vary``: what
    each other field goes over. Without ``count`` a grid, else so many random points from ``seed``.

    Both may be given as mappings; they are kept sorted by name, and that is the order of the grid, the last field fastest.
    """

    base: tuple[tuple[str, object], ...] = ()
    vary: tuple[tuple[str, Values | Between], ...] = ()
    count: int | None = None
    seed: int = 0
    engine_version: int = ENGINE_VERSION

    def __post_init__(self):
        base, vary = dict(self.base), dict(self.vary)
        for name in (*base, *vary):
            if name not in FIELDS or name == "engine_version":
                known = ", ".join(sorted(set(FIELDS) - {"engine_version"}))
                raise InputError(f"sweep: unknown field {name}; expected among {known}.")
        base = {name: _plain(value) for name, value in base.items() if name not in vary}
        base = {name: value for name, value in base.items() if value != _plain(FIELDS[name].default)}
        object.__setattr__(self, "base", tuple(sorted(base.items())))
        object.__setattr__(self, "vary", tuple(sorted(vary.items())))
        if self.engine_version != ENGINE_VERSION:
            raise InputError(
                f"engine version: this is version {ENGINE_VERSION}, the sweep was asked of {self.engine_version!r}. Ask anew."
            )
        if not vary:
            raise InputError("sweep: expected at least one field to vary, got none.")
        if self.count is None:
            ranges = [name for name, axis in self.vary if isinstance(axis, Between)]
            if ranges:
                raise InputError(
                    f"sweep: a grid needs the values of {', '.join(ranges)}, not a range alone. "
                    "Say how many steps it has, or ask for a random sample."
                )
        else:
            object.__setattr__(self, "count", whole_number("number of random points", self.count, 1))
        object.__setattr__(self, "seed", whole_number("sweep seed", self.seed, 0))
        if self.seed >= 2**32:
            raise InputError(f"sweep seed: expected a whole number below 2³², got {self.seed}.")
        if self.total > MOST_POINTS:
            raise InputError(f"sweep: expected at most {MOST_POINTS:,} points, got {self.total:,}. Take fewer values.")

    @property
    def total(self) -> int:
        """The number of points."""
        return math.prod(len(axis.values) for _, axis in self.vary) if self.count is None else self.count

    @property
    def key(self) -> str:
        """Hex sha256 of all of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def with_base(self, **fields: object) -> "Sweep":
        """A copy whose every point has these ``fields`` too."""
        return dataclasses.replace(self, base=tuple((dict(self.base) | fields).items()))

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        own = {"count": self.count, "seed": self.seed, "engine_version": self.engine_version}
        vary = {name: axis.to_dict() for name, axis in self.vary}
        return {"base": {name: _listed(value) for name, value in self.base}, "vary": vary, **own}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Sweep":
        """The sweep ``to_dict`` described; unknown fields are refused by name."""
        _check_names("sweep", values, [field.name for field in dataclasses.fields(cls)])
        for name in ("base", "vary"):
            if not isinstance(values.get(name, {}), Mapping):
                raise InputError(f"sweep: expected fields by name in {name}, got {values[name]!r}.")
        vary = {name: _axis(name, axis) for name, axis in values.get("vary", {}).items()}
        return cls(**{**values, "base": tuple(values.get("base", {}).items()), "vary": tuple(vary.items())})

    def points(self) -> Iterator[Point]:
        """Every point in its order; one that cannot be run says why."""
        for position, changes in enumerate(self._changes()):
            try:
                yield Point(position, changes, PruneConfig.from_dict({**dict(self.base), **changes}))
            except (ValueError, TypeError, OverflowError) as error:
                yield Point(position, changes, None, str(error))

    def _changes(self) -> Iterator[dict[str, object]]:
        names = [name for name, _ in self.vary]
        if self.count is None:
            columns = itertools.product(*(axis.values for _, axis in self.vary))
        else:
            columns = zip(*(axis.drawn(self._shares(name)) for name, axis in self.vary), strict=True)
        return (dict(zip(names, values, strict=True)) for values in columns)

    def _shares(self, name: str) -> np.ndarray:
        """``count`` numbers in [0, 1) of the field's own stream."""
        words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
        return np.random.RandomState([self.seed, *words.tolist()]).random_sample(self.count)


def rounded(number: float) -> float:
    """``number`` to the digits that are the same on every machine."""
    return float(f"{number:.{DIGITS}g}")


def _axis(name: str, given: object) -> Values | Between:
    if not isinstance(given, Mapping):
        raise InputError(f"vary {name}: expected either values, or low and high, got {given!r}.")
    if "values" in given:
        _check_names(f"vary {name}", given, ["values"])
        if not isinstance(given["values"], Sequence) or isinstance(given["values"], str):
            raise InputError(f"vary {name}: expected a list of values, got {given['values']!r}.")
        return Values(tuple(given["values"]))
    known = [field.name for field in dataclasses.fields(Between)]
    _check_names(f"vary {name}", given, known)
    if not {"low", "high"} <= set(given):
        raise InputError(f"vary {name}: expected either values, or low and high, got {', '.join(given) or 'nothing'}.")
    return Between(**given)


def _check_names(what: str, values: Mapping[str, object], known: Sequence[str]) -> None:
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{what}: unknown field {', '.join(unknown)}; expected among {', '.join(sorted(known))}.")


def _plain(value: object) -> object:
    """``value`` as a config takes it, hashable; only what JSON can say."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "__index__"):
        return value.__index__()
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise InputError(f"sweep: expected plain values (numbers, words, lists of them), got {value!r}.")


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
