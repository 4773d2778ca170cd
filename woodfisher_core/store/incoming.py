"""A stranger's tables as runs: joined, bounded, and every config the one that its key names."""

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import ENGINE_VERSION
from woodfisher_core.experiments.kinds import KINDS, parse_config
from woodfisher_core.store.columns import TABLES, bad
from woodfisher_core.store.records import GRADUAL, Metric, RunRecord, Status

ORIGIN = "import"
# Characters of a name or a label, and of a text that may be long.
_SHORT, _LONG = 10_000, 1 << 24
# Fields that say where things lie on a machine; no key depends on them.
_PLACES = frozenset({"data_dir", "weights"})
_HASH = re.compile(r"[0-9a-f]{64}")
_LATEST = 253402300800.0  # the year 10000
_NUMBERS = ("sparsity", "accuracy", "dense_accuracy", "loss")
# Those of them that every finished run has; the loss of a network that was pruned to pieces may be no number.
_NEEDED = ("sparsity", "accuracy", "dense_accuracy")
# Beside the run itself, what may be there only once.
_UNIQUE = {"metrics": ("name", "step"), "layers": ("position",), "timings": ("phase",), "artefacts": ("name",)}


@dataclass(frozen=True)
class Incoming:
    """A run to be imported, and when it was made: seconds since 1970."""

    record: RunRecord
    created: float


def assemble(tables: Mapping[str, Sequence[tuple]], title: Callable[[str], str]) -> list[Incoming]:
    """The runs of decoded ``tables``, in the order of their numbers; ``title`` gives a table's file name for errors.

    Raises:
        InputError: Something does not fit, in a sentence with the file and the row.
    """
    name = title("runs")
    rows, keys = {}, set()
    for at, row in enumerate(tables["runs"], start=1):
        run = _named("runs", row)
        _check_run(name, at, run)
        if run["run"] in rows or run["key"] in keys:
            raise bad(name, at, "this run is there twice")
        rows[run["run"]] = run
        keys.add(run["key"])
    own = {table: _of_runs(tables[table], table, title(table), rows) for table in _UNIQUE}
    for at, (number, run) in enumerate(rows.items(), start=1):
        _check_epochs(name, at, run, own["metrics"].get(number, []))
    return [Incoming(_record(run, own), run["created"]) for _, run in sorted(rows.items())]


def key_of(kind: str, config: Mapping[str, object]) -> str:
    """The key of a config as written, whichever program wrote it: later ones may know further fields, or others.

    Raises:
        ValueError: A number in it is not finite.
    """
    identity = {name: value for name, value in config.items() if name not in _PLACES}
    if kind == GRADUAL and isinstance(config.get("prune"), dict):
        identity["prune"] = key_of("prune", config["prune"])
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _named(table: str, row: tuple) -> dict[str, object]:
    return dict(zip((column.name for column in TABLES[table]), row, strict=True))


def _check_run(name: str, at: int, run: dict[str, object]) -> None:
    """Checks a row of ``runs``, and reads its config and environment into it."""
    for field in ("key", "kind", "status", "origin", "label", "model", "dataset", "method"):
        _check_text(name, at, field, run[field])
    if run["kind"] not in KINDS:
        raise bad(name, at, f"expected a kind among {', '.join(KINDS)}, got {run['kind']!r:.80}; update the program")
    if run["status"] not in list(Status):
        raise bad(name, at, f"expected a status among {', '.join(Status)}, got {run['status']!r:.80}")
    if not 0 <= run["created"] < _LATEST:
        raise bad(name, at, f"expected seconds since 1970 in 'created', got {run['created']}")
    for field in ("config", "environment"):
        run[field] = _object(name, at, field, run[field])
    _check_text(name, at, "error", run["error"] or "", _LONG)
    for field in _NEEDED if run["status"] == Status.DONE else ():
        if run[field] is None or not math.isfinite(run[field]):
            raise bad(name, at, f"expected a number in {field!r} of a finished run, got {run[field]}")
    _check_config(name, at, run)


def _check_config(name: str, at: int, run: Mapping[str, object]) -> None:
    config = run["config"]
    try:
        found = key_of(run["kind"], config)
    except ValueError as error:
        raise bad(name, at, f"the config has a number that is none ({error})") from None
    if run["key"] != found:
        raise bad(name, at, f"the config has the key {found[:12]}…, not {run['key']!r:.20}; it was changed")
    prune = config.get("prune") if run["kind"] == GRADUAL else config
    if not isinstance(prune, dict):
        raise bad(name, at, "the config lacks its group 'prune'")
    for field in ("model", "dataset", "method"):
        if prune.get(field) != run[field]:
            raise bad(name, at, f"{field} is {run[field]!r:.80}, in the config {prune.get(field)!r:.80}")
    # Numbers of other versions are history: they can be looked at and compared, but not run again as they are.
    if prune.get("engine_version") != ENGINE_VERSION:
        return
    try:
        built = parse_config(run["kind"], config)
    except InputError as error:
        raise bad(name, at, str(error).rstrip(".")) from None
    if set(built.to_dict()) == set(config) and built.key != run["key"]:
        raise bad(name, at, f"the config means another run, of the key {built.key[:12]}…")


def _check_epochs(name: str, at: int, run: Mapping[str, object], rows: Sequence[Mapping[str, object]]) -> None:
    """A finished gradual run has the numbers of every epoch, so that it can be shown again."""
    if (run["kind"], run["status"]) != (GRADUAL, Status.DONE):
        return
    config = run["config"]
    if config["prune"].get("engine_version") != ENGINE_VERSION:  # history, as in `_check_config`
        return
    found = {(row["name"], row["step"]) for row in rows}
    wanted = (
        (metric, epoch)
        for epoch in range(config["epochs"] + 1)
        for metric in ("accuracy", "loss", *(("training loss",) if epoch else ()))
    )
    pruned = (("loss pruned", epoch) for metric, epoch in found if metric == "accuracy pruned" and epoch > 0)
    # Ends at the first that is missing, however many epochs a stranger's config has.
    if missing := next((one for one in chain(wanted, pruned) if one not in found), None):
        raise bad(name, at, f"a finished gradual run lacks its {missing[0]!r} of epoch {missing[1]}")


def _object(name: str, at: int, field: str, text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise bad(name, at, f"expected a JSON object in {field!r}, got {text!r:.80}")
    return found


def _check_text(name: str, at: int, field: str, text: str, most: int = _SHORT) -> None:
    if len(text) > most or "\0" in text:
        raise bad(name, at, f"{field!r} has more than {most:,} characters, or a zero among them")


def _of_runs(
    rows: Sequence[tuple], table: str, name: str, known: Mapping[int, object]
) -> Mapping[int, list[dict[str, object]]]:
    """The rows of a table by run, each checked."""
    found, seen = defaultdict(list), set()
    for at, row in enumerate(rows, start=1):
        own = _named(table, row)
        unique = (own["run"], *(own[field] for field in _UNIQUE[table]))
        if own["run"] not in known:
            raise bad(name, at, f"there is no run {own['run']}")
        if unique in seen:
            raise bad(name, at, "this row is there twice")
        for field, value in own.items():
            if isinstance(value, str):
                _check_text(name, at, field, value)
        if table == "layers" and not 0 <= own["kept"] <= own["total"]:
            raise bad(name, at, f"{own['kept']} weights kept of {own['total']}")
        if table == "artefacts" and not (_HASH.fullmatch(own["sha256"]) and own["bytes"] >= 0):
            raise bad(name, at, f"expected a sha256 and a size, got {own['sha256']!r:.80} and {own['bytes']}")
        seen.add(unique)
        found[own["run"]].append(own)
    return found


def _record(run: Mapping[str, object], own: Mapping[str, Mapping[int, list[dict[str, object]]]]) -> RunRecord:
    number = run["run"]
    nan = lambda value: float("nan") if value is None else value  # noqa: E731
    rows = {table: found.get(number, []) for table, found in own.items()}
    layers = sorted(rows["layers"], key=lambda row: row["position"])
    return RunRecord(
        kind=run["kind"],
        key=run["key"],
        config=run["config"],
        about={name: run[name] for name in ("model", "dataset", "method")},
        status=Status(run["status"]),
        error=run["error"],
        headline={name: run[name] for name in _NUMBERS},
        metrics=tuple(Metric(r["name"], nan(r["value"]), nan(r["sparsity"]), r["step"]) for r in rows["metrics"]),
        layers=tuple({name: row[name] for name in ("layer", "shape", "kept", "total")} for row in layers),
        seconds={row["phase"]: row["seconds"] for row in rows["timings"]},
        artefacts={row["name"]: {"sha256": row["sha256"], "bytes": row["bytes"]} for row in rows["artefacts"]},
        environment=run["environment"],
        origin=ORIGIN,
        label=run["label"],
    )
