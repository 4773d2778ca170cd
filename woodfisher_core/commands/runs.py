"""``runs``: what was computed, listed, compared, exported and imported from the command line."""

import argparse
import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from woodfisher_core.commands.flags import add_store
from woodfisher_core.errors import InputError
from woodfisher_core.store import Store, compare
from woodfisher_core.store.exchange import export_runs, import_runs
from woodfisher_core.store.places import shown
from woodfisher_core.store.records import Status
from woodfisher_core.store.store import settings as settings_in

# Where nobody says otherwise; --limit 0 lists all.
LIMIT = 50
COLUMNS = ("id", "label", "model", "method", "sparsity", "accuracy", "loss")
# How numbers are written; everything else as `compare.written` does.
FORMS = {
    **{"sparsity": "{:.4f}", "accuracy": "{:.2f}", "dense_accuracy": "{:.2f}", "loss": "{:.4f}", "seconds": "{:.2f}"},
    **{"sparsity_difference": "{:+.4f}", "accuracy_difference": "{:+.2f}", "loss_difference": "{:+.4f}"},
    "created": "{:%Y-%m-%d %H:%M}",
}
FORMATS = ("csv", "parquet")
# Columns are cut to this many characters: an error, a list of samples.
WIDEST = 40


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Its subcommands and their flags."""
    parser.description = (
        "Lists, compares, exports and imports the runs that were kept. RUN is a number or the beginning of a key."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listed = _command(commands, "list", _list, "list runs, the newest first, with the settings in which they differ")
    _add_filters(listed)
    listed.add_argument("--deleted", action="store_true", help="list the deleted runs instead")
    listed.add_argument(
        "--limit", type=int, default=LIMIT, metavar="N", help=f"at most so many; 0: all (default: {LIMIT})"
    )
    listed.add_argument("--all-columns", action="store_true", help="every setting, not only those that differ")
    _add_forms(listed)
    one = _command(commands, "show", _show, "everything about one run")
    one.add_argument("run_name", metavar="RUN")
    one.add_argument("--json", action="store_true", help="print one JSON object")
    compared = _command(commands, "compare", _compare, "runs side by side, with differences against the first")
    compared.add_argument("run_names", metavar="RUN", nargs="+")
    compared.add_argument("--all-columns", action="store_true", help="every setting, not only those that differ")
    _add_forms(compared)
    exported = _command(commands, "export", _export, "write runs to a folder or a .zip that `runs import` reads")
    exported.add_argument("path", metavar="PATH")
    exported.add_argument("run_names", metavar="RUN", nargs="*", help="these runs only (default: all)")
    exported.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help=f"how tables are written (default: {FORMATS[0]})"
    )
    exported.add_argument("--artefacts", action="store_true", help="with the files of the runs: masks and weights")
    imported = _command(commands, "import", _import, "read another store's export; runs that are here already stay")
    imported.add_argument("path", metavar="PATH")
    for name, run, text in (
        ("delete", _delete, "take runs off every list; `runs restore` undoes it"),
        ("restore", _restore, "bring deleted runs back"),
    ):
        _command(commands, name, run, text).add_argument("run_names", metavar="RUN", nargs="+")
    _command(commands, "purge", _purge, "remove the deleted runs for good, and the files that no other run has")
    renamed = _command(commands, "rename", _rename, "give a run a name of your own")
    renamed.add_argument("run_name", metavar="RUN")
    renamed.add_argument("label", metavar="NAME", help="the new name; '' takes it away")


def _command(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    add_store(parser)
    parser.set_defaults(run=run)
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group("which runs")
    for name in ("model", "dataset", "method"):
        which.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help="may be repeated: any of them"
        )
    which.add_argument("--status", action="append", default=[], choices=[s.value for s in Status])
    for name, unit in (("sparsity", "a fraction"), ("accuracy", "percent")):
        for end in ("min", "max"):
            which.add_argument(f"--{end}-{name}", type=float, metavar="X", help=unit)
    which.add_argument(
        "--label",
        default="",
        metavar="TEXT",
        help="part of the run's name: yours, or its method, sparsity and schedule",
    )
    which.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COND",
        help="any field: 'damping<1e-3', block_size=layer, images!=none; may be repeated: all of them",
    )


def _add_forms(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON and nothing else on standard output")
    form.add_argument("--csv", action="store_true", help="print CSV with every column")


def _list(options: argparse.Namespace, memory_at_start: int) -> int:
    conditions = [compare.parse_condition(text) for text in options.where]
    if options.limit < 0:
        raise InputError(f"limit: expected a whole number of at least 0, got {options.limit}.")
    store = Store(options.store)
    whole = store.runs(deleted=options.deleted)
    table = compare.filtered(
        whole,
        models=options.model,
        datasets=options.dataset,
        methods=options.method,
        statuses=options.status,
        sparsity=(options.min_sparsity, options.max_sparsity),
        accuracy=(options.min_accuracy, options.max_accuracy),
        text=options.label,
        conditions=conditions,
    )
    found = len(table)
    table = table.head(options.limit or found)
    if options.json or options.csv:
        print(_json(table) if options.json else table.to_csv(index=False), end="\n" if options.json else "")
    elif table.empty:
        kind = "deleted runs" if options.deleted else "runs"
        print(f"no {kind} in {shown(store.url)}" if whole.empty else f"none of {len(whole):,} {kind} match")
    else:
        print(_readable(table, options.all_columns))
        if found > len(table):
            print(f"… and {found - len(table):,} more; see them with --limit 0")
    return 0


def _show(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    table = store.runs(configurations=False)
    number = _find(store, table, options.run_name)
    row = table[table["id"] == number].iloc[0]
    record = dataclasses.asdict(store.get(number))
    record = {"id": number, **record, "created": row["created"].isoformat()}
    if options.json:
        print(json.dumps(_plain(record), default=str))
        return 0
    print(f"{compare.name_of(row)} ({record['status']})")
    facts = {"key": record["key"], "kept": f"{row['created']:{FORMS['created'][2:-1]}} UTC"}
    facts |= {"from": record["origin"]} if record["origin"] else {}
    facts |= {"error": " ".join(record["error"].split())} if record["error"] else {}
    facts |= {name: _cell(name, row[name]) for name in ("accuracy", "dense_accuracy", "loss", "sparsity")}
    print(_aligned([[f"  {name}", value] for name, value in facts.items()]))
    _block("settings", [[f"  {n}", compare.written(v)] for n, v in settings_in(record["config"]).items()])
    _block("layers", [[f"  {r['layer']}", f"{r['kept']:,} of {r['total']:,} kept"] for r in record["layers"]])
    curve = [m for m in record["metrics"] if m["step"] > 0 and m["name"] == "accuracy"]
    _block("curve", [[f"  sparsity {m['sparsity']:.4f}", f"accuracy {m['value']:.2f} %"] for m in curve])
    _block("seconds", [[f"  {phase}", f"{value:.2f}"] for phase, value in record["seconds"].items() if value])
    return 0


def _compare(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    whole = store.runs()
    numbers = list(dict.fromkeys(_find(store, whole, name) for name in options.run_names))
    table = whole.set_index("id", drop=False).loc[numbers].reset_index(drop=True)
    settings = compare.differing(table)
    table = compare.against(table, table.iloc[0])
    if options.json:
        print(json.dumps({"baseline": numbers[0], "differing": settings, "runs": json.loads(_json(table))}))
        return 0
    if options.csv:
        print(table.to_csv(index=False), end="")
        return 0
    names = compare.settings_of(table) if options.all_columns else settings
    names = [name for name in names if not name.endswith("_difference")]
    results = [column for name in compare.RESULTS for column in (name, f"{name}_difference")]
    rows = [["", *(compare.name_of(run) for _, run in table.iterrows())]]
    rows += [
        [name.replace("_difference", " −first"), *(_cell(name, v) for v in table[name])] for name in (*results, *names)
    ]
    print(_aligned(rows))
    return 0


def _export(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    numbers = _numbers(store, options.run_names) or None
    count = export_runs(store, Path(options.path), numbers, options.artefacts, format=options.format)
    print(f"{options.path}: {count:,} run{'' if count == 1 else 's'}")
    return 0


def _import(options: argparse.Namespace, memory_at_start: int) -> int:
    counts = import_runs(Store(options.store), Path(options.path))
    print(f"{options.path}: {counts.new:,} new, {counts.known:,} here already")
    return 0


def _delete(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    numbers = _numbers(store, options.run_names)
    store.delete(numbers)
    names = " ".join(map(str, numbers))
    print(f"deleted {names}; undo with: runs restore {names}")
    return 0


def _restore(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    numbers = _numbers(store, options.run_names, deleted=True)
    store.restore(numbers)
    print(f"restored {' '.join(map(str, numbers))}")
    return 0


def _purge(options: argparse.Namespace, memory_at_start: int) -> int:
    count = Store(options.store).purge()
    print(f"removed {count:,} deleted run{'' if count == 1 else 's'} for good")
    return 0


def _rename(options: argparse.Namespace, memory_at_start: int) -> int:
    store = Store(options.store)
    (number,) = _numbers(store, [options.run_name])
    store.rename(number, options.label)
    print(f"{number}: {options.label}" if options.label else f"{number}: no name of its own any more")
    return 0


def _numbers(store: Store, names: Sequence[str], deleted: bool = False) -> list[int]:
    if not names:
        return []
    table = store.runs(deleted=deleted, configurations=False)
    return list(dict.fromkeys(_find(store, table, name, deleted) for name in names))


def _find(store: Store, table: pd.DataFrame, name: str, deleted: bool = False) -> int:
    """As ``compare.find`` in ``table``, the store's runs or its ``deleted`` ones; errors tell which of the two has it."""
    try:
        return compare.find(table, name)
    except compare.NoSuchRun as error:
        said = error
    try:
        number = compare.find(store.runs(deleted=not deleted, configurations=False), name)
    except compare.NoSuchRun:
        if re.fullmatch(r"#?\d+", name.strip()):
            kind = "deleted run" if deleted else "run"
            told = f"run: there is no {kind} {name.strip().lstrip('#')} in {shown(store.url)}. See: runs list"
            said = InputError(f"{told} --deleted." if deleted else f"{told}.")
        raise said from None
    if deleted:
        raise InputError(f"run {number} is not deleted.")
    raise InputError(f"run {number} is deleted; bring it back with: runs restore {number}")


def _readable(table: pd.DataFrame, every: bool) -> str:
    settings = compare.settings_of(table) if every else compare.differing(table)
    alike = [name for name in ("label",) if not table[name].any()]
    failed = ["status", "error"] if table["error"].notna().any() else []
    names = [*(n for n in COLUMNS if n not in alike), *failed, *(n for n in settings if n not in COLUMNS), "created"]
    rows = [list(names)]
    rows += [[_cell(name, run[name]) for name in names] for _, run in table[names].iterrows()]
    return _aligned(rows)


def _cell(name: str, value: object) -> str:
    if compare.missing(value):
        return "–"
    text = FORMS[name].format(value) if name in FORMS else compare.written(value)
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _block(title: str, rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print(title)
        print(_aligned(rows))


def _json(table: pd.DataFrame) -> str:
    rows = [{name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")]
    return json.dumps(rows, default=str)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
