"""The inputs of a task's rows: read by the modality, by reference where cells name records, encoded by the layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.records import Record
from ssl_suite.data.sources import Sources
from ssl_suite.evaluation import items
from ssl_suite.evaluation.tables import Rows
from ssl_suite.evaluation.tasks import Task
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.tables import ROW_NUMBERS

Reader = Callable[[str, Any], Iterator[tuple[int, Record]]]  # (column, fault) -> row numbers and records


def cells(modality: Modality, sources: Sources, firsts: list[int]) -> Reader:
    """Reads every record of a column of the tables; ``firsts`` are where each table's rows begin."""

    def read(column: str, fault: Any) -> Iterator[tuple[int, Record]]:
        for path, first in zip(sources.paths, firsts, strict=True):
            for record in modality.read(path, fault, column, ROW_NUMBERS):
                yield first + int(record.name.removeprefix(ROW_NUMBERS)) - 1, record

    return read


def references(task: Task, modality: Modality, sources: Sources, rows: Rows) -> Reader:
    """Reads what the cells of a column name in another table, as lists of trials name recordings. Raises SuiteError: a
    name is not in that table; the nearest is offered."""
    known = _named(task, modality, sources, rows)

    def read(column: str, fault: Any) -> Iterator[tuple[int, Record]]:
        for row in rows.used():
            name = rows.columns[column][row]
            if name in (None, ""):
                fault(BadRecord(f"{rows.places[row]} has no '{column}'; remove it.", "no input"))
            else:
                yield row, replace(known[str(name)], name=f"{ROW_NUMBERS}{row + 1}")

    return read


def _named(task: Task, modality: Modality, sources: Sources, rows: Rows) -> dict[str, Record]:
    """The records of the other table that rows of the task's parts name, by name."""
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


def encode(
    task: Task, modality: Modality, layout: items.Single, reader: Reader, rows: Rows, on_error: str
) -> tuple[dict[int, tuple[Any, ...]], int]:
    """What the inputs of kept rows encode to, by row, and how many rows of train were skipped; fills in digests and
    identities of all."""
    faults, signal = FaultCounter(on_error), modality.frame is not None
    inputs: dict[int, list[Any]] = {}
    seen: dict[int, list[tuple[bytes, bytes]]] = {}
    known: dict[bytes, Any] = {}
    for k, column in enumerate(task.inputs):
        optional = layout.apart and k > 0

        def fault(error: SuiteError, optional: bool = optional) -> None:
            if not (optional and getattr(error, "reason", "").startswith("no ")):  # an empty cell
                faults(error)

        for row, record in reader(column, fault):
            if rows.parts[row] < 0 or len(seen.get(row, ())) < k:
                continue
            raw = as_bytes(record.data)
            digest = hashlib.blake2b(raw, digest_size=16).digest()
            identity = digest if signal else b""
            if not signal or rows.keep[row]:
                try:
                    found = known[digest] if digest in known else layout.read(modality, record, k)
                except BadRecord as error:
                    faults(error)
                    continue
                if layout.apart:  # a recording stands in many trials: one array
                    known[digest] = found
                identity = identity or modality.identity(flat(found))
                if rows.keep[row]:
                    inputs.setdefault(row, []).append(found)
            seen.setdefault(row, []).append((raw, identity))
    skipped = _complete(task, layout, rows, seen, faults)
    return {row: tuple(found) for row, found in inputs.items() if rows.digests[row] is not None}, skipped


def _complete(
    task: Task, layout: items.Single, rows: Rows, seen: dict[int, list[tuple[bytes, bytes]]], faults: FaultCounter
) -> int:
    """Note the digests and identities of the rows whose inputs were all read; returns how many of train were not."""
    train = rows.names.index("train")
    for row, found in seen.items():
        if len(found) >= (1 if layout.apart and rows.parts[row] == train else len(task.inputs)):
            raws, identities = zip(*found, strict=True)
            rows.digests[row] = hashlib.sha256(b"\0".join(raws)).digest()
            rows.identities[row] = identities if layout.apart else (b"".join(identities),)
    missing = [row for row in rows.used() if rows.digests[row] is None]
    scored = [row for row in missing if rows.parts[row] != train]
    if scored or not any(rows.keep[row] and rows.digests[row] is not None for row in rows.of("train")):
        what = "dev and test skip no row" if scored else "all rows of train were skipped"
        which = [*faults.examples, *(f"{rows.places[row]} has no '{task.inputs[-1]}'." for row in scored)]
        raise SuiteError(f"task {task.name}: {what}: {''.join(which[:1])}")
    return len(missing)


def flat(found: Any) -> np.ndarray:
    """The ids or frames of what a layout read."""
    if isinstance(found, list):
        return np.concatenate(found)
    return found[0] if isinstance(found, tuple) else found


def as_bytes(data: Any) -> bytes:
    """A record's input as bytes."""
    text = "\n".join(data) if isinstance(data, list) else data
    return text.encode("utf-8") if isinstance(text, str) else text
