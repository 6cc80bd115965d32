"""What a data set for pre-training shares with the dev and test splits of tasks: records, byte by byte, and speakers.

A table that a recipe makes of other recordings may say of each row which: ``recordings``, a list of SHA-256 of the
files in it, and ``speakers``, a list of names. Both are looked for like the row's own file and ``speaker``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.core.records import Record
from ssl_suite.data.sources import resolve
from ssl_suite.data.split import TEST, given_split
from ssl_suite.evaluation import task_inputs
from ssl_suite.evaluation.tables import read_rows
from ssl_suite.evaluation.task_data import find_sources
from ssl_suite.evaluation.tasks import Task, build_modality
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.text_files import packing

if TYPE_CHECKING:
    from rich.table import Table

LISTS = ("recordings", "speakers")


@dataclass
class Content:
    """What is in a data set, or in a split.

    Attributes:
        records: SHA-256 of each.
        speakers: their names, as far as they are given.
    """

    records: set[str] = field(default_factory=set)
    speakers: set[str] = field(default_factory=set)

    def add(self, record: Record, lists: Mapping[str, Sequence[str]]) -> None:
        """Note a record, and what it is made of."""
        self.records |= {hashlib.sha256(task_inputs.as_bytes(record.data)).hexdigest(), *lists["recordings"]}
        self.speakers |= {*([record.tags["speaker"]] if "speaker" in record.tags else []), *lists["speakers"]}


def compare(modality: Modality, data: Mapping[str, Any], some: Iterable[Task]) -> list[dict[str, Any]]:
    """Of each split but train of each task the ``records`` and ``speakers`` in it, and how many of these the data have.

    Args:
        data: the ``data`` section of a configuration. Records that it marks as test are not in it: no run reads them.

    Raises SuiteError: the data, or those of a task, are not here or cannot be read.
    """
    mine, found = of_data(modality, data), []
    for task in some:
        for part, content in of_task(task, data).items():
            found.append(
                {
                    "task": task.name,
                    "split": part,
                    "records": len(content.records),
                    "shared_records": len(content.records & mine.records),
                    "speakers": len(content.speakers),
                    "shared_speakers": len(content.speakers & mine.speakers),
                }
            )
    return found


def of_data(modality: Modality, data: Mapping[str, Any]) -> Content:
    """The records that a run reads, for training or validation."""
    found = Content()
    for path in resolve(modality, data).paths:
        lists = _lists(path)
        for i, record in enumerate(modality.read(path, _ignore, data.get("column"), data.get("id_column"))):
            if given_split(record) != TEST:
                found.add(record, {name: lists[name][i] if name in lists else () for name in LISTS})
    return found


def of_task(task: Task, place: Mapping[str, Any]) -> dict[str, Content]:
    """By part, but for train, what is in it."""
    modality = build_modality(task)
    sources = find_sources(task, modality, place, task.data)
    firsts, rows = read_rows(task, sources.paths)
    if task.lookup is None:
        reader = task_inputs.cells(modality, sources, firsts)
    else:
        reader = task_inputs.references(task, modality, find_sources(task, modality, place, task.lookup["data"]), rows)
    lists: dict[str, dict[int, Sequence[str]]] = {name: {} for name in LISTS}
    for path, first in zip(sources.paths, firsts, strict=True):
        for name, values in _lists(path).items():
            lists[name] |= dict(enumerate(values, first))
    found = {part: Content() for part in task.parts if part != "train"}
    for column in task.inputs:
        for row, record in reader(column, _ignore):
            part = rows.names[rows.parts[row]] if rows.parts[row] >= 0 else "train"
            if part in found:
                found[part].add(record, {name: lists[name].get(row, ()) for name in LISTS})
    return found


def _lists(path: Path) -> dict[str, list[Sequence[str]]]:
    """The columns of a parquet file that say what its rows are made of."""
    import pyarrow.parquet as pq

    if packing(path) != "parquet":
        return {}
    present = [name for name in LISTS if name in pq.read_schema(path).names]
    table = pq.read_table(path, columns=present)
    return {name: table[name].to_pylist() for name in present}


def _ignore(error: Exception) -> None:
    """A row that cannot be read is in no split."""


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """``compare``'s result for a terminal."""
    from rich.table import Table

    shown = Table(title="in the dev and test splits of tasks", title_justify="left")
    for column in ("task", "split", "records", "of them here", "speakers", "of them here"):
        shown.add_column(column, justify="left" if column in ("task", "split") else "right")
    for row in found:
        named = (f"{row['speakers']:,}", f"{row['shared_speakers']:,}") if row["speakers"] else ("no names", "")
        shown.add_row(row["task"], row["split"], f"{row['records']:,}", f"{row['shared_records']:,}", *named)
    return shown
