"""The items of a task: read, encoded, labelled and split, as ``data.loader.Collator`` takes them.

A task's data are tables (parquet, CSV, TSV) with a row an item. Labels and splits (``task_rows``) are joined to what
the modality reads by the number of the row. All rows of the three splits are read, whatever part of them a budget
keeps: classes, leaks and digests are of the full splits.

Shapes: I items of a split, S sequences (S == I unless items are cut into chunks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.data.cache import content_hash
from ssl_suite.data.faults import BadRecord, FaultCounter
from ssl_suite.data.sources import Sources, resolve_entry
from ssl_suite.data.store import Windows
from ssl_suite.errors import SuiteError, nearest
from ssl_suite.evaluation.task_rows import Rows, keep, read_labels, read_rows
from ssl_suite.evaluation.tasks import FILE, PARTS, Task, entry
from ssl_suite.modalities.base import Modality, Record
from ssl_suite.modalities.tables import ROW_NUMBERS

FRAME = 2  # [CLS] and [SEP] around each sequence
SYMBOLS = 0xF0000  # of the planes of Unicode for private use: room for 131,068 tokens of several letters


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
        rows_I: int32, position of each item among the full split's rows, in the order of the file.
        labels_I: int64 class numbers, or float64 values.
        windows: its sequences; ``records_S`` is the item of each.
        full: items of the full split.
        truncated: items that are not read whole.
        skipped: rows of train that could not be read, see ``load``.
    """

    rows_I: np.ndarray
    labels_I: np.ndarray
    windows: Windows
    full: int
    truncated: int = 0
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.rows_I)


@dataclass
class TaskData:
    """A task's items, and what the loader asks of a store.

    Attributes:
        task: the task's name.
        values: (tokens,) ids of the sequences of all parts end to end, or (tokens, F) frames; in the store's types.
        parts: by ``train``, ``dev`` and ``test``.
        classes: of the full train split, sorted as text; the place of a class is its number. () for regression.
        data_sha256: of the file, or of the digests of several.
        split_sha256: of the inputs and labels of the full splits in their order, before they are encoded: equal for
            every tokeniser.
        leakage: ``dev_in_train``, ``test_in_train`` and ``test_in_dev``: how many items of the full split are also in
            the other, by ``Modality.identity`` of all their tokens (DNA: or as reverse complement; music: in any key).
            Of images and speech by the bytes of the file: decoding all of them would cost more than it tells.
        units: (tokens,) of the frames, once they are set; None for tokens.
    """

    task: str
    values: np.ndarray
    parts: dict[str, Part]
    classes: tuple[str, ...]
    data_sha256: str
    split_sha256: str
    leakage: dict[str, int]
    units: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        """(tokens,) token ids, or the units of frames."""
        if self.values.ndim == 1:
            return self.values
        if self.units is None:
            raise SuiteError(f"task {self.task}: its frames have no units.")
        return self.units

    def split(self, name: str) -> Windows:
        """The sequences of ``train``, ``dev`` or ``test``."""
        if name not in self.parts:
            raise SuiteError(f"a task has no split '{name}'.{nearest(name, self.parts)}")
        return self.parts[name].windows

    def record_name(self, item: int, split: str = "train") -> str:
        """How a message names an item: the task, the split, and the row's number in that, from 1."""
        return f"{self.task}:{split} row {int(self.parts[split].rows_I[item]) + 1}"


def load(
    task: Task,
    modality: Modality,
    place: Mapping[str, Any],
    limits: Mapping[str, int | None],
    chunks: int | None = None,
) -> TaskData:
    """Read a task's items.

    Args:
        task: which.
        modality: of the encoder that is measured. Where its tokeniser is trained on the input and is not yet, it is
            trained on the full train split.
        place: ``root`` and ``cache`` as the ``data`` section has them. ``on_error="skip"`` leaves out and counts rows
            of train that cannot be read; a row of dev or test is never left out.
        limits: items kept of each part; None, or no such key, keeps all. Kept are those whose SHA-256 of data, part and
            position is the smallest: the same for every seed, and a larger limit keeps them too.
        chunks: pieces that are read of an item, where ``task.overflow`` is ``chunks``; None is all.

    Raises:
        SuiteError: the data are not here or another; a column is missing; a part is empty; a label is missing, is
            not in train, is not a finite number, or is the same for a whole part; or a row cannot be read.
    """
    if modality.name != task.modality["name"]:
        raise SuiteError(f"task {task.name} is for modality={task.modality['name']}, not {modality.name}.")
    sources = find_sources(task, modality, place)
    digests = [content_hash(path, place.get("cache")) for path in sources.paths]
    data_sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    firsts, rows = read_rows(task, sources.paths)
    for part, limit in limits.items():
        keep(rows, part, limit, data_sha256)
    labels, classes = read_labels(task, rows)
    fit(task, modality, sources, firsts, rows)
    encoded, skipped = encode(task, modality, sources, firsts, rows, place.get("on_error") or "stop")
    window = modality.max_length - FRAME
    values, parts = lay_out(modality, encoded, rows, labels, window, task.overflow, skipped, chunks)
    check_labels(task, parts, classes)
    return TaskData(task.name, values, parts, classes, data_sha256, split_digest(rows), leaks(rows))


def check_labels(task: Task, parts: Mapping[str, Part], classes: tuple[str, ...]) -> None:
    """Refuse a part whose labels are all the same: nothing is learnt from it, and no score on it says anything."""
    for name, part in parts.items():
        if len(np.unique(part.labels_I)) < 2:
            of = f"the {len(part):,} items of {name}" + (" that the budget keeps" if len(part) < part.full else "")
            label = classes[part.labels_I[0]] if classes else part.labels_I[0]
            raise SuiteError(f"task {task.name}: the label of {of} is always {label}: nothing to learn or score.")


def leaks(rows: Rows) -> dict[str, int]:
    """How many items of a full split are also in another."""
    full = {part: [one for row in rows.of(part) if (one := rows.identities[row]) is not None] for part in PARTS}
    pairs = (("dev", "train"), ("test", "train"), ("test", "dev"))
    return {f"{part}_in_{other}": sum(map(set(full[other]).__contains__, full[part])) for part, other in pairs}


def find_sources(task: Task, modality: Modality, place: Mapping[str, Any]) -> Sources:
    """The table or tables of a task.

    Raises:
        SuiteError: a file is not here, is another than the catalogue's, or is no table.
    """
    if task.data.startswith(FILE):
        path = task.path.parent / Path(task.data.removeprefix(FILE)).expanduser()
        if not path.is_file():
            raise SuiteError(
                f"task {task.name}: {path} is not here; data={task.data} is relative to {task.path.parent}."
            )
        return Sources([path], str(path))
    section = {**(entry(task.data) or {}), "root": place.get("root"), "cache": place.get("cache")}
    return resolve_entry(modality, section)


def read(
    task: Task, modality: Modality, sources: Sources, firsts: list[int], fault: Any
) -> Iterator[tuple[int, Record]]:
    """Every record of the tables with the number of its row."""
    for path, first in zip(sources.paths, firsts, strict=True):
        for record in modality.read(path, fault, task.columns["input"], ROW_NUMBERS):
            yield first + int(record.name.removeprefix(ROW_NUMBERS)) - 1, record


def fit(task: Task, modality: Modality, sources: Sources, firsts: list[int], rows: Rows) -> None:
    """Train the tokeniser on the full train split, where it is trained on the input and has not been."""
    train = PARTS.index("train")
    pairs = read(task, modality, sources, firsts, lambda error: None)  # bad rows are met again when they are encoded
    modality.fit(record for row, record in pairs if rows.parts[row] == train)


def encode(
    task: Task, modality: Modality, sources: Sources, firsts: list[int], rows: Rows, on_error: str
) -> tuple[dict[int, np.ndarray], int]:
    """What the kept rows encode to by row, and how many rows of train were skipped; fills in digests and identities."""
    faults, signal = FaultCounter(on_error), modality.frame is not None
    encoded: dict[int, np.ndarray] = {}
    for row, record in read(task, modality, sources, firsts, faults):
        if rows.parts[row] < 0:
            continue
        raw = as_bytes(record.data)
        identity = hashlib.blake2b(raw, digest_size=16).digest() if signal else b""
        if not signal or rows.keep[row]:
            try:
                values = modality.encode(record).values
                if not len(values):
                    raise BadRecord(f"{rows.places[row]} encodes to nothing; remove it.", "too short")
            except BadRecord as error:
                faults(error)
                continue
            identity = identity or modality.identity(values)
            if rows.keep[row]:
                encoded[row] = values
        rows.digests[row], rows.identities[row] = hashlib.sha256(raw).digest(), identity
    missing = [row for part in PARTS for row in rows.of(part) if rows.digests[row] is None]
    scored = [row for row in missing if rows.parts[row] != PARTS.index("train")]
    if scored or not any(row in encoded for row in rows.of("train")):
        what = "dev and test skip no row" if scored else "all rows of train were skipped"
        raise SuiteError(f"task {task.name}: {what}: {''.join(faults.examples[:1])}")
    return encoded, len(missing)


def as_bytes(data: Any) -> bytes:
    """A record's input as bytes."""
    text = "\n".join(data) if isinstance(data, list) else data
    return text.encode("utf-8") if isinstance(text, str) else text


def lay_out(
    modality: Modality,
    encoded: Mapping[int, np.ndarray],
    rows: Rows,
    labels: np.ndarray,
    window: int,
    overflow: str,
    skipped: int,
    chunks: int | None = None,
) -> tuple[np.ndarray, dict[str, Part]]:
    """All sequences end to end, and the parts.

    Args:
        encoded: what the kept rows encode to.
        labels: of all rows.
        window: the most tokens of a sequence.
        overflow: ``truncate``, ``middle`` or ``chunks``; the last chunk may be short.
        chunks: the most of an item.
    """
    values: list[np.ndarray] = []
    parts, begin = {}, 0
    for name in PARTS:
        every = rows.of(name)
        mine = [row for row in every if row in encoded]
        read = [read_of(encoded[row], window, overflow, chunks) for row in mine]
        lengths = np.array([len(tokens) for tokens in read], np.int64)
        cut = sum(len(tokens) < len(encoded[row]) for row, tokens in zip(mine, read, strict=True))
        values += read
        counts = -(-lengths // window)
        items = np.repeat(np.arange(len(mine), dtype=np.int32), counts)
        inside = (np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)) * window
        starts = begin + np.repeat(np.cumsum(lengths) - lengths, counts) + inside
        pieces = np.minimum(window, lengths[items] - inside).astype(np.int32)
        begin += int(lengths.sum())
        parts[name] = Part(
            rows.positions[mine],
            labels[mine],
            Windows(starts.astype(np.int64), pieces, items),
            len(every),
            cut,
            skipped if name == "train" else 0,
        )
    return np.concatenate(values).astype(stored_type(modality), copy=False), parts


def read_of(tokens: np.ndarray, window: int, overflow: str, chunks: int | None) -> np.ndarray:
    """What is read of an item: its first or middle tokens, or chunks that lie evenly over it, end to end."""
    if overflow == "truncate":
        return tokens[:window]
    if overflow == "middle":
        first = max(0, len(tokens) - window) // 2
        return tokens[first : first + window]
    count = -(-len(tokens) // window)
    if chunks is None or count <= chunks:
        return tokens
    kept = [(2 * i + 1) * count // (2 * chunks) for i in range(chunks)]
    return np.concatenate([tokens[at * window : (at + 1) * window] for at in kept])


def stored_type(modality: Modality) -> Any:
    """Of a frame, or the smallest type that holds every id, as in the store."""
    if modality.frame is not None:
        return np.dtype(modality.frame.dtype)
    size = len(modality.vocabulary)
    return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.int32)


def split_digest(rows: Rows) -> str:
    """SHA-256 of the inputs and labels of the full splits."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(f"{part}\n".encode())
        for row in rows.of(part):
            digest.update(rows.digests[row] or b"skipped")
            digest.update(f"{rows.labels[row]}\n".encode())
    return digest.hexdigest()


def symbols(data: TaskData, modality: Modality, split: str) -> list[str]:
    """The items of a split as text, a letter a token, so that n-grams of letters are n-grams of tokens.

    It is what an encoder reads of the item: tokens beyond a truncated window are not in it. Tokens of one letter
    (bases, residues) are themselves; others get letters for private use.

    Raises:
        SuiteError: the modality's values are frames.
    """
    if modality.frame is not None:
        raise SuiteError(f"modality={modality.name} has frames, not tokens: n-grams cannot be counted.")
    low, _ = modality.vocabulary.targets
    plain = all(len(token) == 1 for token in modality.vocabulary.tokens[low:])
    letters = [token if plain and i >= low else chr(SYMBOLS + i) for i, token in enumerate(modality.vocabulary.tokens)]
    windows = data.split(split)
    lengths = np.bincount(windows.records_S, windows.lengths_S, len(data.parts[split])).astype(np.int64)
    first = int(windows.starts_S[0]) if len(windows) else 0
    ends = first + np.cumsum(lengths)
    return [
        "".join(map(letters.__getitem__, data.values[end - length : end].tolist()))
        for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
    ]
