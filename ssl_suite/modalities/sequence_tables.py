"""Tables with a sequence column: parquet through pyarrow by row batches, CSV and TSV by lines."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_suite.data.faults import BadRecord
from ssl_suite.errors import SuiteError, nearest
from ssl_suite.modalities.base import Fault, Record
from ssl_suite.modalities.names import SeenNames
from ssl_suite.modalities.text_files import Lines, unreadable

SEQUENCE_COLUMNS = ("sequence", "seq")
NAME_COLUMNS = ("id", "name", "accession", "chrom")
ROW_NUMBERS = "row"
ROWS = 256  # of a parquet batch: a chromosome a row still fits in memory, and short rows cost no more than at 4,096


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used; None for a name or split column it does not have."""

    sequence: str
    name: str | None
    split: str | None

    def wanted(self) -> list[str]:
        """The columns to read."""
        return [column for column in (self.sequence, self.name, self.split) if column is not None]


def choose(path: Path, present: list[str], column: str | None, id_column: str | None) -> Columns:
    """Find the columns by request or by their usual names (in any case).

    Raises:
        SuiteError: a column that is asked for, or any sequence column, is not there.
    """
    for asked, key in ((column, "column"), (id_column, "id_column")):
        if asked is not None and asked not in present and not (key == "id_column" and asked == ROW_NUMBERS):
            raise SuiteError(f"{path}: has no column '{asked}' (data.{key}).{nearest(asked, present)}")
    lower = {name.strip().lower(): name for name in reversed(present)}
    sequence = column or next((lower[name] for name in SEQUENCE_COLUMNS if name in lower), None)
    if sequence is None:
        raise SuiteError(f"{path}: has no column 'sequence' or 'seq'; set data.column to one of {', '.join(present)}.")
    name = id_column or next((lower[name] for name in NAME_COLUMNS if name in lower), None)
    return Columns(sequence, name if name in present else None, lower.get("split"))


Row = tuple[int, str | bytes | None, object, object]
"""(number from 1, sequence, name, split) of a row."""


def read_parquet(path: Path, fault: Fault, column: str | None, id_column: str | None) -> Iterator[Record]:
    """The records of a parquet file, ``ROWS`` rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = choose(path, file.schema_arrow.names, column, id_column)
            check_type(path, columns.sequence, file.schema_arrow.field(columns.sequence).type)
            yield from records(path, parquet_rows(file, columns), columns, fault)
    except pa.ArrowException as error:
        message = f"{path}: parquet file is damaged ({str(error).splitlines()[0]}); copy or download it again."
        raise BadRecord(message, "damaged") from None
    except OSError as error:
        raise unreadable(path, error) from None


def check_type(path: Path, name: str, kind: object) -> None:
    """Refuse a sequence column of numbers."""
    if str(kind) not in (
        "string",
        "large_string",
        "string_view",
        "binary",
        "large_binary",
    ):
        raise SuiteError(f"{path}: column '{name}' holds {kind}, not text; set data.column to the sequences.")


def parquet_rows(file: Any, columns: Columns) -> Iterator[Row]:
    """Rows of a ``pyarrow.parquet.ParquetFile``; values become Python objects one row at a time."""
    number = 0
    for batch in file.iter_batches(batch_size=ROWS, columns=columns.wanted()):
        parts = {name: batch.column(name) for name in columns.wanted()}
        sequences = parts[columns.sequence]
        names = parts[columns.name].to_pylist() if columns.name else [None] * len(sequences)
        splits = parts[columns.split].to_pylist() if columns.split else [None] * len(sequences)
        for i in range(len(sequences)):
            number += 1
            buffer = sequences[i].as_buffer()
            yield (
                number,
                None if buffer is None else buffer.to_pybytes(),
                names[i],
                splits[i],
            )


def read_delimited(
    path: Path, lines: Lines, fault: Fault, column: str | None, id_column: str | None
) -> Iterator[Record]:
    """The records of a CSV or TSV file with a header line. Python's reader: pyarrow's fails on rows beyond a block."""
    csv.field_size_limit(sys.maxsize)
    header_line = lines.peek_text()
    delimiter = "\t" if "\t" in header_line else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = [name.lstrip("\ufeff") for name in next(reader)]
    columns = choose(path, header, column, id_column)
    try:
        yield from records(path, delimited_rows(path, reader, header, columns, fault), columns, fault)
    except csv.Error as error:
        message = f"{path}: line {lines.number} is not {delimiter!r}-separated text ({error}); repair it."
        raise BadRecord(message, "broken record") from None


def delimited_rows(
    path: Path, reader: Iterable[list[str]], header: list[str], columns: Columns, fault: Fault
) -> Iterator[Row]:
    """Rows of a ``csv.reader``; a row that is too short is a fault."""
    at, name_at, split_at = (
        header.index(column) if column is not None else None
        for column in (columns.sequence, columns.name, columns.split)
    )
    for number, row in enumerate(reader, start=1):
        if not row:
            continue
        if len(row) != len(header):
            message = f"{path}: row {number} has {len(row)} fields, the header {len(header)}; repair or remove it."
            fault(BadRecord(message, "broken record"))
            continue
        yield (
            number,
            row[at] if at is not None else None,
            row[name_at] if name_at is not None else None,
            row[split_at] if split_at is not None else None,
        )


def records(path: Path, rows: Iterable[Row], columns: Columns, fault: Fault) -> Iterator[Record]:
    """Records of a table's rows, each with a unique name."""
    seen, source = SeenNames(), str(path)
    for number, data, given, split in rows:
        name = f"row{number}" if columns.name is None else "" if given is None else str(given)
        first = seen.add(name, number) if columns.name is not None else None
        try:
            sequence = (data.decode("utf-8") if isinstance(data, bytes) else data or "").strip()
        except UnicodeDecodeError:
            fault(
                BadRecord(
                    f"{path}: row {number} is not UTF-8 text; repair or remove it.",
                    "not UTF-8",
                )
            )
            continue
        if first is not None:
            message = (
                f"{path}: row {number} repeats the name '{name}' of row {first} (column '{columns.name}'); "
                f"rename one, or set data.id_column={ROW_NUMBERS}."
            )
            fault(BadRecord(message, "duplicate header"))
        elif not sequence:
            fault(BadRecord(f"{path}: row {number} has no sequence; remove it.", "no sequence"))
        else:
            yield Record(
                name,
                sequence,
                source,
                {"split": str(split)} if split is not None else {},
            )
