"""Tokenising files into shards: the unit of parallel work, and of what survives a kill.

A shard is ``TASK-NUMBER.values`` (ids or frames) and ``TASK-NUMBER.npz`` (an entry a record, and counts). The second is
renamed into place when the first is complete and synced, so a shard that has it is finished and is never redone.
Memory holds one shard's index and one record.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.core.faults import BadRecord, FaultCounter
from ssl_suite.core.records import Encoded, Record
from ssl_suite.data.sides import Sides
from ssl_suite.data.split import given_split
from ssl_suite.modalities.base import Modality

SHARD_BYTES = 1 << 26  # two or three seconds of work are lost in a kill
SHARD_RECORDS = 1 << 18  # some 30 MB of index
SMALL, GROUP, MOST = 4 << 20, (1 << 20, 32 << 20), 4096  # a synced shard a file costs 5 ms for each of 10,000 files
SMALL_VOCABULARY = 64  # up to here the composition is counted
SHORT = "short records"  # where those are counted that have fewer tokens than data.min_tokens
HELD = 1 << 26  # letters or bytes of a small file's records: 4 MB of gzip may hold a thousand times as much
REPEATED = "repeated names"
PIECE = 1 << 20  # tokens counted at a time
BLOBS = {"names": "name_ends", "tags": "tag_ends", "bounds": "bound_ends"}  # each with its records' ends
COLUMNS = {  # of a shard's index, and files of the store
    "lengths": np.int64,
    "digests": np.uint64,  # two a record
    "given": np.uint8,
    "files": np.int32,
    "names": np.uint8,
    "tags": np.uint8,
    "bounds": np.int64,
    **dict.fromkeys(BLOBS.values(), np.int64),
}


@dataclass(frozen=True)
class Task:
    """Files to tokenise, with all a worker process needs: a large one alone, or many small ones.

    Attributes:
        modality: with its tokeniser trained.
        folder: where the shards go.
        on_error: ``stop`` or ``skip``.
        min_tokens: tokens that a record must have.
        reading: further keywords of ``modality.read``.
        number: of the task.
        files: (place among the inputs, path) of each.
        tags: by file, tags of all its records; they win over a record's own.
        alone: whether the first file is all of the input: to skip it would leave nothing.
    """

    modality: Modality
    folder: Path
    on_error: str
    min_tokens: int
    reading: dict[str, Any]
    number: int = 0
    files: tuple[tuple[int, Path], ...] = ()
    tags: dict[int, dict[str, str]] = field(default_factory=dict)
    alone: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Of a frame, or the smallest type that holds every id."""
        if self.modality.frame is not None:
            return np.dtype(self.modality.frame.dtype)
        size = len(self.modality.vocabulary)
        return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.int32)

    @property
    def width(self) -> int:
        """Numbers a position."""
        return self.modality.frame.width if self.modality.frame is not None else 1


def tasks_of(template: Task, paths: list[Path], tags: dict[Path, dict[str, str]]) -> list[Task]:
    """Distribute the input files over tasks, see ``group_files``; ``tags`` by path."""
    return [
        replace(
            template,
            number=i,
            files=tuple((n, paths[n]) for n in group),
            tags={n: tags[paths[n]] for n in group if paths[n] in tags},
            alone=len(paths) == 1,
        )
        for i, group in enumerate(group_files(file_sizes(paths)))
    ]


def file_sizes(paths: list[Path]) -> list[int]:
    """Bytes of each file; 0 for one that is not there, of which the reader says what is wrong."""
    return [path.stat().st_size if path.exists() else 0 for path in paths]


def group_files(sizes: list[int]) -> list[list[int]]:
    """The files of each task: ``SMALL`` ones share one, up to ``MOST`` files or a sixteenth of all bytes, so that
    processes have something to share. It depends on the files alone: finished shards stay valid."""
    largest = min(GROUP[1], max(GROUP[0], sum(sizes) // 16))
    groups: list[list[int]] = []
    room = files = 0
    for number, size in enumerate(sizes):
        if size > SMALL or size > room or not files:
            groups.append([])
            room, files = (0, 0) if size > SMALL else (largest, MOST)
        groups[-1].append(number)
        room, files = room - size, files - 1
    return groups


class Shard:
    """A shard that is being written.

    Attributes:
        columns: by name, the entries of its records so far, as ``COLUMNS`` says.
    """

    def __init__(self, task: Task, number: int) -> None:
        self.task = task
        self.base = task.folder / f"{task.number:06d}-{number:06d}"
        self.beside = Path(f"{self.base}.values.{os.getpid()}")
        self.file = open(self.beside, "wb")  # noqa: SIM115
        self.columns = {name: array(np.dtype(dtype).char) for name, dtype in COLUMNS.items()}
        self.tokens = 0
        self.counts: Counter[str] = Counter()
        self.dtype, self.identity = task.dtype, task.modality.identity

    def add(self, number: int, record: Record, encoded: Encoded, given: int) -> None:
        """Append a record of the ``number``-th input file."""
        values, columns = encoded.values, self.columns
        self.file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.tokens += len(values)
        columns["files"].append(number)
        columns["lengths"].append(len(values))
        columns["given"].append(given)
        columns["digests"].frombytes(self.identity(values)[:16].ljust(16, b"\0"))
        name = record.name
        if record.occurrence > 1:
            name = f"{name}#{record.occurrence}"
            self.counts[REPEATED] += 1
        columns["names"].frombytes(name.encode("utf-8", "replace"))
        if record.tags:
            columns["tags"].frombytes(json.dumps(record.tags, ensure_ascii=False).encode("utf-8", "replace"))
        if encoded.bounds is not None:
            columns["bounds"].frombytes(encoded.bounds.astype(np.int64).tobytes())
        for blob, ends in BLOBS.items():
            columns[ends].append(len(columns[blob]))

    def composition(self) -> np.ndarray:
        """(vocabulary,) how often each token was written; zeros for large vocabularies."""
        counts = np.zeros(len(self.task.modality.vocabulary), dtype=np.int64)
        if self.tokens and len(counts) <= SMALL_VOCABULARY and self.task.modality.frame is None:
            values = np.memmap(f"{self.base}.values", dtype=self.dtype, mode="r")
            for start in range(0, self.tokens, PIECE):  # here and not record by record: a third of the time of reads
                counts += np.bincount(values[start : start + PIECE], minlength=len(counts))
        return counts

    def full(self) -> bool:
        """Whether the next record belongs into another shard."""
        size = self.tokens * self.task.width * self.dtype.itemsize
        return size >= SHARD_BYTES or len(self.columns["lengths"]) >= SHARD_RECORDS

    def finish(self, consumed: int, faults: FaultCounter, last: bool) -> None:
        """Make it permanent. ``consumed``: records the reader has yielded so far; ``last``: the file is done."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.beside, f"{self.base}.values")
        notes = {
            "tokens": self.tokens,
            "records": len(self.columns["lengths"]),
            "consumed": consumed,
            "last": last,
            "counts": self.counts,
            "skipped": faults.counts,
            "examples": faults.examples,
        }
        index = {name: np.frombuffer(self.columns[name], dtype) for name, dtype in COLUMNS.items()}
        index["composition"] = self.composition()
        index["notes"] = np.frombuffer(json.dumps(notes).encode("utf-8"), np.uint8)
        with atomic.replacing(Path(f"{self.base}.npz")) as beside, open(beside, "wb") as file:
            np.savez(file, **index)  # type: ignore[arg-type]

    def discard(self) -> None:
        """Drop what has been written."""
        self.file.close()
        self.beside.unlink(missing_ok=True)


@dataclass(frozen=True)
class Finished:
    """A finished shard: where its tokens are, its index, and its notes."""

    values: Path
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any]


def finished_shards(task: Task) -> Iterator[Finished]:
    """The finished shards of a task, in order, up to the first that is missing or incomplete."""
    for number in range(10**6):
        base = task.folder / f"{task.number:06d}-{number:06d}"
        values = Path(f"{base}.values")
        try:
            with np.load(f"{base}.npz") as file:
                arrays = {name: file[name] for name in file.files}
            notes = json.loads(arrays.pop("notes").tobytes())
            if values.stat().st_size != notes["tokens"] * task.width * task.dtype.itemsize:
                return
        except (OSError, ValueError, KeyError, EOFError):
            return
        yield Finished(values, arrays, notes)
        if notes["last"]:
            return


def tokenise(task: Task, progress: Callable[[int], None] = lambda tokens: None) -> int:
    """Make the shards of a task that are not there yet.

    Args:
        task: the files.
        progress: called with the tokens of each shard made.

    Returns:
        How many shards of an earlier attempt were reused.

    Raises:
        SuiteError: a fault of the file or, under ``on_error=stop``, of a record.
    """
    number = consumed = 0
    for done in finished_shards(task):
        number, consumed = number + 1, done.notes["consumed"]
        if done.notes["last"]:
            return number
    reused = number
    shard = Shard(task, number)
    faults = FaultCounter(task.on_error)
    try:
        faults.paused = consumed > 0  # what comes before the first new record was counted by the earlier shards
        for place, (file, record, side) in enumerate(records(task, faults), start=1):
            if place <= consumed:
                faults.paused = place < consumed
                continue
            encode_into(shard, file, record, side, faults)
            if shard.full():
                shard.finish(place, faults, last=False)
                progress(shard.tokens)
                number, consumed = number + 1, place
                shard, faults.counts, faults.examples = Shard(task, number), Counter(), []
    except BadRecord as error:  # of a file that has a task of its own
        shard.discard()
        if task.on_error != "skip":
            raise error if task.alone else error.advised() from None
        shard, faults, consumed = without_file(task), FaultCounter("skip"), 0
        faults(BadRecord(str(error), f"file: {error.reason}"))
    except BaseException:
        shard.discard()
        raise
    shard.finish(consumed, faults, last=True)
    progress(shard.tokens)
    return reused


def records(task: Task, faults: FaultCounter) -> Iterator[tuple[int, Record, int | None]]:
    """(file, record, side) of all files, with the tags that hold for a whole file; the side where it is settled."""
    sides, places = Sides.load(task.folder), Counter[int]()
    for number, record in read_files(task, faults):
        record = with_tags(record, task.tags.get(number))
        if sides is None:
            yield number, record, None
            continue
        place, places[number] = places[number], places[number] + 1
        yield from ((number, part, side) for part, side in sides.parts(task.modality, number, place, record))


def with_tags(record: Record, more: dict[str, str] | None) -> Record:
    """A record with the tags of its file."""
    return replace(record, tags={**record.tags, **more}) if more else record


def read_files(task: Task, faults: FaultCounter) -> Iterator[tuple[int, Record]]:
    """(file, record) of all files. Of small ones that share a task, a damaged file gives none of its records."""
    for number, path in task.files:
        if len(task.files) == 1:
            yield from ((number, record) for record in task.modality.read(path, faults, **task.reading))
            return
        counts, examples = faults.counts.copy(), list(faults.examples)
        try:
            whole = read_whole(task, path, faults)
        except BadRecord as error:
            faults.counts, faults.examples = counts, examples
            faults(BadRecord(str(error), f"file: {error.reason}"))
            continue
        yield from ((number, record) for record in whole)


def read_whole(task: Task, path: Path, faults: FaultCounter) -> Iterable[Record]:
    """The records of a small file, once all of it has been read; one that unpacks to more than ``HELD`` is read again,
    its faults being counted by now."""
    held, size = [], 0
    for record in task.modality.read(path, faults, **task.reading):
        size += len(record.data) if not isinstance(record.data, list) else sum(map(len, record.data))
        if size <= HELD:
            held.append(record)
    return held if size <= HELD else task.modality.read(path, FaultCounter("skip"), **task.reading)


def without_file(task: Task) -> Shard:
    """An empty shard instead of those of a damaged file: where such a file ends is no record's end."""
    for old in task.folder.glob(f"{task.number:06d}-*"):
        old.unlink()
    return Shard(task, 0)


def encode_into(shard: Shard, file: int, record: Record, side: int | None, faults: FaultCounter) -> None:
    """Encode one record into the shard, or count why not."""
    try:
        given = given_split(record)
        given = given if side is None else side
        encoded = shard.task.modality.encode(record)
    except BadRecord as error:
        if shard.task.alone and shard.task.on_error != "skip" and record.name == Path(record.source).stem:
            raise  # the file's only record
        faults(error)
        return
    shard.counts.update(record.counts)
    if len(encoded.values) < shard.task.min_tokens:
        # Not a fault of the input: assemblies and read sets hold such scraps, and no window can be made of them.
        shard.counts[SHORT] += 1
        return
    shard.counts.update(encoded.counts)
    shard.add(file, record, encoded, given)
