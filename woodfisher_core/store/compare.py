"""Runs side by side: which settings differ, what a baseline makes of the numbers, and which runs a filter leaves."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from woodfisher_core.errors import InputError
from woodfisher_core.methods import METHODS
from woodfisher_core.store.records import GRADUAL

# Numbers of a run that a baseline's are taken from; accuracy in percent, loss in nats, sparsity a fraction.
RESULTS = ("accuracy", "loss", "sparsity")
# Only runs that are alike in these are held against each other: elsewhere a point more or less says nothing.
ALIKE = ("model", "dataset")
# Columns of ``Store.runs`` that are no setting.
OWN = (
    *("id", "key", "kind", "status", "error", "origin", "label", "created", "seconds"),
    *("accuracy", "dense_accuracy", "loss", "sparsity", "asked_sparsity", "schedule"),
)
# Settings that change no result, and hashes that say again what the network and its data say already.
PLACES = ("data_dir",)
HASHES = {"weights_hash": ("model", "dataset", "weights"), "data_hash": ("dataset",)}
# Sparsities are counted in whole weights: one asked for as 0.8 may have become 0.7998.
SPARSITY_TOLERANCE = 1e-3
KEY_DIGITS = 12
SHORTEST_KEY = 6
Bounds = tuple[float | None, float | None]


def settings_of(table: pd.DataFrame) -> list[str]:
    """The columns of ``table`` that are settings, network, data and method first."""
    return [name for name in table.columns if name not in OWN and name not in PLACES]


def differing(table: pd.DataFrame) -> list[str]:
    """The settings in which the runs of ``table`` differ; a setting that only some of them have differs too."""
    return [name for name in settings_of(table) if _differs(table, name)]


def _differs(table: pd.DataFrame, name: str) -> bool:
    column = table[name]
    if pd.api.types.is_numeric_dtype(column):
        several = column.nunique(dropna=False) > 1
    else:
        several = len({hashable(value) for value in column.tolist()}) > 1
    if not several or name not in HASHES:
        return several
    told = [other for other in HASHES[name] if other in table]
    values = column.map(hashable)
    return not told or bool((values.groupby([table[other] for other in told], dropna=False).nunique() > 1).any())


def hashable(value: object) -> object:
    """``value`` so that equal settings are equal: lists as their JSON, everything missing as None."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, sort_keys=True)
    return None if missing(value) else value


def missing(value: object) -> bool:
    """Whether a cell says nothing: None, NaN, NaT."""
    return value is None or (not isinstance(value, (list, tuple, dict)) and bool(pd.isna(value)))


def written(value: object) -> str:
    """A setting for people and for filters: ``none``, ``true``, ``0.001``, ``fc1, fc2``."""
    if missing(value):
        return "none"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(written, value)) or "none"
    if isinstance(value, (float, np.floating)):
        return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def against(table: pd.DataFrame, baseline: int | Mapping[str, object]) -> pd.DataFrame:
    """``table`` with ``accuracy_difference``, ``loss_difference``, ``sparsity_difference``: each run's less the baseline's.

    ``baseline`` is the number of a run in ``table``, or such a run's own row. NaN stands where either has no number, and where
    the run is of another network or other data.
    """
    if isinstance(baseline, int):
        rows = table[table["id"] == baseline]
        if rows.empty:
            raise InputError(f"baseline: expected the number of a run, got {baseline}. See: runs list.")
        baseline = rows.iloc[0]
    table = table.copy()
    alike = pd.Series(True, index=table.index)
    for name in ALIKE:
        if name in table and name in baseline:
            alike &= table[name] == baseline[name]
    for name in RESULTS:
        theirs = math.nan if missing(baseline[name]) else float(baseline[name])
        table[f"{name}_difference"] = (pd.to_numeric(table[name]) - theirs).where(alike)
    return table


def name_of(run: Mapping[str, object], numbered: bool = True) -> str:
    """What a run is called: its label, else its number (where ``numbered``), method, sparsity and schedule."""
    if run["label"]:
        return str(run["label"])
    method = METHODS[run["method"]].label if run["method"] in METHODS else str(run["method"])
    name = method + ("" if missing(run["sparsity"]) else f", {100 * run['sparsity']:.3g}\u00a0%")
    name += f", {run['schedule']}" if run.get("schedule") else ""
    return f"#{run['id']} {name}" if numbered else name


def names(table: pd.DataFrame) -> list[str]:
    """What the runs of ``table`` are called, without their numbers."""
    # Whole rows of many settings would take long.
    read = [name for name in ("label", "method", "sparsity", "schedule") if name in table]
    return [name_of(run, numbered=False) for run in table[read].to_dict("records")]


class NoSuchRun(InputError):
    """No run is called so."""


def find(table: pd.DataFrame, text: str) -> int:
    """The number of the run of ``table`` that ``text`` names: a number (``12``, ``#12``) or the beginning of its key.

    Raises:
        NoSuchRun: None is called so; InputError: several are.
    """
    wanted = text.strip().lower()
    number = re.fullmatch(r"#?(\d{1,9})", wanted)
    if number and int(number[1]) in set(table["id"]):
        return int(number[1])
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_KEY},64}}", wanted):
        found = table.loc[table["key"].str.startswith(wanted), "id"]
        if len(found) == 1:
            return int(found.iloc[0])
        if len(found) > 1:
            raise InputError(f"run: {len(found)} keys begin with {wanted}. Give more of its digits.")
    raise NoSuchRun(
        f"run: expected the number of a run or at least {SHORTEST_KEY} digits of its key, got {text!r}. See: runs list."
    )


@dataclass(frozen=True)
class Condition:
    """``field`` compared with ``value``; see :func:`parse_condition`."""

    field: str
    operator: str
    value: str


_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def parse_condition(text: str) -> Condition:
    """``damping<1e-3``, ``block_size=layer``, ``images!=none``: a column of the runs, one of = != < <= > >=, and a value.

    Lists are equal to their items with commas between (``exclude=fc1,fc2``), in their order.
    """
    found = re.fullmatch(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|!=|==?|<|>)\s*(.*?)\s*", text)
    if found is None:
        raise InputError(f"where: expected FIELD=VALUE, FIELD!=VALUE, FIELD<VALUE … with a number, got {text!r}.")
    field, operator, value = found.groups()
    operator = "=" if operator == "==" else operator
    if operator in _ORDER and _number(value) is None:
        raise InputError(f"where: {field}{operator} expects a number, got {value!r}. Use = or != for words.")
    return Condition(field, operator, value)


def filtered(
    table: pd.DataFrame,
    *,
    models: Collection[str] = (),
    datasets: Collection[str] = (),
    methods: Collection[str] = (),
    statuses: Collection[str] = (),
    sparsity: Bounds = (None, None),
    accuracy: Bounds = (None, None),
    text: str = "",
    conditions: Sequence[Condition] = (),
) -> pd.DataFrame:
    """The runs that all of this is true of; what is left empty is not asked for.

    Args:
        table: As ``Store.runs`` gives it.
        models: Names of networks, one of which it has; likewise ``datasets``, ``methods``, ``statuses``.
        sparsity: Lowest and highest (fractions), to a thousandth; a run without the number is within no bounds.
        accuracy: Lowest and highest, in percent.
        text: Part of what it is called (:func:`name_of`, without its number), upper and lower case alike.
        conditions: On any columns.
    """
    keep = pd.Series(True, index=table.index)
    for column, some in (("model", models), ("dataset", datasets), ("method", methods), ("status", statuses)):
        if some:
            keep &= table[column].isin(list(some))
    for column, (low, high), tolerance in (
        ("sparsity", sparsity, SPARSITY_TOLERANCE),
        ("accuracy", accuracy, 0.0),
    ):
        values = pd.to_numeric(table[column])
        if low is not None:
            keep &= values >= low - tolerance
        if high is not None:
            keep &= values <= high + tolerance
    if text:
        wanted = _plain(text)
        named = [wanted in _plain(name) for name in names(table)]
        keep &= pd.Series(named, index=table.index, dtype=bool)
    for condition in conditions:
        keep &= _holds(table, condition)
    return table[keep]


def _plain(text: str) -> str:
    """For comparisons: the space before a % sign is one that does not break."""
    return text.replace("\u00a0", " ").casefold()


def _holds(table: pd.DataFrame, condition: Condition) -> pd.Series:
    if condition.field not in table:
        known = ", ".join(sorted(str(name) for name in table.columns))
        if table.empty:
            return pd.Series(True, index=table.index)
        raise InputError(f"where: no run has a field {condition.field!r}; expected one of {known}.")
    values, asked = table[condition.field], _number(condition.value)
    if condition.field == "sparsity" and condition.operator in ("=", "!=") and "asked_sparsity" in table:
        # Whole weights go: of those who asked for 0.9 hardly any reached it to the last digit.
        values = table["asked_sparsity"].fillna(values)
    if condition.operator in _ORDER:
        holds = _ORDER[condition.operator]
        return values.map(lambda cell: (own := _cell_number(cell)) is not None and holds(own, asked)).astype(bool)
    wanted = _words(condition.value)

    def equal(cell: object) -> bool:
        own = _cell_number(cell)
        if own is not None and asked is not None:
            return math.isclose(own, asked, rel_tol=1e-9)
        return _words(written(cell)) == wanted

    same = values.map(equal).astype(bool)
    return same if condition.operator == "=" else ~same


def _words(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",")]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _cell_number(cell: object) -> float | None:
    """A cell as a number, also where it is one in words (a block size); None where it is none."""
    if missing(cell) or isinstance(cell, (bool, np.bool_, list, tuple, dict)):
        return None
    return _number(str(cell))


def curve_table(table: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """A row a point of the runs' curves, ``accuracy`` in percent: ``run``, ``name``, ``method``, ``gradual``, ``sparsity``,
    ``accuracy``, ``own``.

    ``own`` marks the run's own result, the others are its curve's, in their order. A ``gradual`` run's curve goes from the dense
    network through every epoch, and its own result is the last epoch again.
    """
    points = metrics[metrics["name"] == "accuracy"].dropna(subset=["value", "sparsity"])
    rows = []
    for _, run in table.iterrows():
        name = name_of(run)
        curve = points[points["run"] == run["id"]].sort_values("step")
        gradual = run["kind"] == GRADUAL
        about = (run["id"], name, run["method"], gradual)
        for point in curve.itertuples():
            rows.append((*about, point.sparsity, point.value, not gradual and point.step == 0))
        if gradual and not missing(run["accuracy"]):
            rows.append((*about, run["sparsity"], run["accuracy"], True))
    return pd.DataFrame(rows, columns=["run", "name", "method", "gradual", "sparsity", "accuracy", "own"])


def layers_table(table: pd.DataFrame, layers: pd.DataFrame) -> pd.DataFrame:
    """A row a run and layer: ``run``, ``name``, ``method``, ``layer``, ``kept``, ``total``, ``sparsity``, the runs in ``table``'s
    order."""
    called = {run["id"]: name_of(run) for _, run in table.iterrows()}
    found = layers[layers["run"].isin(list(called))].copy()
    found["name"] = found["run"].map(called)
    found["method"] = found["run"].map(dict(zip(table["id"], table["method"], strict=True)))
    found["sparsity"] = 1.0 - found["kept"] / found["total"]
    found["layer"] = found["layer"].str.removesuffix(".weight")  # older runs named the tensor
    place = {number: i for i, number in enumerate(called)}
    found = found.sort_values(["run", "position"], key=lambda c: c.map(place) if c.name == "run" else c)
    return found[["run", "name", "method", "layer", "kept", "total", "sparsity"]].reset_index(drop=True)
