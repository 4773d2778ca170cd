"""The tables of an export as CSV or Parquet and back, to the last bit; a stranger's are checked cell by cell."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from woodfisher_core.errors import InputError
from woodfisher_core.options import Choice

# Bounds on one table of a stranger's: bytes as a file and in memory, rows, and characters of one cell.
MOST_BYTES, MOST_ROWS, MOST_CHARACTERS = 1 << 28, 5_000_000, 1 << 24
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_REAL = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?|-?inf")
# What a spreadsheet takes for a formula at the beginning of a text; there an apostrophe goes before it, and goes again.
_FORMULA = tuple("'=+-@\t\r\n＝＋－＠")


class Form(Choice):
    """How the tables of an export are written."""

    CSV = ("csv", "CSV", "Text that every spreadsheet and editor opens; numbers in full.")
    PARQUET = ("parquet", "Parquet", "Columns with their types, for pandas and databases.")


@dataclass(frozen=True)
class Column:
    """``kind`` is ``text``, ``whole`` or ``real``; an ``optional`` cell may be missing (NaN is)."""

    name: str
    kind: str = "text"
    optional: bool = False


_whole, _real = partial(Column, kind="whole"), partial(Column, kind="real", optional=True)
_texts = lambda *names: tuple(Column(name) for name in names)  # noqa: E731
TABLES: Mapping[str, tuple[Column, ...]] = {
    "runs": (
        *(_whole("run"), *_texts("key", "kind", "status"), Column("error", optional=True)),
        *(*_texts("origin", "label"), Column("created", "real"), *_texts("model", "dataset", "method")),
        *(_real("sparsity"), _real("accuracy"), _real("dense_accuracy"), _real("loss")),
        *_texts("config", "environment"),
    ),
    "metrics": (_whole("run"), Column("name"), _whole("step"), _real("sparsity"), _real("value")),
    "layers": (_whole("run"), _whole("position"), *_texts("layer", "shape"), _whole("kept"), _whole("total")),
    "timings": (_whole("run"), Column("phase"), Column("seconds", "real")),
    "artefacts": (_whole("run"), *_texts("name", "sha256"), _whole("bytes")),
}
_ARROW = {"text": pa.string(), "whole": pa.int64(), "real": pa.float64()}
_WORDS = {"text": "text", "whole": "a whole number", "real": "a number"}


def encode(table: str, rows: Sequence[Sequence[object]], form: Form) -> bytes:
    """The rows of ``TABLES[table]`` as a file's content."""
    columns = TABLES[table]
    if form is Form.PARQUET:
        values = list(zip(*rows, strict=True)) or [()] * len(columns)
        arrays = [pa.array(own, _ARROW[c.kind]) for c, own in zip(columns, values, strict=True)]
        sink = io.BytesIO()
        # Neither packed nor abbreviated: then a file's size bounds what it takes to read it. A .zip packs it anyway.
        schema = pa.schema([pa.field(c.name, _ARROW[c.kind], c.optional) for c in columns])
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="none", use_dictionary=False)
        return sink.getvalue()
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    writers = [
        _written_or_missing if column.optional and column.kind == "text" else _WRITERS[column.kind]
        for column in columns
    ]
    for row in rows:
        writer.writerow([write(value) for write, value in zip(writers, row, strict=True)])
    return sink.getvalue().encode()


def _written_text(value: str | None) -> str:
    if value is None:
        return ""
    return f"'{value}" if value.startswith(_FORMULA) else value


def _written_or_missing(value: str | None) -> str:
    return "'" if value == "" else _written_text(value)


_WRITERS: Mapping[str, Callable[[object], str]] = {
    "text": _written_text,
    "whole": str,
    "real": lambda value: "" if value is None else repr(value),
}


def decode(table: str, name: str, content: bytes, form: Form) -> list[tuple]:
    """The rows of a stranger's file ``name``, columns in the order of ``TABLES[table]``.

    Raises:
        InputError: A column is unknown, missing or of the wrong type, or a cell is, in a sentence with the file and the row.
    """
    columns = TABLES[table]
    read = _read_parquet if form is Form.PARQUET else _read_csv
    found = []
    for number, row in enumerate(read(name, content, columns), start=1):
        if number > MOST_ROWS:
            raise InputError(f"import: {name} has more than {MOST_ROWS:,} rows. Export fewer runs at once.")
        for column, value in zip(columns, row, strict=True):
            if value is None and not column.optional:
                raise bad(name, number, f"expected {_WORDS[column.kind]} in {column.name!r}, got nothing")
        found.append(row)
    return found


def bad(name: str, row: int, what: str) -> InputError:
    """The error for row ``row`` (from 1) of the file ``name``."""
    return InputError(f"import: {name}, row {row}: {what}. Nothing was imported.")


def _order(name: str, given: Sequence[str], columns: Sequence[Column]) -> list[int]:
    wanted = [column.name for column in columns]
    unknown, missing = [g for g in given if g not in wanted], [w for w in wanted if w not in given]
    if unknown or missing or len(set(given)) != len(given):
        what = (
            f"unknown column {unknown[0]!r:.80}"
            if unknown
            else f"lacks the column {missing[0]!r}"
            if missing
            else "a column twice"
        )
        raise InputError(f"import: {name}: {what}; expected {', '.join(wanted)}. Nothing was imported.")
    return [list(given).index(w) for w in wanted]


def _read_csv(name: str, content: bytes, columns: Sequence[Column]) -> Iterator[tuple]:
    # The reader's own bound is for all of the process; it is only ever raised, to ours.
    csv.field_size_limit(max(csv.field_size_limit(), MOST_CHARACTERS))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"import: {name} is no UTF-8 text ({error.reason} at byte {error.start}).") from None
    reader, number = csv.reader(io.StringIO(text, newline=""), strict=True), 0
    try:
        order = _order(name, next(reader, []), columns)
        for number, row in enumerate(reader, start=1):
            if len(row) != len(columns):
                raise bad(name, number, f"expected {len(columns)} cells, got {len(row)}")
            yield tuple(_cell(name, number, column, row[i]) for column, i in zip(columns, order, strict=True))
    except csv.Error as error:
        raise bad(name, number + 1, f"is no CSV ({error})") from None


def _cell(name: str, number: int, column: Column, text: str) -> object:
    if column.kind == "text":
        if not text:
            return None if column.optional else ""
        return text[1:] if text[0] == "'" else text
    if not text:
        return None
    value = None
    if column.kind == "whole" and _WHOLE.fullmatch(text):
        value = int(text)
    elif column.kind == "real" and _REAL.fullmatch(text):
        value = float(text)
    if value is None or (column.kind == "whole" and not -(2**63) <= value < 2**63):
        raise bad(name, number, f"expected {_WORDS[column.kind]} in {column.name!r}, got {text!r:.80}")
    return value


def _read_parquet(name: str, content: bytes, columns: Sequence[Column]) -> Iterator[tuple]:
    texts = [column.name for column in columns if column.kind == "text"]
    try:
        found = pq.ParquetFile(io.BytesIO(content)).schema_arrow
        order = _order(name, found.names, columns)
        for column, i in zip(columns, order, strict=True):
            if found.types[i] != _ARROW[column.kind]:
                what = f"expected {_WORDS[column.kind]} in {column.name!r}, got {found.types[i]!s:.80}"
                raise InputError(f"import: {name}: {what}. Nothing was imported.")
        # Texts stay numbered, each kept once, until their length is known.
        file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)
        about = file.metadata
        chunks = [about.row_group(g).column(c) for g in range(about.num_row_groups) for c in range(about.num_columns)]
        if about.num_rows > MOST_ROWS or any(chunk.compression != "UNCOMPRESSED" for chunk in chunks):
            raise InputError(f"import: {name} has more than {MOST_ROWS:,} rows or is packed; expected it as exported.")
        total = 0
        for batch in file.iter_batches(batch_size=8192, use_threads=False):
            values = [_plain(name, column, batch.column(i)) for column, i in zip(columns, order, strict=True)]
            total += sum(length for _, length in values)
            if total > MOST_BYTES:
                raise InputError(f"import: {name} holds more than {MOST_BYTES:,} bytes. Export fewer runs at once.")
            yield from zip(*(build() for build, _ in values), strict=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"import: {name} is damaged or no Parquet file ({str(error).splitlines()[0]:.200}).") from None


def _plain(name: str, column: Column, array: pa.Array) -> tuple[Callable[[], list], int]:
    """How to make Python values of a column, and how many bytes that takes."""
    if column.kind == "text":
        lengths = np.array([len(text or "") for text in array.dictionary.to_pylist()] or [0])
        used = array.indices.drop_null().to_numpy(zero_copy_only=False)
        if len(used) and int(lengths[used].max()) > MOST_CHARACTERS:
            raise InputError(f"import: {name}: a text in {column.name!r} has more than {MOST_CHARACTERS:,} characters.")
        return array.to_pylist, int(lengths[used].sum())
    if column.kind == "real":
        return lambda: [None if value is None or math.isnan(value) else value for value in array.to_pylist()], 0
    return array.to_pylist, 0
