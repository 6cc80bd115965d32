"""Streaming readers of text: plain files, JSON lines, parquet, CSV and TSV; gzip or not.

Plain text may come in lines of any length: memory holds one document, and a document beyond ``LONGEST`` letters is read
as several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.limits import Limit
from ssl_suite.core.records import Record
from ssl_suite.modalities import sequence_files, tables
from ssl_suite.modalities.base import Fault
from ssl_suite.modalities.text_files import Lines, open_lines, packing

JSON = sequence_files.suffixes(".jsonl", ".ndjson", ".json")
DELIMITED = sequence_files.suffixes(".csv", ".tsv")
SUFFIXES = (*sequence_files.suffixes(".txt", ".text", ".md"), *JSON, *sequence_files.suffixes(".parquet"), *DELIMITED)
WANTED = tables.Wanted(("text", "content", "document", "sentences", "sentence"), "text", "sentences")
LONGEST = 1 << 23  # letters of one document; War and Peace has 3.2 million
BLOCK = 1 << 20  # letters read at a time
LOOK_BACK = 1 << 16  # letters in which the end of a document's part is looked for
FROM_NAME = "file"
Cut = Literal["file", "blank", "line"]


def read(
    path: Path,
    fault: Fault,
    documents: Cut = "file",
    language: str | None = None,
    column: str | None = None,
    id_column: str | None = None,
    max_record_mb: int | None = None,
) -> Iterator[Record]:
    """Stream the records of one file.

    Args:
        path: JSON lines, CSV and TSV go by their names, parquet by its content; anything else is plain text.
        fault: called with each bad record; it raises, or returns and the record is left out.
        documents: what a plain file is cut into, see ``modality.documents``.
        language: of records that do not name their own; ``file`` takes the file name up to the first ``_ - .``.
        column: of the text, in JSON lines and tables; by default the first of ``WANTED.columns`` there.
        id_column: of the names; by default ``id``, ``name`` …, else rows are numbered.
        max_record_mb: the largest row of a table and line of JSON, see ``core.limits``.

    Yields:
        Records whose ``data`` is text, or a list of sentences where the column holds lists.

    Raises:
        BadRecord: the file as a whole cannot be read.
    """
    if language == FROM_NAME:
        language = path.name.replace("-", "_").replace(".", "_").partition("_")[0]
    for record in records(path, fault, documents, column, id_column, max_record_mb):
        if language and "language" not in record.tags:
            record = replace(record, tags=record.tags | {"language": language})
        yield record


def records(
    path: Path, fault: Fault, documents: Cut, column: str | None, id_column: str | None, max_record_mb: int | None
) -> Iterator[Record]:
    """The records of a file by its kind."""
    packed = packing(path)
    if packed == "parquet":
        yield from tables.read_parquet(path, fault, WANTED, column, id_column, max_record_mb)
        return
    name = path.name.lower()
    # Plain text is cut into documents of bounded size; only rows and lines of JSON are held against the limit.
    limit = Limit(
        max_record_mb if name.endswith((*JSON, *DELIMITED)) else None, "row" if name.endswith(DELIMITED) else "record"
    )
    with open_lines(path, packed, limit) as lines:
        if name.endswith(JSON):
            yield from json_records(path, lines, fault, column, id_column, Limit(max_record_mb, "json"))
        elif name.endswith(DELIMITED):
            if not lines.peek_text():
                raise no_text(path)
            yield from tables.read_delimited(path, lines, fault, WANTED, column, id_column)
        else:
            cut: dict[Cut, Callable[[Path, Lines], Iterator[tuple[str, str]]]]
            cut = {"file": whole, "blank": paragraphs, "line": by_line}
            found = False
            for place, text in cut[documents](path, lines):
                found = True
                yield Record(place, text, str(path))
            if not found:
                raise no_text(path)


def no_text(path: Path) -> BadRecord:
    """The fault of a file of white space."""
    return BadRecord(f"{path}: holds no text; remove it or put text into it.", "empty file")


def blocks(lines: Lines, read: Callable[[int], str], size: int) -> Iterator[str]:
    """What ``read(size)`` gives until the end, each block within the limit of a record for itself."""
    while block := read(size):
        yield block
        lines.begin(0)


def stem(path: Path) -> str:
    """The file's name without what says how it is packed and written."""
    name = path.name
    for suffix in (".gz", ".bgz"):
        name = name.removesuffix(suffix)
    return Path(name).stem or name


def whole(path: Path, lines: Lines) -> Iterator[tuple[str, str]]:
    """The file as one document; its further parts, where it is long, are ``STEM:2`` and so on."""
    held, size, part = [], 0, 1
    for block in blocks(lines, lines.handle.read, BLOCK):
        held.append(block)
        size += len(block)
        if size < LONGEST:
            continue
        text = "".join(held)
        end = last_gap(text)
        yield from named(stem(path), part, text[:end])
        held, size, part = [text[end:]], len(text) - end, part + 1
    yield from named(stem(path), part, "".join(held))


def last_gap(text: str) -> int:
    """Where to cut a long text: at its last blank line, line break or space, if that is near the end."""
    for gap in ("\n\n", "\n", " "):
        place = text.rfind(gap, max(1, len(text) - LOOK_BACK))
        if place > 0:
            return place
    return len(text)


def named(name: str, part: int, text: str) -> Iterator[tuple[str, str]]:
    """One document, if there is any text in it."""
    if text and not text.isspace():
        yield (name if part == 1 else f"{name}:{part}"), text


def by_line(path: Path, lines: Lines) -> Iterator[tuple[str, str]]:
    """Each line a document, ``line1``, ``line2`` …; of one beyond ``LONGEST`` each part, ``line1:2``."""
    number, part = 1, 1
    for line in blocks(lines, lines.handle.readline, LONGEST):
        yield from named(f"line{number}", part, line)
        number, part = (number + 1, 1) if line.endswith("\n") else (number, part + 1)


def paragraphs(path: Path, lines: Lines) -> Iterator[tuple[str, str]]:
    """Each stretch of lines between blank lines a document, named after its first line."""
    held: list[str] = []
    size, number, begun, part, ended = 0, 1, 1, 1, True  # ended: the piece before closed its line
    for line in blocks(lines, lines.handle.readline, LONGEST):
        blank = ended and line.isspace()
        if held and (blank or size + len(line) > LONGEST):
            yield from named(f"line{begun}", part, "".join(held))
            held, size, part = [], 0, 1 if blank else part + 1
        if not blank:
            if size == 0 and part == 1:
                begun = number
            held.append(line)
            size += len(line)
        else:
            part = 1
        ended = line.endswith("\n")
        number += ended
    yield from named(f"line{begun}", part, "".join(held))


def json_records(
    path: Path, lines: Lines, fault: Fault, column: str | None, id_column: str | None, limit: Limit
) -> Iterator[Record]:
    """JSON lines: an object a line. The first good one decides which keys are read."""
    objects = json_objects(path, lines, fault, limit)
    first = next(objects, None)
    if first is None:
        return
    present = [key for key in first[1] if key.isprintable()]
    columns = tables.choose(path, present, WANTED, column, id_column)

    def rows() -> Iterator[tables.Row]:
        held: tuple[int, dict[str, Any]] | None = first
        while held is not None:
            number, item = held
            data = item.get(columns.data)
            if kind := unlike_text(data):
                message = f"{path}: row {number}: '{columns.data}' holds {kind}, not text; repair or remove it."
                fault(BadRecord(message, "not text"))
            else:
                name = shown(item.get(columns.name)) if columns.name else None
                tags = {tag: shown(item.get(key)) for tag, key in columns.tags.items()}
                yield tables.Row(number, data, name, tags)
            held = next(objects, None)

    yield from tables.records(path, rows(), columns, WANTED, fault)


def json_objects(path: Path, lines: Lines, fault: Fault, limit: Limit) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and content of each line that holds an object."""
    number = good = 0
    why = ""
    for line in blocks(lines, lines.handle.readline, limit.bytes):
        number += 1
        if not line.endswith("\n") and len(line) >= limit.bytes:
            for rest in blocks(lines, lines.handle.readline, limit.bytes):
                if rest.endswith("\n"):
                    break
            why = "is too large"
            fault(limit.fault(f"{path}: line {number}"))
            continue
        if line.isspace():
            continue
        item, why = parsed(line)
        if not why:
            good += 1
            yield number, item
            continue
        advice = "repair or remove it"
        if good == 0 and line.lstrip()[0] in "[{":
            program = "jq -c '.[]'" if line.lstrip()[0] == "[" else "jq -c ."
            advice = f"if the file is one JSON value over several lines, write its items one a line ({program})"
        fault(BadRecord(f"{path}: line {number} {why}; {advice}.", "broken record"))
    if number == 0 or (good == 0 and not why):
        raise no_text(path)


def parsed(line: str) -> tuple[dict[str, Any], str]:
    """The object of a line, or what is wrong with it."""
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or too long a number"
        return {}, f"is not JSON ({what})"
    return (item, "") if isinstance(item, dict) else ({}, "is not a JSON object ({…})")


def unlike_text(data: Any) -> str:
    """What data are that are no text, nor a list of text, nor nothing; empty if they are."""
    good = data is None or isinstance(data, str)
    good = good or (isinstance(data, list) and all(isinstance(item, str | None) for item in data))
    kinds: dict[type, str] = {dict: "an object", list: "a list of other things"}
    return "" if good else kinds.get(type(data), "a number")


def shown(value: Any) -> str | None:
    """A name or tag on one line, fit for a file."""
    return None if value is None else " ".join(str(value).encode("utf-8", "replace").decode("utf-8").split())
