"""Extraction of answers: two vectors, one for where an answer begins and one for where it ends (arXiv:1810.04805).

A softmax over the positions of a sequence gives each. Long texts are read in overlapping pieces (``items.Reading``);
the answer is the best start and end, at most ``longest`` tokens apart, of all pieces, cut from the text by letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import items
from ssl_suite.evaluation.heads.base import Granularity, Head, Labels
from ssl_suite.evaluation.predictions import objects
from ssl_suite.modalities import text_letters
from ssl_suite.objectives.base import Metrics

UNSPACED = f"{text_letters.UNSPACED}\u0e00-\u0e7f"  # and Thai
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


class Span(Head):
    """The start and the end of an answer. A label is the list of accepted answers, and where each begins in the text.

    Args:
        longest: the most tokens from the start of an answer to its end, as in BERT's SQuAD code.
    """

    granularity: ClassVar[Granularity] = "token"
    positions: ClassVar[bool] = True
    layout: ClassVar[Any] = (items.Reading, items.Reading)

    def __init__(self, encoder: Any, data: Any, *others: Any, longest: int = 30, **more: Any) -> None:
        super().__init__(encoder, data, *others, **more)
        self.longest, self.recorded = longest, {"longest": longest, "stride": items.STRIDE}
        part = data.parts["train"]
        spans_S2 = np.zeros((len(part.windows), 2), np.int64)  # where a piece does not hold the answer: [CLS]
        for s, (item, start, length) in enumerate(part.windows.each()):
            answer = standing(part.labels_I[item], part.contexts[item])
            begin = nearest(part.contexts[item], answer, part.more[item])
            spans_S2[s] = _inside(data.marks[start : start + length], begin, len(answer))
        self.register_buffer("spans_S2", torch.from_numpy(spans_S2), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        found, starts = np.empty(len(rows.parts), object), np.empty(len(rows.parts), object)
        given = rows.columns[task.label[1]] if len(task.label) > 1 else None
        for row in rows.used():
            texts = rows.columns[task.label[0]][row]
            texts = texts if isinstance(texts, list) else [texts]
            if not texts or any(text in (None, "") for text in texts):
                raise SuiteError(f"task {task.name}: {rows.places[row]} has no answer (column '{task.label[0]}').")
            found[row] = [str(text) for text in texts]
            places = None if given is None else given[row]
            first = places[0] if isinstance(places, list) and places else places
            starts[row] = int(str(first)) if str(first).isdigit() else 0
        return Labels(found, (), starts)

    @classmethod
    def majority(cls, data: Any, part: Any) -> np.ndarray:
        """The first words of each text, as many as answers of train most often have."""
        counts = Counter(len(list(WORD.finditer(label[0]))) for label in data.parts["train"].labels_I)
        size = max(counts.most_common(1)[0][0], 1)
        words = [list(islice(WORD.finditer(text), size)) for text in part.contexts]
        pairs = zip(part.contexts, words, strict=True)
        return objects([text[found[0].start() : found[-1].end()] if found else text for text, found in pairs])

    @classmethod
    def fit_label(cls, label: list[str], inputs: tuple[Any, ...], where: str) -> list[str]:
        """Refuse an item none of whose answers stands in its text."""
        if not standing(label, inputs[1][2]):
            raise SuiteError(f"{where}: the answer '{label[0][:40]}' is not in its text; correct it or leave it out.")
        return label

    def outputs(self, data: Any) -> int:
        return 2

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Of both ends the mean; each a softmax over the sequence's own positions."""
        ids_N, count_B = batch.sequence_ids_N(), len(batch.real_B)
        top_B2 = outputs.new_full((count_B, 2), -torch.inf)
        index_N2 = ids_N[:, None].expand(-1, 2)
        top_B2 = top_B2.scatter_reduce(0, index_N2, outputs.detach(), "amax")
        top_B2 = torch.where(torch.isfinite(top_B2), top_B2, 0.0)
        sums_B2 = outputs.new_zeros(count_B, 2).index_add(0, ids_N, (outputs - top_B2[ids_N]).exp())
        spans_B2 = self.get_buffer("spans_S2")[batch.index_B.clamp(min=0)]
        places_B2 = (batch.offsets_B1[:-1, None].long() + spans_B2).clamp(max=len(outputs) - 1)
        loss_B = (sums_B2.clamp(min=1e-30).log() + top_B2 - outputs.gather(0, places_B2)).mean(1)
        return (loss_B * batch.real_B).sum(), batch.real_B.sum(), {}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        places = self.places(outputs_S, data, part)
        return objects([text[begin:end] for text, (begin, end) in zip(part.contexts, places, strict=True)])

    def places(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> list[tuple[int, int]]:
        return [(begin, end) for _, begin, end, _ in self._found(outputs_S, data, part)]

    def confidence(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> list[float]:
        """Of both ends together, over the text of the piece that the answer is cut from."""
        return [share for *_, share in self._found(outputs_S, data, part)]

    def _found(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> list[tuple[float, int, int, float]]:
        """Of each item the best score, the letters it begins and ends at, and its share of the piece's softmaxes."""
        best = [(-np.inf, 0, 0, 0.0)] * len(part)
        for outputs, (item, start, length) in zip(outputs_S, part.windows.each(), strict=True):
            marks = data.marks[start : start + length]
            text_T = marks[:, 0] >= 0
            score, first, last = _best(outputs, text_T, self.longest)
            if score > best[item][0]:
                share = float(np.exp(score - np.logaddexp.reduce(outputs[text_T].astype(np.float64)).sum()))
                best[item] = (score, int(marks[first, 0]), int(marks[last, 1]), share)
        return best


def standing(answers: Sequence[str], text: str) -> str:
    """The first of the answers that stands in a text (as the suite's tokenisers see it); "" where none does."""
    seen = (found for answer in answers for found in (answer, text_letters.cleaned(answer)))
    return next((found for found in seen if found in text), "")


def nearest(text: str, answer: str, start: int) -> int:
    """Where the occurrence of an answer begins that is nearest to where it is said to begin; -1 where there is none."""
    found = [match.start() for match in re.finditer(re.escape(answer), text)]
    return min(found, key=lambda begin: abs(begin - start), default=-1)


def _inside(marks_T2: np.ndarray, begin: int, letters: int) -> tuple[int, int]:
    """The positions (from [CLS]) of an answer in a piece, (0, 0) where it is not whole in it."""
    if begin < 0:
        return 0, 0
    begins, ends = marks_T2[:, 0], marks_T2[:, 1]
    text_T = begins >= 0
    first = np.flatnonzero(text_T & (ends > begin))
    last = np.flatnonzero(text_T & (begins < begin + letters))
    whole = len(first) and len(last) and begins[first[0]] <= begin and ends[last[-1]] >= begin + letters
    return (int(first[0]) + 1, int(last[-1]) + 1) if whole else (0, 0)


def _best(outputs_T2: np.ndarray, text_T: np.ndarray, longest: int) -> tuple[float, int, int]:
    """The largest start + end score with start <= end <= start + longest inside the text; and the two positions."""
    starts_T = np.where(text_T, outputs_T2[:, 0], -np.inf)
    ends_T = np.where(text_T, outputs_T2[:, 1], -np.inf)
    best = (-np.inf, 0, 0)
    for gap in range(min(longest + 1, len(starts_T))):
        sums = starts_T[: len(starts_T) - gap] + ends_T[gap:]
        at = int(sums.argmax())
        if sums[at] > best[0]:
            best = (float(sums[at]), at, at + gap)
    return best
