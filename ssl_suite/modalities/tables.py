"""Tables with a column of data: parquet through pyarrow by row batches, CSV and TSV by lines.

What a modality looks for is a ``Wanted``: the usual names of its column, and whether that holds text, lists of
sentences, or the bytes of a file (plain binary, or the ``{bytes, path}`` pairs that Hugging Face data sets use).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ssl_suite.data.faults import BadRecord
from ssl_suite.errors import nearest
from ssl_suite.modalities.base import Fault, Record
from ssl_suite.modalities.names import SeenNames
from ssl_suite.modalities.text_files import Lines, unreadable

NAME_COLUMNS = ("id", "name", "accession", "chrom", "doc_id")
TAG_COLUMNS = {
    "split": ("split",),
    "language": ("language", "lang"),
    "speaker": ("speaker", "speaker_id"),
    "label": ("label",),
}
ROW_NUMBERS = "row"
ROWS = 256  # of a parquet batch: a chromosome a row still fits in memory, and short rows cost no more than at 4,096
TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary")
BYTES_TYPES = ("binary", "large_binary", "binary_view")


@dataclass(frozen=True)
class Wanted:
    """What a modality takes from a table.

    Attributes:
        columns: the usual names of the data column, in any case, the likeliest first.
        what: what the column holds, for messages ("sequence").
        kind: ``text``; ``sentences`` (text, or lists of text); ``bytes`` (encoded files).
    """

    columns: tuple[str, ...]
    what: str
    kind: Literal["text", "sentences", "bytes"] = "text"


SEQUENCES = Wanted(("sequence", "seq"), "sequence")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used; ``name`` is None where rows are numbered."""

    data: str
    name: str | None
    tags: Mapping[str, str] = field(default_factory=dict)

    def used(self) -> list[str]:
        """The columns to read, each once."""
        return list(dict.fromkeys([self.data, *([self.name] if self.name else []), *self.tags.values()]))


def choose(path: Path, present: list[str], wanted: Wanted, column: str | None, id_column: str | None) -> Columns:
    """Find the columns by request or by their usual names (in any case).

    Raises:
        BadRecord: a column that is asked for, or any data column, is not there; another file of a folder may have it.
    """
    for asked, key in ((column, "column"), (id_column, "id_column")):
        if asked is not None and asked not in present and not (key == "id_column" and asked == ROW_NUMBERS):
            fault = f"no {wanted.what} column" if key == "column" else "no name column"
            raise BadRecord(f"{path}: has no column '{asked}' (data.{key}).{nearest(asked, present)}", fault)
    lower = {name.strip().lower(): name for name in reversed(present)}
    data = column or next((lower[name] for name in wanted.columns if name in lower), None)
    if data is None:
        usual = " or ".join(f"'{name}'" for name in wanted.columns[:2])
        message = f"{path}: has no column {usual}; set data.column to one of {', '.join(present)}."
        raise BadRecord(message, f"no {wanted.what} column")
    name = id_column or next((lower[name] for name in NAME_COLUMNS if name in lower), None)
    found = {tag: next((lower[name] for name in names if name in lower), None) for tag, names in TAG_COLUMNS.items()}
    tags = {tag: place for tag, place in found.items() if place is not None and place != data}
    return Columns(data, name if name in present and name != data else None, tags)


@dataclass(frozen=True)
class Row:
    """A table's row: its number from 1, its data (None where absent), its name and tags as they were read."""

    number: int
    data: Any
    name: object
    tags: Mapping[str, object]


def read_parquet(
    path: Path, fault: Fault, wanted: Wanted, column: str | None = None, id_column: str | None = None
) -> Iterator[Record]:
    """The records of a parquet file, ``ROWS`` rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = choose(path, file.schema_arrow.names, wanted, column, id_column)
            check_type(path, columns.data, file.schema_arrow.field(columns.data).type, wanted)
            yield from records(path, parquet_rows(file, columns), columns, wanted, fault)
    except pa.ArrowException as error:
        message = f"{path}: parquet file is damaged ({str(error).splitlines()[0]}); copy or download it again."
        raise BadRecord(message, "damaged") from None
    except UnicodeDecodeError:
        message = f"{path}: parquet file holds a name that is not UTF-8 text; write it again."
        raise BadRecord(message, "not UTF-8") from None
    except OSError as error:
        if error.errno is None:  # pyarrow's own, about the content
            message = f"{path}: parquet file is damaged ({str(error).splitlines()[0]}); copy or download it again."
            raise BadRecord(message, "damaged") from None
        raise unreadable(path, error) from None


def check_type(path: Path, name: str, kind: Any, wanted: Wanted) -> None:
    """Refuse a data column of another type than the modality reads."""
    import pyarrow as pa

    good = str(kind) in (BYTES_TYPES if wanted.kind == "bytes" else TEXT_TYPES)
    if wanted.kind == "bytes" and pa.types.is_struct(kind):
        good = any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    if wanted.kind == "sentences" and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        good = str(kind.value_type) in TEXT_TYPES
    if not good:
        message = (
            f"{path}: column '{name}' holds {kind}, not {'encoded files' if wanted.kind == 'bytes' else 'text'}; "
            f"set data.column to the {wanted.what}s."
        )
        raise BadRecord(message, f"no {wanted.what} column")


def parquet_rows(file: Any, columns: Columns) -> Iterator[Row]:
    """Rows of a ``pyarrow.parquet.ParquetFile``; data become Python objects one row at a time."""
    number = 0
    for batch in file.iter_batches(batch_size=ROWS, columns=columns.used()):
        data = batch.column(columns.data)
        names = batch.column(columns.name).to_pylist() if columns.name else [None] * len(data)
        tags = {tag: batch.column(place).to_pylist() for tag, place in columns.tags.items()}
        for i in range(len(data)):
            number += 1
            yield Row(number, plain(data[i]), names[i], {tag: values[i] for tag, values in tags.items()})


def plain(scalar: Any) -> Any:
    """The Python object of an Arrow scalar: bytes of text or binary, the bytes of a pair, or a list of text."""
    if hasattr(scalar, "as_buffer"):
        buffer = scalar.as_buffer()
        return None if buffer is None else buffer.to_pybytes()
    value = scalar.as_py()
    return value["bytes"] if isinstance(value, dict) else value


def read_delimited(
    path: Path, lines: Lines, fault: Fault, wanted: Wanted, column: str | None = None, id_column: str | None = None
) -> Iterator[Record]:
    """The records of a CSV or TSV file with a header line. Python's reader: pyarrow's fails on rows beyond a block."""
    csv.field_size_limit(sys.maxsize)
    header_line = lines.peek_text()
    delimiter = "\t" if "\t" in header_line else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.lstrip("\ufeff") for name in next(reader)]
        columns = choose(path, header, wanted, column, id_column)
        yield from records(path, delimited_rows(path, reader, header, columns, fault), columns, wanted, fault)
    except csv.Error as error:
        message = f"{path}: line {lines.number} is not {delimiter!r}-separated text ({error}); repair it."
        raise BadRecord(message, "broken record") from None


def delimited_rows(
    path: Path, reader: Iterable[list[str]], header: list[str], columns: Columns, fault: Fault
) -> Iterator[Row]:
    """Rows of a ``csv.reader``; a row that is too short is a fault."""
    at = header.index(columns.data)
    name_at = header.index(columns.name) if columns.name is not None else None
    tags_at = {tag: header.index(place) for tag, place in columns.tags.items()}
    for number, row in enumerate(reader, start=1):
        if not row:
            continue
        if len(row) != len(header):
            message = f"{path}: row {number} has {len(row)} fields, the header {len(header)}; repair or remove it."
            fault(BadRecord(message, "broken record"))
            continue
        tags = {tag: row[place] for tag, place in tags_at.items()}
        yield Row(number, row[at], row[name_at] if name_at is not None else None, tags)


def records(path: Path, rows: Iterable[Row], columns: Columns, wanted: Wanted, fault: Fault) -> Iterator[Record]:
    """Records of a table's rows, each with a unique name."""
    seen, source = SeenNames(), str(path)
    for row in rows:
        name = f"row{row.number}" if columns.name is None else "" if row.name is None else str(row.name)
        first = seen.add(name, row.number) if columns.name is not None else None
        try:
            data = readable(row.data, wanted)
        except UnicodeDecodeError:
            fault(BadRecord(f"{path}: row {row.number} is not UTF-8 text; repair or remove it.", "not UTF-8"))
            continue
        if first is not None:
            message = (
                f"{path}: row {row.number} repeats the name '{name}' of row {first} (column '{columns.name}'); "
                f"rename one, or set data.id_column={ROW_NUMBERS}."
            )
            fault(BadRecord(message, "duplicate header"))
        elif not data:
            fault(BadRecord(f"{path}: row {row.number} has no {wanted.what}; remove it.", f"no {wanted.what}"))
        else:
            yield Record(name, data, source, {tag: str(value) for tag, value in row.tags.items() if value is not None})


def readable(data: Any, wanted: Wanted) -> Any:
    """A row's data as ``Record.data``: text without white space around it, a list of sentences, or bytes."""
    if data is None or wanted.kind == "bytes":
        return data
    if isinstance(data, list):
        return [text for text in data if text is not None]
    return (data.decode("utf-8") if isinstance(data, bytes) else data).strip()
