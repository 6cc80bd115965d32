"""The items of a task: read, encoded, labelled and split, as ``data.loader.Collator`` takes them.

A task's data are tables (parquet, CSV, TSV) with a row an item. Labels and splits (``tables``) are joined to what the
modality reads by the number of the row. All rows of the splits are read, whatever part of them a budget keeps: classes,
leaks and digests are of the full splits.

Shapes: I items of a split, S sequences (S == I unless an item is several sequences).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.core.wording import count
from ssl_suite.data import near_copies
from ssl_suite.data.cache import content_hash
from ssl_suite.data.loader import FRAME
from ssl_suite.data.sources import Sources, resolve_entry
from ssl_suite.data.store import Windows
from ssl_suite.evaluation import items, task_inputs
from ssl_suite.evaluation.heads import head_class
from ssl_suite.evaluation.heads.base import Head, Labels
from ssl_suite.evaluation.tables import Rows, keep, read_columns, read_rows
from ssl_suite.evaluation.tasks import COLUMN, FILE, NEAR_COPIES, PARTS, Task, entry
from ssl_suite.modalities.base import Modality

SYMBOLS = 0xF0000  # of the planes of Unicode for private use: room for 131,068 tokens of several letters


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        rows_I: int32, position of each item among the full split's rows, in the order of the file.
        labels_I: class numbers (int64), values (float64), or objects, as the head reads them.
        windows: its sequences; ``records_S`` is the item of each.
        full: items of the full split.
        truncated: items that are not read whole.
        skipped: rows of train that could not be read, see ``load``.
        contexts: of each item what its layout keeps for decoding.
        more: of each item what its head's labels say beside ``labels_I``; () where that is nothing.
        clusters_I: (I,) int64 numbers of the task's ``cluster`` column, (I, 2) of two; None where items are
            independent.
    """

    rows_I: np.ndarray
    labels_I: np.ndarray
    windows: Windows
    full: int
    truncated: int = 0
    skipped: int = 0
    contexts: tuple[Any, ...] = ()
    more: tuple[Any, ...] = ()
    clusters_I: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows_I)


@dataclass
class TaskData:
    """A task's items, and what the loader asks of a store.

    Attributes:
        task: the task's name.
        values: (tokens,) ids of the sequences of all parts end to end, or (tokens, F) frames; in the store's types.
        parts: by ``train``, ``dev``, ``test`` and further parts.
        classes: of the full train split, sorted as text; the place of a class is its number. () where there are none.
        data_sha256: of the file, or of the digests of several.
        split_sha256: of the inputs and labels of the full splits in their order, before they are encoded: equal for
            every tokeniser.
        leakage: ``dev_in_train``, ``test_in_train`` and ``test_in_dev``: how many items of the full split are also in
            the other, by ``Modality.identity`` of all their tokens (DNA: or as reverse complement; music: in any key).
            Of images and speech by the bytes of the file: decoding all of them would cost more than it tells.
        units: (tokens,) of the frames, once they are set; None for tokens.
        segments: (tokens,) uint8, 0 or 1, of pairs; None elsewhere.
        marks: (tokens, 2) int32, see ``items``; None where the layout makes none.
    """

    task: str
    values: np.ndarray
    parts: dict[str, Split]
    classes: tuple[str, ...]
    data_sha256: str
    split_sha256: str
    leakage: dict[str, int]
    units: np.ndarray | None = None
    segments: np.ndarray | None = None
    marks: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        """(tokens,) token ids, or the units of frames."""
        if self.values.ndim == 1:
            return self.values
        if self.units is None:
            raise SuiteError(f"task {self.task}: its frames have no units.")
        return self.units

    @property
    def tested(self) -> list[str]:
        """``test`` and further parts."""
        return [part for part in self.parts if part not in ("train", "dev")]

    def split(self, name: str) -> Windows:
        """The sequences of a part."""
        if name not in self.parts:
            raise SuiteError(f"a task has no split '{name}'.{nearest(name, self.parts)}")
        return self.parts[name].windows

    def sizes(self, split: str) -> np.ndarray:
        """(S,) int64: positions of a part's sequences with the [CLS] and [SEP] around them."""
        return self.split(split).lengths_S.astype(np.int64) + FRAME

    def shortened(self, longest: int) -> TaskData:
        """The same data, each sequence cut to its first ``longest`` positions."""
        cut = {
            name: replace(part, windows=replace(part.windows, lengths_S=np.minimum(part.windows.lengths_S, longest)))
            for name, part in self.parts.items()
        }
        return replace(self, parts=cut)

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
            of train that cannot be read; a row of dev or test is never left out. ``blind=True`` adds the parts
            of ``task.blind``.
        limits: items kept of each part; None, or no such key, keeps all. Kept are those whose SHA-256 of data, part and
            position is the smallest: the same for every seed, and a larger limit keeps them too.
        chunks: pieces that are read of an item, where ``task.overflow`` is ``chunks``; None is all.

    Raises SuiteError: the data are not here or another; a column is missing; a part is empty; a label is wrong, or the
    same for a whole part; or a row cannot be read.
    """
    # Find the tables, and what they say of each row.
    if modality.name != task.modality["name"]:
        raise SuiteError(f"task {task.name} is for modality={task.modality['name']}, not {modality.name}.")
    sources = find_sources(task, modality, place, task.data)
    others = None if task.lookup is None else find_sources(task, modality, place, task.lookup["data"])
    tables = [*sources.paths, *(others.paths if others else ())]
    digests = [content_hash(path, place.get("cache")) for path in tables]
    data_sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    blind = blind_parts(task, modality, place) if place.get("blind") and task.blind else None
    if blind is not None:
        task, path = blind
        sources = replace(sources, paths=[*sources.paths, path])
    firsts, rows = read_rows(task, sources.paths)
    rows.blind = tuple(name for name in rows.names if name in task.blind)
    for name, limit in limits.items():
        keep(rows, name, limit, data_sha256, task.parallel)
    head = head_class(task.head["name"])
    labels = head.read_labels(task, rows)

    # Read and encode the inputs of each kept row.
    layout = head.layout[len(task.inputs) - 1]()
    train = rows.names.index("train")
    if others is None:
        reader = task_inputs.cells(modality, sources, firsts)
    else:
        reader = task_inputs.references(task, modality, others, rows)
    first_input = reader(task.inputs[0], lambda error: None)
    modality.fit(record for row, record in first_input if rows.parts[row] == train)  # bad rows are met again below
    inputs, skipped = task_inputs.encode(task, modality, layout, reader, rows, place.get("on_error") or "stop")
    fit_labels(task, head, labels, inputs, rows)

    # Lay them out as sequences, part by part.
    window = items.Window(modality.max_length - FRAME, task.overflow, chunks, modality.vocabulary.sep)
    data = lay_out(task, modality, layout, inputs, rows, labels, window, skipped)
    data.classes, data.data_sha256, data.split_sha256 = labels.classes, data_sha256, split_digest(task, rows)
    data.leakage = leaks(rows)
    for name in rows.scored:
        made = data.parts[name]
        if label := labels.constant(made.labels_I):
            of = f"the {count(len(made), 'item')} of {name}" + " that the budget keeps" * (len(made) < made.full)
            raise SuiteError(f"task {task.name}: the label of {of} is always {label}: nothing to learn or score.")
    return data


def fit_labels(task: Task, head: type[Head], labels: Labels, inputs: Mapping[int, tuple[Any, ...]], rows: Rows) -> None:
    """Hold each label against its item's inputs. Raises SuiteError: of rows whose label does not fit the first is
    named, and all are counted."""
    faults = []
    for row, found in inputs.items():
        try:
            labels.values_R[row] = head.fit_label(labels.values_R[row], found, f"task {task.name}: {rows.places[row]}")
        except SuiteError as error:
            faults.append(str(error))
    if faults:
        more = f" ({count(len(faults), 'row')} of {len(inputs):,} with such a fault)" if len(faults) > 1 else ""
        raise SuiteError(f"{faults[0]}{more}")


def leaks(rows: Rows) -> dict[str, int]:
    """How many items of a full split are also in another."""
    full = {part: [rows.identities[row] for row in rows.of(part)] for part in rows.scored}
    each = {part: {one for found in full[part] for one in found} for part in rows.scored}
    pairs = [("dev", "train"), ("test", "train"), ("test", "dev")]
    pairs += [(part, "train") for part in rows.scored if part not in PARTS]
    return {
        f"{part}_in_{other}": sum(not each[other].isdisjoint(found) for found in full[part]) for part, other in pairs
    }


def find_sources(task: Task, modality: Modality, place: Mapping[str, Any], data: str) -> Sources:
    """The table or tables of a task; ``data`` is its own, or that of its ``lookup``. Raises SuiteError: a file is not
    here, is another than the catalogue's, or is no table."""
    if data.startswith(FILE):
        path = task.path.parent / Path(data.removeprefix(FILE)).expanduser()
        files = sorted({str(value).removeprefix(FILE) for value in task.splits.values() if str(value).startswith(FILE)})
        paths = [path / name for name in files] if path.is_dir() else [path]
        for one in paths or [path]:
            if not one.is_file():
                raise SuiteError(f"task {task.name}: {one} is not here; data={data} is relative to {task.path.parent}.")
        return Sources(paths, str(path))
    return resolve_entry(modality, (entry(data) or {}) | {key: place.get(key) for key in ("root", "cache")})


def blind_parts(task: Task, modality: Modality, place: Mapping[str, Any]) -> tuple[Task, Path]:
    """The task with the parts that have no labels, as far as they are here, and the table that holds them. Raises
    SuiteError: the entry of its data says of none how they are read, or they are not here."""
    section = entry(task.data) or {}
    source = section.get("source", {})
    if source.get("blind") is None:
        raise SuiteError(f"task {task.name}: data={task.data} has no items without labels; leave out submission=true.")
    section |= {"source": {**source, "recipe": source["blind"]}, **{key: place.get(key) for key in ("root", "cache")}}
    (path,) = resolve_entry(modality, section).paths
    column = str(task.splits[COLUMN])
    there = set(read_columns(path, task, [column])[column])
    return replace(task, splits=task.splits | {name: v for name, v in task.blind.items() if v in there}), path


def lay_out(
    task: Task,
    modality: Modality,
    layout: items.Single,
    inputs: Mapping[int, tuple[Any, ...]],
    rows: Rows,
    labels: Labels,
    window: items.Window,
    skipped: int,
) -> TaskData:
    """All sequences end to end, and the parts; digests and classes are left empty."""
    made: list[items.Sequence] = []
    begins: dict[tuple[int, int], int] = {}  # of each array: what stands in several items is laid out once
    parts, end = {}, 0
    for name in rows.names:
        every = rows.of(name)
        mine = [row for row in every if row in inputs]
        laid = [layout.sequences(inputs[row], window) for row in mine]
        some = [sequence for sequences, _ in laid for sequence in sequences]
        lengths_S = np.array([len(sequence.values) for sequence in some], np.int32)
        items_S = np.repeat(np.arange(len(mine), dtype=np.int32), [len(sequences) for sequences, _ in laid])
        starts_S = np.zeros(len(some), np.int64)
        for s, sequence in enumerate(some):
            key = (sequence.values.ctypes.data, len(sequence.values))
            if key not in begins:
                begins[key] = end
                made.append(sequence)
                end += len(sequence.values)
            starts_S[s] = begins[key]
        parts[name] = Split(
            rows.positions[mine],
            labels.values_R[mine],
            Windows(starts_S, lengths_S, items_S),
            len(every),
            sum(cut for _, cut in laid),
            skipped if name == "train" else 0,
            tuple(layout.context(inputs[row]) for row in mine),
            () if labels.more_R is None else tuple(labels.more_R[mine]),
            clusters(task, modality, name, rows, [inputs[row] for row in mine], mine),
        )
    size = len(modality.vocabulary)
    kind = np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.int32  # as in the store
    values = np.concatenate([sequence.values for sequence in made])
    values = values.astype(kind if modality.frame is None else modality.frame.dtype, copy=False)
    segments, marks = (
        None if made[0][k] is None else np.concatenate([sequence[k] for sequence in made]) for k in (1, 2)
    )
    return TaskData(task.name, values, parts, (), "", "", {}, None, segments, marks)


def clusters(
    task: Task, modality: Modality, part: str, rows: Rows, inputs: list[tuple[Any, ...]], mine: list[int]
) -> np.ndarray | None:
    """(I,) int64 numbers of the values of the task's ``cluster`` column, or of families of near copies; (I, 2) of two
    columns, which share their numbers.

    Families are found of the parts that scores have intervals on.

    Raises SuiteError: the modality knows no near copies.
    """
    if task.cluster is None or (task.cluster == NEAR_COPIES and part in ("train", "dev")):
        return None
    if task.cluster != NEAR_COPIES:
        names = [[str(rows.columns[column][row]) for column in task.clusters] for row in mine]
        found = np.unique(names, return_inverse=True)[1].reshape(len(mine), len(task.clusters))
        return found[:, 0] if len(task.clusters) == 1 else found
    if not modality.near_duplicate_kind:
        raise SuiteError(f"task {task.name}: cluster={NEAR_COPIES} is not for modality={modality.name}; name a column.")
    sets = [modality.near_duplicate_features(task_inputs.flat(found[0])) for found in inputs]
    return near_copies.families(sets, modality.near_duplicate_similarity)


def split_digest(task: Task, rows: Rows) -> str:
    """SHA-256 of the inputs and labels of the full splits."""
    digest = hashlib.sha256()
    for part in rows.scored:
        digest.update(f"{part}\n".encode())
        for row in rows.of(part):
            digest.update(rows.digests[row] or b"skipped")
            digest.update("\t".join(str(rows.columns[name][row]) for name in task.label).encode() + b"\n")
    return digest.hexdigest()


def symbols(data: TaskData, modality: Modality, split: str) -> list[str]:
    """The items of a split as text, a letter a token, so that n-grams of letters are n-grams of tokens.

    It is what an encoder reads of the item: tokens beyond a truncated window are not in it. Tokens of one letter
    (bases, residues) are themselves; others get letters for private use.

    Raises SuiteError: the modality's values are frames.
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
