"""A tag for each word, read at its first sub-word (Devlin et al. 2019, arXiv:1810.04805, section 5.3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import items
from ssl_suite.evaluation.heads.base import IGNORED, Granularity, Head, Labels, places_in_values
from ssl_suite.evaluation.predictions import objects
from ssl_suite.objectives.base import Metrics

NOT_ANNOTATED = "_"  # CoNLL-U's: a word with this tag is read, but neither trained on nor scored
UNSEEN = "<not in train>"  # a tag that only dev or test have: it counts as wrong, whatever is answered


class Tagging(Head):
    """A softmax over tags at the first sub-word of each word. Items are sentences; a label is a list of tags."""

    granularity: ClassVar[Granularity] = "token"
    positions: ClassVar[bool] = True
    layout: ClassVar[Any] = (items.Words, items.Words)

    def __init__(self, encoder: Any, data: Any, *others: Any, **more: Any) -> None:
        super().__init__(encoder, data, *others, **more)
        part = data.parts["train"]
        words_T, targets_T = data.marks[:, 0], np.full(len(data.values), IGNORED, np.int64)
        for item, start, length in part.windows.each():
            inside = words_T[start : start + length]
            targets_T[start : start + length][inside >= 0] = part.labels_I[item][inside[inside >= 0]]
        self.register_buffer("targets_T", torch.from_numpy(targets_T), persistent=False)
        self.register_buffer("starts_S", torch.from_numpy(np.array(part.windows.starts_S)), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        column = rows.columns[task.label[0]]
        tags: dict[int, list[str]] = {}
        for row in rows.used():
            value = column[row]
            tags[row] = [str(tag) for tag in value] if isinstance(value, (list, tuple)) else str(value or "").split()
            if not tags[row] or any(not tag for tag in tags[row]):
                raise SuiteError(
                    f"task {task.name}: {rows.places[row]} has no tags, or an empty one (column '{task.label[0]}')."
                )
        classes = tuple(sorted({tag for row in rows.of("train") for tag in tags[row]} - {NOT_ANNOTATED}))
        numbers = {tag: i for i, tag in enumerate(classes)} | {NOT_ANNOTATED: IGNORED}
        names = (*classes, UNSEEN) if any(tag not in numbers for row in rows.used() for tag in tags[row]) else classes
        found = np.empty(len(column), object)
        for row, each in tags.items():
            found[row] = np.array([numbers.get(tag, len(classes)) for tag in each], np.int64)
        return Labels(found, names)

    @classmethod
    def fit_label(cls, label: np.ndarray, inputs: tuple[Any, ...], where: str) -> np.ndarray:
        """Refuse an item whose words and tags are not as many."""
        if len(label) != len(inputs[0]):
            raise SuiteError(f"{where} has {len(inputs[0])} words and {len(label)} tags; each word needs one.")
        return label

    @classmethod
    def majority(cls, data: Any, part: Any) -> np.ndarray:
        """Of each word (by its sub-words) its commonest tag in train; of others the commonest of all."""
        counts: dict[bytes, Counter[int]] = defaultdict(Counter)
        train = data.parts["train"]
        for item, word, ids in _words(data, train):
            if train.labels_I[item][word] != IGNORED:
                counts[ids][int(train.labels_I[item][word])] += 1
        usual = sum(counts.values(), Counter()).most_common(1)[0][0]
        best = {ids: max(found, key=lambda tag: (found[tag], -tag)) for ids, found in counts.items()}
        answers = objects([np.zeros(len(label), np.int64) for label in part.labels_I])
        for item, word, ids in _words(data, part):
            answers[item][word] = best.get(ids, usual)
        return answers

    def outputs(self, data: Any) -> int:
        return len(data.classes) - (UNSEEN in data.classes)

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        targets, starts = self.get_buffer("targets_T"), self.get_buffer("starts_S")
        places_N, inside_N = places_in_values(batch, starts)
        targets_N = torch.where(inside_N, targets[places_N], IGNORED)
        count = (targets_N != IGNORED).sum()
        right = (outputs.argmax(1) == targets_N).sum()
        loss = F.cross_entropy(outputs, targets_N, ignore_index=IGNORED, reduction="sum")
        return loss, count, {"accuracy": (right, count)}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        return self._of_words([outputs.argmax(1) for outputs in outputs_S], data, part, np.int64)

    def confidence(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> list[list[float]]:
        shares_S = [torch.from_numpy(outputs).double().softmax(1).amax(1).numpy() for outputs in outputs_S]
        return [each.tolist() for each in self._of_words(shares_S, data, part, np.float64)]

    def _of_words(self, values_S: Sequence[np.ndarray], data: Any, part: Any, kind: Any) -> np.ndarray:
        """(I,) of each item the value at each word's first sub-word."""
        found = objects([np.zeros(len(label), kind) for label in part.labels_I])
        for values, (item, start, length) in zip(values_S, part.windows.each(), strict=True):
            words = data.marks[start : start + length, 0]
            found[item][words[words >= 0]] = values[words >= 0]
        return found


def _words(data: Any, part: Any) -> Iterator[tuple[int, int, bytes]]:
    """The item, the number and the sub-words of every word."""
    for item, start, length in part.windows.each():
        words = data.marks[start : start + length, 0]
        firsts = np.flatnonzero(words >= 0).tolist()
        for begin, end in pairwise([*firsts, length]):
            yield item, int(words[begin]), data.values[start + begin : start + end].tobytes()
