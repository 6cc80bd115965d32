"""The rows of a task's tables: their splits, their labels, and which of them a budget keeps.

Labels and splits are read from the table's own columns, all of them; the inputs are the modality's to read.
"""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.errors import SuiteError, nearest
from ssl_suite.evaluation.tasks import PARTS, Task
from ssl_suite.modalities.tables import ROW_NUMBERS
from ssl_suite.modalities.text_files import open_lines, packing, unreadable

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bgz", ".tsv.bgz")


@dataclass
class Rows:
    """What the tables say of each row, all files one after the other, and what reading adds.

    Attributes:
        places: of each row its file and number, for messages.
        parts: of each row its place in ``PARTS``, -1 where it is in none.
        positions: of each row, among those of its part.
        labels: as they are in the table.
        keep: whether the budget keeps it.
        digests, identities: of the input as read, and of what it encodes to; None where nothing could be read.
    """

    places: list[str]
    parts: np.ndarray
    positions: np.ndarray
    labels: list[Any]
    keep: np.ndarray
    digests: list[bytes | None] = field(init=False)
    identities: list[bytes | None] = field(init=False)

    def __post_init__(self) -> None:
        self.digests, self.identities = [None] * len(self.parts), [None] * len(self.parts)

    def of(self, part: str) -> list[int]:
        """The rows of a part, in order."""
        return np.flatnonzero(self.parts == PARTS.index(part)).tolist()


def read_rows(task: Task, paths: list[Path]) -> tuple[list[int], Rows]:
    """The rows of all files, and where each file's begin."""
    values = {str(task.splits[part]): i for i, part in enumerate(PARTS)}
    firsts: list[int] = []
    places: list[str] = []
    labels: list[Any] = []
    numbers: list[int] = []
    for path in paths:
        columns = read_columns(path, task)
        firsts.append(len(labels))
        labels += columns[task.columns["label"]]
        numbers += [values.get(str(value), -1) for value in columns[task.columns["split"]]]
        places += [f"{path}: row {i + 1}" for i in range(len(labels) - firsts[-1])]
    parts = np.array(numbers, np.int8)
    positions = np.zeros(len(parts), np.int32)
    for i, part in enumerate(PARTS):
        count = int(np.count_nonzero(parts == i))
        positions[parts == i] = np.arange(count)
        if not count:
            column, value = task.columns["split"], task.splits[part]
            raise SuiteError(f"task {task.name}: no row has {value} in column '{column}', so {part} is empty.")
    return firsts, Rows(places, parts, positions, labels, parts >= 0)


def read_columns(path: Path, task: Task) -> dict[str, list]:
    """The label and split columns of a table, a value a row; a CSV's blank line is a row of None, as readers count.

    Raises:
        SuiteError: it is no table, cannot be read, or lacks a column of the task.
    """
    wanted = [task.columns["label"], task.columns["split"]]
    packed = packing(path)
    if packed == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            check_columns(path, task, pq.read_schema(path).names)
            table = pq.read_table(path, columns=list(dict.fromkeys(wanted)))
            return {name: table.column(name).to_pylist() for name in wanted}
        except pa.ArrowException as error:
            raise SuiteError(f"{path}: parquet file is damaged ({str(error).splitlines()[0]}).") from None
        except OSError as error:
            raise unreadable(path, error) from None
    if not path.name.lower().endswith(TABLES):
        raise SuiteError(f"task {task.name}: {path} is no table; a task reads parquet, CSV and TSV.")
    with open_lines(path, packed) as lines:
        delimiter = "\t" if "\t" in lines.peek_text() else ","
        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            check_columns(path, task, header)
            rows = list(reader)
        except csv.Error as error:
            raise SuiteError(f"{path}: line {lines.number} cannot be read ({error}); repair it.") from None
    for i, row in enumerate(rows):
        if row and len(row) != len(header):
            raise SuiteError(f"{path}: row {i + 1} has {len(row)} fields, the header {len(header)}; repair it.")
    return {name: [row[header.index(name)] if row else None for row in rows] for name in wanted}


def check_columns(path: Path, task: Task, present: list[str]) -> None:
    """Refuse a table without a column of the task, or with one that rows' numbers would be taken from."""
    for key, name in task.columns.items():
        if name not in present:
            raise SuiteError(
                f"task {task.name}: {path} has no column '{name}' (columns.{key}).{nearest(name, present)}"
            )
    if ROW_NUMBERS in present:
        raise SuiteError(f"task {task.name}: {path} has a column '{ROW_NUMBERS}', a word for row numbers; rename it.")


def keep(rows: Rows, part: str, limit: int | None, data_sha256: str) -> None:
    """Keep ``limit`` rows of a part, whatever the seed."""
    if part not in PARTS:
        raise SuiteError(f"a task has no split '{part}' to limit.{nearest(part, PARTS)}")
    if limit is not None and limit < 1:
        raise SuiteError(f"limits.{part}={limit} should be at least 1.")
    mine = rows.of(part)
    if limit is None or limit >= len(mine):
        return
    keys = [hashlib.sha256(f"{data_sha256}:{part}:{i}".encode()).digest() for i in range(len(mine))]
    rows.keep[mine] = False
    rows.keep[[mine[i] for i in sorted(range(len(mine)), key=keys.__getitem__)[:limit]]] = True


def read_labels(task: Task, rows: Rows) -> tuple[np.ndarray, tuple[str, ...]]:
    """(rows,) class numbers or values (0 for rows of no part), and the classes of train.

    Raises:
        SuiteError: a label is missing, is no finite number (regression), or does not occur in train (classification).
    """
    where, used = f"task {task.name}", np.flatnonzero(rows.parts >= 0).tolist()
    for row in used:
        label = rows.labels[row]
        if label in (None, "") or (task.head == "classification" and label != label):
            raise SuiteError(f"{where}: {rows.places[row]} has no label (column '{task.columns['label']}').")
    if task.head == "regression":
        values = np.zeros(len(rows.labels), np.float64)
        for row in used:
            values[row] = number(rows.labels[row])
            if not math.isfinite(values[row]):
                label = f"{where}: {rows.places[row]} has the label {rows.labels[row]}"
                raise SuiteError(f"{label}; {task.head} takes finite numbers.")
        return values, ()
    classes = tuple(sorted({str(rows.labels[row]) for row in rows.of("train")}))
    numbers = {label: i for i, label in enumerate(classes)}
    for part in PARTS[1:]:
        unseen = Counter(label for row in rows.of(part) if (label := str(rows.labels[row])) not in numbers)
        if unseen:
            label, count = unseen.most_common(1)[0]
            others = f" (and {len(unseen) - 1} others)" if len(unseen) > 1 else ""
            raise SuiteError(
                f"{where}: {count:,} rows of {part} have the label '{label}'{others}, which no row of train has; no "
                "model could learn it, so correct the table or leave them out of the split."
            )
    found = np.zeros(len(rows.labels), np.int64)
    found[used] = [numbers[str(rows.labels[row])] for row in used]
    return found, classes


def number(label: Any) -> float:
    """A label as a number, NaN where it is none."""
    try:
        return float(label)
    except (TypeError, ValueError, OverflowError):
        return math.nan
