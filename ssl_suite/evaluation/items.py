"""From a task's inputs to the sequences an encoder reads: one input, a pair, a list of words, a question and a text.

A layout reads the inputs of an item one by one (``read``) and lays them out as sequences without their outer [CLS] and
[SEP] (``sequences``). Heads choose one by what they predict; a new layout is a class here.
"""

from __future__ import annotations

from collections.abc import Sequence as Values
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ssl_suite.core.faults import BadRecord
from ssl_suite.core.records import Record
from ssl_suite.modalities.base import Modality

STRIDE = 128  # positions from the beginning of one piece of a long text to that of the next, as in BERT's SQuAD code


class Sequence(NamedTuple):
    """What stands between [CLS] and [SEP].

    Attributes:
        values: (length,) ids or (length, F) frames.
        segments: (length,) uint8, 0 or 1 of a pair; None elsewhere.
        marks: (length, 2) int32, what each position is in the item, -1 where nothing; see the layout. None elsewhere.
    """

    values: np.ndarray
    segments: np.ndarray | None = None
    marks: np.ndarray | None = None


@dataclass(frozen=True)
class Window:
    """How much of an item is read.

    Attributes:
        size: most positions of a sequence, [CLS] and [SEP] not counted.
        overflow: of the task.
        chunks: the most pieces of an item, evenly over it; None is all.
        sep: the id between the two of a pair.
    """

    size: int
    overflow: str = "truncate"
    chunks: int | None = None
    sep: int = 3


class Single:
    """One input, cut by the task's ``overflow``.

    Attributes:
        apart: inputs are sequences of their own, and rows of train may have the first one alone.
    """

    apart: ClassVar[bool] = False

    def read(self, modality: Modality, record: Record, k: int) -> Any:
        """The values of the k-th input. Raises ``BadRecord`` as ``Modality.encode``, and where nothing is left."""
        return encoded(modality, record)

    def context(self, inputs: Values[Any]) -> Any:
        """What decoding needs of the item beside the outputs; None where that is nothing."""
        return None

    def sequences(self, inputs: Values[Any], window: Window) -> tuple[list[Sequence], bool]:
        """The sequences of an item, and whether some of it is not read."""
        (values,) = inputs
        kept = cut(values, window)
        pieces = [kept[i : i + window.size] for i in range(0, len(kept), window.size)]
        return [Sequence(piece) for piece in pieces], len(kept) < len(values)


class Joined(Single):
    """Two inputs in one sequence, [SEP] between them; the longer one loses tokens first, as in BERT's code."""

    def sequences(self, inputs: Values[Any], window: Window) -> tuple[list[Sequence], bool]:
        """One sequence: its first input and the [SEP] behind it are segment 0, the second input is segment 1."""
        a, b = inputs
        room = window.size - 1
        keep_a = min(len(a), max(room - len(b), (room + 1) // 2))
        keep_b = min(len(b), room - keep_a)
        values = np.concatenate([a[:keep_a], [window.sep], b[:keep_b]]).astype(np.int32)
        segments = np.repeat(np.array([0, 1], np.uint8), [keep_a + 1, keep_b])
        return [Sequence(values, segments)], keep_a + keep_b < len(a) + len(b)


class Words(Single):
    """A list of words; ``marks[:, 0]`` is a word's number at its first sub-word. A long list is several sequences."""

    def read(self, modality: Modality, record: Record, k: int) -> list[np.ndarray]:
        """The ids of each word. What is no list of words is cut as ``Modality.split_words`` does."""
        words = record.data if isinstance(record.data, list) else modality.split_words(str(record.data))
        if not words:
            raise BadRecord(f"{record.source}: record '{record.name}' has no words; remove it.", "no words")
        return modality.words(words)

    def sequences(self, inputs: Values[Any], window: Window) -> tuple[list[Sequence], bool]:
        """Pieces that end between two words, so that every word is read."""
        (words,) = inputs
        pieces: list[list[int]] = [[]]
        size = 0
        for i, ids in enumerate(words):
            length = min(len(ids), window.size)
            if size + length > window.size:
                pieces.append([])
                size = 0
            pieces[-1].append(i)
            size += length
        found = []
        for piece in pieces:
            ids = [words[i][: window.size] for i in piece]
            marks = np.full((sum(map(len, ids)), 2), -1, np.int32)
            marks[np.cumsum([0, *map(len, ids[:-1])]), 0] = piece
            found.append(Sequence(np.concatenate(ids), None, marks))
        return found, any(len(ids) > window.size for ids in words)


class Reading(Single):
    """A question and the text to read, which is cut into overlapping pieces; ``marks`` are a token's letters in it.

    ``marks[:, 0]`` and ``marks[:, 1]`` are where a token of the text begins and ends; -1 in the question.
    """

    def read(self, modality: Modality, record: Record, k: int) -> Any:
        """Of the question its ids; of the text its ids, their places and itself (as the tokeniser sees it)."""
        return encoded(modality, record) if k == 0 else modality.located(record)

    def context(self, inputs: Values[Any]) -> str:
        """The text that answers are cut from."""
        return inputs[1][2]

    def sequences(self, inputs: Values[Any], window: Window) -> tuple[list[Sequence], bool]:
        """[question, SEP, piece of the text], a piece every ``STRIDE`` tokens; the question at most half a window."""
        question, (ids, places, _) = inputs
        asked = question[: window.size // 2]
        room = window.size - len(asked) - 1
        step = min(STRIDE, max(1, room))
        found = []
        for start in range(0, max(1, len(ids) - room + step), step):
            piece = slice(start, start + room)
            values = np.concatenate([asked, [window.sep], ids[piece]]).astype(np.int32)
            marks = np.full((len(values), 2), -1, np.int32)
            marks[len(asked) + 1 :] = places[piece]
            segments = np.repeat(np.array([0, 1], np.uint8), [len(asked) + 1, len(values) - len(asked) - 1])
            found.append(Sequence(values, segments, marks))
        return found, len(asked) < len(question)


class Apart(Single):
    """Two inputs, each a sequence of its own, in this order; where a row has one input alone, that."""

    apart = True

    def sequences(self, inputs: Values[Any], window: Window) -> tuple[list[Sequence], bool]:
        """A sequence for each input that is there, cut by the task's ``overflow``."""
        kept = [cut(values, window)[: window.size] for values in inputs]
        return [Sequence(values) for values in kept], sum(map(len, kept)) < sum(map(len, inputs))


class Choices(Single):
    """A list of texts to choose from, each a sequence; ``marks[:, 0]`` is 1 at the tokens that are judged: all."""

    def read(self, modality: Modality, record: Record, k: int) -> Any:
        """The ids of all, of each its ids and which are judged, and the texts."""
        return continued(modality, record, "")

    def sequences(self, inputs: Values[Any], window: Window) -> tuple[list[Sequence], bool]:
        """A sequence a choice, which loses its first tokens where it is too long."""
        choices, found = inputs[-1][1], []
        for ids, judged in choices:
            marks = np.stack([judged, judged], 1).astype(np.int32)
            found.append(Sequence(ids[-window.size :], None, marks[-window.size :]))
        return found, any(len(ids) > window.size for ids, _ in choices)


class Prompted(Choices):
    """A prompt and a list of texts that may follow it; each is read together with the prompt, and judged alone."""

    def __init__(self) -> None:
        self.prompts: dict[tuple[str, str], str] = {}

    def read(self, modality: Modality, record: Record, k: int) -> Any:
        """Of the prompt its ids; of the choices as ``Choices``, each tokenised with the prompt before it."""
        place = (record.source, record.name)
        if k == 0:
            ids, _, self.prompts[place] = modality.located(record)
            return ids
        return continued(modality, record, self.prompts[place])


def continued(modality: Modality, record: Record, prompt: str) -> Any:
    """``Choices.read`` behind a prompt, a space between the two unless the choice begins with one."""
    texts = record.data
    if not isinstance(texts, list) or len(texts) < 2:
        fault = "has one choice" if isinstance(texts, list) else "is a text, not a list of choices"
        raise BadRecord(f"{record.source}: record '{record.name}' {fault}; give a list of at least two.", "no choice")
    found = []
    for text in texts:
        gap = " " if prompt and not text[:1].isspace() else ""
        ids, places, _ = modality.located(replace(record, data=prompt + gap + text))
        found.append((ids, places[:, 1] > len(prompt)))
    return np.concatenate([ids for ids, _ in found]), found, texts


def encoded(modality: Modality, record: Record) -> np.ndarray:
    """The record's values. Raises BadRecord: as ``Modality.encode``, and where it encodes to nothing."""
    values = modality.encode(record).values
    if not len(values):
        raise BadRecord(f"{record.source}: record '{record.name}' encodes to nothing; remove it.", "too short")
    return values


def cut(values: np.ndarray, window: Window) -> np.ndarray:
    """What is read of an item: its first or middle positions, or chunks that lie evenly over it, end to end."""
    size = window.size
    if window.overflow == "truncate":
        return values[:size]
    if window.overflow == "middle":
        first = max(0, len(values) - size) // 2
        return values[first : first + size]
    count = -(-len(values) // size)
    if window.chunks is None or count <= window.chunks:
        return values
    kept = [(2 * i + 1) * count // (2 * window.chunks) for i in range(window.chunks)]
    return np.concatenate([values[at * size : (at + 1) * size] for at in kept])
