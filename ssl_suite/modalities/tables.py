"""Tables with a column of data: parquet through pyarrow by row batches, CSV and TSV by lines.

What a modality looks for is a ``Wanted``: the usual names of its column, and whether that holds text, lists of
sentences, or the bytes of a file (plain binary, or the ``{bytes, path}`` pairs that Hugging Face data sets use).
"""

from __future__ import annotations

import csv
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ssl_suite.core.errors import nearest
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import PAGE_VALUES, Limit, open_file, unreadable
from ssl_suite.core.records import Record
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.names import SeenNames
from ssl_suite.modalities.text_files import PARQUET, Lines, empty

NAME_COLUMNS = ("id", "name", "accession", "chrom", "doc_id")
TAG_COLUMNS = {
    "split": ("split",),
    "language": ("language", "lang"),
    "speaker": ("speaker", "speaker_id"),
    "label": ("label",),
}
ROW_NUMBERS = "row"
DELIMITERS = (",", "\t", ";", "|")
ROWS = 256  # of a parquet batch at most: short rows cost no more than at 4,096
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
            raise BadRecord(f"{path}: has no column '{asked}' (data.{key}).{nearest(asked, short(present))}", fault)
    lower = {name.strip().lower(): name for name in reversed(present)}
    data = column or next((lower[name] for name in wanted.columns if name in lower), None)
    if data is None:
        usual = " or ".join(f"'{name}'" for name in wanted.columns[:2])
        others = short(present)
        named = (
            f"set data.column to one of {', '.join(others)}, or name the columns in a first line"
            if others
            else "name one"
        )
        message = f"{path}: has no column {usual}; {named}."
        raise BadRecord(message, f"no {wanted.what} column")
    name = id_column or next((lower[name] for name in NAME_COLUMNS if name in lower), None)
    found = {tag: next((lower[name] for name in names if name in lower), None) for tag, names in TAG_COLUMNS.items()}
    tags = {tag: place for tag, place in found.items() if place is not None and place != data}
    return Columns(data, name if name in present and name != data else None, tags)


def short(names: list[str]) -> list[str]:
    """Column names for a message: not more than fit, and none that is no name."""
    return [name for name in names if len(name) <= 60 and name.isprintable()][:30]


@dataclass(frozen=True)
class Row:
    """A table's row: its number from 1, its data (None where absent), its name and tags as they were read."""

    number: int
    data: Any
    name: object
    tags: Mapping[str, object]


def read_parquet(
    path: Path,
    fault: Fault,
    wanted: Wanted,
    column: str | None = None,
    id_column: str | None = None,
    max_record_mb: int | None = None,
    kind: str = "record",
) -> Iterator[Record]:
    """The records of a parquet file, at most ``ROWS`` rows in memory at a time, and as many as the limit holds.

    Args:
        path: the file.
        fault: called with each bad record.
        wanted: what is read.
        column, id_column: of the data and the names, where they are not the usual ones.
        max_record_mb, kind: of the largest record, see ``core.limits``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    limit = Limit(max_record_mb, kind)
    try:
        with open_file(path) as opened, pq.ParquetFile(opened) as file:
            columns = choose(path, file.schema_arrow.names, wanted, column, id_column)
            check_type(path, columns.data, file.schema_arrow.field(columns.data).type, wanted)
            rows = parquet_rows(path, file, columns, Limit(max_record_mb))
            yield from records(path, rows, columns, wanted, fault, limit)
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


def read_encoded(
    path: Path,
    fault: Fault,
    wanted: Wanted,
    column: str | None,
    id_column: str | None,
    limit: Limit,
    check: Callable[[bytes, str], None] = lambda head, where: None,
    map_from: int | None = None,
    tags: Mapping[str, str] = {},
) -> Iterator[Record]:
    """An encoded file (a picture, MIDI, sound) as one undecoded record, or one a row of a parquet file.

    Args:
        path: the file.
        fault: called with each bad row.
        wanted, column, id_column: of the table.
        limit: of the largest record; one file by itself is not held against it where it is mapped.
        check: raises where the first 12 bytes and the place show another kind of file.
        map_from: bytes from which a file is mapped and not read.
        tags: of the one record.
    """
    try:
        with open_file(path) as file:
            head, size = file.read(12), os.fstat(file.fileno()).st_size
            if not head:
                raise empty(path)
            table = head.startswith(PARQUET) or path.suffix.lower() == ".parquet"
            if not table:
                check(head, str(path))
                if map_from is None:
                    limit.check(f"{path}:", size)
                mapped = map_from is not None and size >= map_from
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else head + file.read()
    except OSError as error:
        raise unreadable(path, error) from None
    if table:
        yield from read_parquet(path, fault, wanted, column, id_column, limit.mb, limit.kind)
    else:
        yield Record(path.stem, data, str(path), dict(tags))


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


def parquet_rows(path: Path, file: Any, columns: Columns, limit: Limit) -> Iterator[Row]:
    """Rows of a ``pyarrow.parquet.ParquetFile``; data become Python objects one row at a time."""
    number = 0
    for group in range(file.num_row_groups):
        size = batch_size(path, file, group, columns.used(), limit)
        for batch in file.iter_batches(size, [group], columns.used()):
            data = batch.column(columns.data)
            names = batch.column(columns.name).to_pylist() if columns.name else [None] * len(data)
            tags = {tag: batch.column(place).to_pylist() for tag, place in columns.tags.items()}
            for i in range(len(data)):
                number += 1
                yield Row(number, plain(data[i]), names[i], {tag: values[i] for tag, values in tags.items()})


def batch_size(path: Path, file: Any, group: int, used: list[str], limit: Limit) -> int:
    """How many rows of a row group are read at a time, so that these hold no more than the limit.

    One entry of a dictionary may stand for every row: the longest is looked up, in the first batch of the group.

    Raises:
        BadRecord: a page of the group unpacks to more than four times the limit.
    """
    import pyarrow.parquet as pq

    # Of the whole group: asking for one column's facts ends the process where a damaged file leaves them out.
    meta = file.metadata.row_group(group)
    total, rows = meta.total_byte_size, max(1, meta.num_rows)
    if total < 0:
        raise BadRecord(f"{path}: parquet file is damaged (sizes below 0); copy or download it again.", "damaged")
    if min(total, total // rows * PAGE_VALUES) > 4 * limit.bytes:
        remedy = "write it again with fewer rows a group (row_group_size=10)"
        raise limit.fault(f"{path}: row group {group + 1} with pages of {total >> 20:,} MB", remedy=remedy)
    longest = total // rows
    paths = [file.schema.column(i).path for i in range(len(file.schema))]
    leaves = [leaf for leaf in paths if leaf.partition(".")[0] in used]
    if leaves and total > limit.bytes // ROWS:
        with pq.ParquetFile(path, read_dictionary=leaves, metadata=file.metadata) as again:
            first = next(again.iter_batches(1, [group], used), None)
            longest = max([longest, *(longest_entry(array) for array in (first.columns if first is not None else ()))])
    return max(1, min(ROWS, limit.bytes // 4 // max(1, longest)))  # Arrow holds a batch, and makes the next


def longest_entry(array: Any) -> int:
    """Bytes of the longest entry of the dictionaries in an Arrow array, 0 where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        length = pc.max(pc.binary_length(array.dictionary)).as_py() if len(array.dictionary) else 0
        return length or 0
    if pa.types.is_struct(array.type):
        return max((longest_entry(child) for child in array.flatten()), default=0)
    return longest_entry(array.values) if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) else 0


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
    """The records of a table in text with a header line. Python's reader: pyarrow's fails on rows beyond a block."""
    csv.field_size_limit(sys.maxsize)  # the limit is that of ``lines``
    delimiter = separator(lines, {*wanted.columns, column})
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    lines.begin(lines.number + 1)
    try:
        header = next(reader, None)
        if header is None:
            raise empty(path)
        columns = choose(path, header, wanted, column, id_column)
        yield from records(path, delimited_rows(path, lines, reader, header, columns, fault), columns, wanted, fault)
    except csv.Error as error:
        fault_text = "has a quote that is never closed" if "end of data" in str(error) else f"is broken ({error})"
        message = (
            f"{path}: the row that begins at line {lines.begun} {fault_text} ({delimiter!r} separates fields, "
            'a " inside quotes is written twice); repair it.'
        )
        raise BadRecord(message, "broken record") from None


def separator(lines: Lines, names: Iterable[str | None]) -> str:
    """What separates fields: what leaves one of ``names`` in the header, else what occurs most often there.

    Comment lines (``#``) and Excel's ``sep=;`` above the header are passed over.
    """
    names = set(names)
    while True:
        header = lines.peek_text()
        cells = {mark: next(csv.reader([header], delimiter=mark), []) for mark in DELIMITERS}
        found = [
            mark
            for mark in DELIMITERS
            if any(cell.strip() in names or cell.strip().lower() in names for cell in cells[mark])
        ]
        if found or not header.startswith(("#", "sep=")):
            return max(found or DELIMITERS, key=lambda mark: len(cells[mark]))
        lines.readline()


def delimited_rows(
    path: Path, lines: Lines, reader: Iterable[list[str]], header: list[str], columns: Columns, fault: Fault
) -> Iterator[Row]:
    """Rows of a ``csv.reader`` over ``lines``; a row that is too short or too long is a fault."""
    at = header.index(columns.data)
    name_at = header.index(columns.name) if columns.name is not None else None
    tags_at = {tag: header.index(place) for tag, place in columns.tags.items()}
    lines.begin(lines.number + 1)
    number = 0
    for number, row in enumerate(reader, start=1):
        if len(row) == len(header):
            tags = {tag: row[place] for tag, place in tags_at.items()}
            yield Row(number, row[at], row[name_at] if name_at is not None else None, tags)
        elif row:
            fields = f"{len(row)} field" + "s" * (len(row) != 1)
            message = f"{path}: row {number} has {fields}, the header {len(header)}; repair or remove it."
            fault(BadRecord(message, "broken record"))
        lines.begin(lines.number + 1)
    if not number:
        raise BadRecord(f"{path}: holds a header and no row; remove it, or put rows below the header.", "empty file")


def records(
    path: Path, rows: Iterable[Row], columns: Columns, wanted: Wanted, fault: Fault, limit: Limit | None = None
) -> Iterator[Record]:
    """Records of a table's rows, those that repeat a name numbered, and none beyond ``limit`` where there is one."""
    seen, source = SeenNames(), str(path)
    for row in rows:
        name = f"row{row.number}" if columns.name is None else "" if row.name is None else str(row.name)
        try:
            data = readable(row.data, wanted)
        except UnicodeDecodeError:
            fault(BadRecord(f"{path}: row {row.number} is not UTF-8 text; repair or remove it.", "not UTF-8"))
            continue
        if not data:
            fault(BadRecord(f"{path}: row {row.number} has no {wanted.what}; remove it.", f"no {wanted.what}"))
        elif limit is not None and (size := sum(map(len, data)) if isinstance(data, list) else len(data)) > limit.bytes:
            fault(limit.fault(f"{path}: row {row.number}", f"{size / (1 << 20):,.4g}"))
        else:
            tags = {tag: str(value) for tag, value in row.tags.items() if value is not None}
            times = seen.add(name) if columns.name is not None else 1
            yield Record(name, data, source, tags, occurrence=times)


def readable(data: Any, wanted: Wanted) -> Any:
    """A row's data as ``Record.data``: text without white space around it, a list of sentences, or bytes."""
    if data is None or wanted.kind == "bytes":
        return data
    if isinstance(data, list):
        return [text for text in data if text is not None]
    return (data.decode("utf-8") if isinstance(data, bytes) else data).strip()
