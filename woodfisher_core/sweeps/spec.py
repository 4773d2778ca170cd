"""What a sweep is: fields every point shares, and a grid or a random sample over others; frozen, hashable, JSON both ways.

Random points are a public contract, as the order of samples is: every field draws from a frozen stream of its own
(``numpy.random.RandomState``, NEP 19), so that neither the order of fields nor a larger count changes the points there are.
"""

import dataclasses
import hashlib
import itertools
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
# What says which weights and data a point is about, and which device; the repair of BatchNorm layers reads two more fields.
SOURCE_FIELDS = frozenset({"model", "dataset", "data_dir", "weights", "repair_batchnorm", "device"})
REPAIR_FIELDS = frozenset({"seed", "images"})


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
class Source:
    """What points with these values of varied fields (``of``, sorted by name) are about: the sha256 of their weights and data and
    the device, as they were when the sweep was asked for; or the ``error`` why they cannot be loaded."""

    of: tuple[tuple[str, object], ...] = ()
    weights_hash: str = ""
    data_hash: str = ""
    device: str = ""
    error: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "of", tuple(sorted((name, _plain(value)) for name, value in dict(self.of).items())))
        for name in ("weights_hash", "data_hash", "device", "error"):
            if not isinstance(getattr(self, name), str) and (name, self.error) != ("error", None):
                raise InputError(f"sweep: expected text as {name} of a source, got {getattr(self, name)!r}.")

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        of = {name: _listed(value) for name, value in self.of}
        return {"of": of, "error": self.error} if self.error else {"of": of, **self.found}

    @property
    def found(self) -> dict[str, str]:
        """The fields of a config that it fills in."""
        return {"weights_hash": self.weights_hash, "data_hash": self.data_hash, "device": self.device}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """``base``: the fields of :class:`PruneConfig` that every point has (those at their default are left out); ``vary``: what
    each other field goes over. Without ``count`` a grid, else so many random points from ``seed``.

    Both may be given as mappings; they are kept sorted by name, and that is the order of the grid, the last field fastest.
    ``sources`` say what the points were about when they were asked for (:func:`resolved` finds out); a point whose weights or
    data are others when it is run is refused.
    """

    base: tuple[tuple[str, object], ...] = ()
    vary: tuple[tuple[str, Values | Between], ...] = ()
    count: int | None = None
    seed: int = 0
    sources: tuple[Source, ...] = ()
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
    def source_fields(self) -> tuple[str, ...]:
        """The fields that vary and say which weights, data and device a point is about."""
        varied = {name for name, _ in self.vary}
        repaired = "repair_batchnorm" in varied | set(dict(self.base))
        return tuple(sorted(varied & (SOURCE_FIELDS | REPAIR_FIELDS if repaired else SOURCE_FIELDS)))

    def source_of(self, point: "Point") -> tuple[tuple[str, object], ...]:
        """``of`` of the source that ``point`` is about."""
        return tuple((name, point.changes[name]) for name in self.source_fields)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        own = {"count": self.count, "seed": self.seed, "engine_version": self.engine_version}
        if self.sources:
            own["sources"] = [source.to_dict() for source in self.sources]
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
        sources = tuple(_source(given) for given in _list("sources", values.get("sources", [])))
        base = tuple(values.get("base", {}).items())
        return cls(**{**values, "base": base, "vary": tuple(vary.items()), "sources": sources})

    def points(self) -> Iterator[Point]:
        """Every point in its order; one that cannot be run says why."""
        base, sources = dict(self.base), {source.of: source for source in self.sources}
        for position, changes in enumerate(self._changes()):
            try:
                point = Point(position, changes, PruneConfig.from_dict({**base, **changes}))
                if sources:
                    point = _about(point, sources.get(self.source_of(point)))
            except (ValueError, TypeError, OverflowError) as error:
                point = Point(position, changes, None, str(error))
            yield point

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


def _about(point: Point, source: Source | None) -> Point:
    """``point`` with what its ``source`` fills in; hashes that the config has already stay, and are checked when it is run."""
    if source is None or source.error:
        said = "sweep: the request does not say which weights and data this is about. Ask anew."
        return dataclasses.replace(point, config=None, error=source.error if source else said)
    given = {name: getattr(point.config, name) for name in ("weights_hash", "data_hash")}
    found = source.found | {name: value for name, value in given.items() if value}
    return dataclasses.replace(point, config=point.config.replace(**found))


def rounded(number: float) -> float:
    """``number`` to the digits that are the same on every machine."""
    return float(f"{number:.{DIGITS}g}")


def _axis(name: str, given: object) -> Values | Between:
    if not isinstance(given, Mapping):
        raise InputError(f"vary {name}: expected either values, or low and high, got {given!r}.")
    if "values" in given:
        _check_names(f"vary {name}", given, ["values"])
        return Values(tuple(_list(f"vary {name}", given["values"])))
    known = [field.name for field in dataclasses.fields(Between)]
    _check_names(f"vary {name}", given, known)
    if not {"low", "high"} <= set(given):
        raise InputError(f"vary {name}: expected either values, or low and high, got {', '.join(given) or 'nothing'}.")
    try:
        return Between(**given)
    except InputError as error:
        raise InputError(f"vary {name}: {error}") from None


def _source(given: object) -> Source:
    if not isinstance(given, Mapping) or not isinstance(given.get("of", {}), Mapping):
        raise InputError(f"sweep: expected fields by name in sources, got {given!r}.")
    _check_names("sweep sources", given, [field.name for field in dataclasses.fields(Source)])
    return Source(**{**given, "of": tuple(given.get("of", {}).items())})


def _list(what: str, given: object) -> Sequence:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputError(f"{what}: expected a list of values, got {given!r}.")
    return given


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
