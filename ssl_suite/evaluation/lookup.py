"""Inputs by reference: cells that name records of another table, as lists of trials name recordings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Record
from ssl_suite.data.sources import Sources
from ssl_suite.evaluation.tables import Rows
from ssl_suite.evaluation.tasks import Task
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.tables import ROW_NUMBERS


def records(task: Task, modality: Modality, sources: Sources, rows: Rows) -> dict[str, Record]:
    """The records of the other table that rows of the task's parts name, by name.

    Raises:
        SuiteError: a name is not in the table; the nearest is offered.
    """
    assert task.lookup is not None
    cells = [(row, column) for row in rows.used() for column in task.inputs if rows.columns[column][row]]
    wanted = {str(rows.columns[column][row]) for row, column in cells}
    found: dict[str, Record] = {}
    known: list[str] = []

    def fault(error: SuiteError) -> None:
        raise error.advised() if isinstance(error, BadRecord) else error

    for path in sources.paths:
        for record in modality.read(path, fault, task.lookup["column"], task.lookup["key"]):
            known.append(record.name)
            if record.name in wanted:
                found[record.name] = record
    for row, column in cells:
        name = str(rows.columns[column][row])
        if name not in found:
            raise SuiteError(
                f"task {task.name}: {rows.places[row]}: column '{column}' names '{name}', which is no "
                f"'{task.lookup['key']}' of {sources.described}.{nearest(name, known)}"
            )
    return found


def read(column: str, rows: Rows, known: dict[str, Record], fault: Any) -> Iterator[tuple[int, Record]]:
    """What the cells of a column name, with the numbers of their rows."""
    for row in rows.used():
        name = rows.columns[column][row]
        if name in (None, ""):
            fault(BadRecord(f"{rows.places[row]} has no '{column}'; remove it.", "no input"))
        else:
            yield row, replace(known[str(name)], name=f"{ROW_NUMBERS}{row + 1}")
