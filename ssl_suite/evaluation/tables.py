"""The rows of a task's tables: the part each belongs to, its labels, and which of them a budget keeps.

Labels, splits and groups are read from the table's own columns, all of them; the inputs are the modality's to read.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation.tasks import CARVED, COLUMN, FILE, NEAR_COPIES, Task
from ssl_suite.modalities.tables import ROW_NUMBERS, separator
from ssl_suite.modalities.text_files import open_lines, packing, unreadable

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bgz", ".tsv.bgz")


@dataclass
class Rows:
    """What the tables say of each row, all files one after the other, and what reading adds.

    Attributes:
        names: of the parts.
        places: of each row its file and number, for messages.
        parts: int8, of each row the number of its part, -1 where it is in none.
        positions: int32, of each row, among those of its part.
        columns: the values of the columns that were asked for, by column.
        keep: whether the budget keeps it.
        blind: the parts whose rows have no labels.
        digests: of the inputs as read; None where nothing could be read.
        identities: of what the inputs encode to, of each by itself where they are independent; () where nothing.
    """

    names: tuple[str, ...]
    places: list[str]
    parts: np.ndarray
    positions: np.ndarray
    columns: dict[str, list[Any]]
    keep: np.ndarray
    blind: tuple[str, ...] = ()
    digests: list[bytes | None] = field(init=False)
    identities: list[tuple[bytes, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.digests, self.identities = [None] * len(self.parts), [()] * len(self.parts)

    def of(self, part: str) -> list[int]:
        """The rows of a part, in order."""
        return np.flatnonzero(self.parts == self.names.index(part)).tolist()

    def used(self) -> list[int]:
        """The rows of all parts, in order."""
        return np.flatnonzero(self.parts >= 0).tolist()

    def labelled(self) -> list[int]:
        """The rows of the parts that have labels, in order."""
        return np.flatnonzero((self.parts >= 0) & (self.parts < len(self.scored))).tolist()

    @property
    def scored(self) -> tuple[str, ...]:
        """The parts that have labels; they come first."""
        return self.names[: len(self.names) - len(self.blind)]


def read_rows(task: Task, paths: list[Path]) -> tuple[list[int], Rows]:
    """The rows of all files, and where each file's begin. Raises SuiteError: a file is no table or lacks a column, a
    part has no row, or the share of dev takes all or nothing."""
    wanted = [
        *task.label,
        *(name for name in (task.group, task.parallel, *task.clusters) if name and name != NEAR_COPIES),
        *(task.inputs if task.lookup else ()),
    ]
    wanted = list(dict.fromkeys(wanted))
    column = task.splits.get(COLUMN)
    files = {str(value).removeprefix(FILE): part for part, value in task.splits.items() if is_file(value)}
    values = {str(value): part for part, value in task.splits.items() if part != COLUMN and not is_file(value)}
    firsts: list[int] = []
    places: list[str] = []
    parts: list[int] = []
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    for path in paths:
        columns = read_columns(path, task, [*wanted, *([str(column)] if column else [])])
        count = len(columns[wanted[0]])
        of_file = files.get(path.name)
        names = [of_file or values.get(str(value)) for value in (columns[str(column)] if column else [None] * count)]
        firsts.append(len(parts))
        parts += [-1 if name is None else task.parts.index(name) for name in names]
        places += [f"{path}: row {i + 1}" for i in range(count)]
        for name in wanted:
            found[name] += columns[name]
    parts_R = np.array(parts, np.int8)
    if task.dev is not None:
        take_dev_from_train(task, parts_R, found[task.group] if task.group else None)
    positions = np.zeros(len(parts_R), np.int32)
    for i, part in enumerate(task.parts):
        mine = parts_R == i
        positions[mine] = np.arange(np.count_nonzero(mine))
        if not mine.any():
            where = f"no row has {task.splits.get(part)} in column '{column}'" if column else "its file has no rows"
            raise SuiteError(f"task {task.name}: {where}, so {part} is empty.")
    return firsts, Rows(task.parts, places, parts_R, positions, found, parts_R >= 0)


def is_file(value: Any) -> bool:
    """Whether a part is a file of the data set."""
    return str(value).startswith(FILE)


def take_dev_from_train(task: Task, parts_R: np.ndarray, groups: list[Any] | None) -> None:
    """Move a share of the training rows to dev: those whose group (else whose place) has the smallest SHA-256."""
    match = CARVED.fullmatch(task.dev or "")
    assert match is not None  # the task was checked
    train, dev = task.parts.index("train"), task.parts.index("dev")
    rows = np.flatnonzero(parts_R == train)
    names = [str(groups[row]) if groups else str(i) for i, row in enumerate(rows.tolist())]
    order = {name: hashlib.sha256(f"{task.base}:{name}".encode()).digest() for name in set(names)}
    wanted, taken = round(len(rows) * int(match[1]) / 100), set()
    sizes: dict[str, int] = {}
    for name in names:
        sizes[name] = sizes.get(name, 0) + 1
    count = 0
    for name in sorted(sizes, key=order.__getitem__):
        if count >= wanted:
            break
        taken.add(name)
        count += sizes[name]
    if not 0 < count < len(rows):
        raise SuiteError(
            f"task {task.name}: {task.dev} takes {count} of {len(rows)} rows for dev; "
            f"choose another share{', or a group with more values' if groups else ''}."
        )
    parts_R[rows[[name in taken for name in names]]] = dev


def read_columns(path: Path, task: Task, wanted: list[str]) -> dict[str, list]:
    """Columns of a table, a value a row; a CSV's blank line is a row of None, as readers count. Raises SuiteError: it
    is no table, cannot be read, or lacks a column of the task."""
    packed = packing(path)
    wanted = list(dict.fromkeys(wanted))
    if packed == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            check_columns(path, task, wanted, pq.read_schema(path).names)
            table = pq.read_table(path, columns=wanted)
            return {name: table.column(name).to_pylist() for name in wanted}
        except pa.ArrowException as error:
            raise SuiteError(f"{path}: parquet file is damaged ({str(error).splitlines()[0]}).") from None
        except OSError as error:
            raise unreadable(path, error) from None
    if not path.name.lower().endswith(TABLES):
        raise SuiteError(f"task {task.name}: {path} is no table; a task reads parquet, CSV and TSV.")
    with open_lines(path, packed) as lines:
        delimiter = separator(lines, set(wanted))
        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            check_columns(path, task, wanted, header)
            rows = []
            for row in reader:
                rows.append(row)
                lines.begin(lines.number + 1)  # the limit is of a row
        except csv.Error as error:
            raise SuiteError(f"{path}: line {lines.number} cannot be read ({error}); repair it.") from None
    for i, row in enumerate(rows):
        if row and len(row) != len(header):
            raise SuiteError(f"{path}: row {i + 1} has {len(row)} fields, the header {len(header)}; repair it.")
    return {name: [row[header.index(name)] if row else None for row in rows] for name in wanted}


def check_columns(path: Path, task: Task, wanted: list[str], present: list[str]) -> None:
    """Refuse a table without a column of the task, or with one that rows' numbers would be taken from."""
    for name in dict.fromkeys([*task.inputs, *wanted]):
        if name not in present:
            raise SuiteError(f"task {task.name}: {path} has no column '{name}'.{nearest(name, present)}")
    if ROW_NUMBERS in present:
        raise SuiteError(f"task {task.name}: {path} has a column '{ROW_NUMBERS}', a word for row numbers; rename it.")


def keep(rows: Rows, part: str, limit: int | None, data_sha256: str, parallel: str | None = None) -> None:
    """Keep ``limit`` rows of a part, whatever the seed.

    Args:
        parallel: a column by whose values those of test and further parts are chosen, in the place of their positions.
    """
    if part not in rows.names:
        raise SuiteError(f"a task has no split '{part}' to limit.{nearest(part, rows.names)}")
    if limit is not None and limit < 1:
        raise SuiteError(f"limits.{part}={limit} should be at least 1.")
    mine = rows.of(part)
    if limit is None or limit >= len(mine):
        return
    names = [f"{data_sha256}:{part}:{i}" for i in range(len(mine))]
    if parallel is not None and part not in ("train", "dev"):
        names = [f"{data_sha256}:{rows.columns[parallel][row]}" for row in mine]
    keys = [hashlib.sha256(name.encode()).digest() for name in names]
    rows.keep[mine] = False
    rows.keep[[mine[i] for i in sorted(range(len(mine)), key=keys.__getitem__)[:limit]]] = True
