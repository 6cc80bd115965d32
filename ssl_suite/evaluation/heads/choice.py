"""Choice by likelihood: which of several continuations a causal model finds likeliest, as GPT-3 was asked."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import items
from ssl_suite.evaluation.heads.base import Granularity, Head, Labels, refuse_missing
from ssl_suite.evaluation.predictions import objects


class Choice(Head):
    """The log-probability of each choice after its prompt, or of each text where there is no prompt.

    A label is the right choice's place, from 0, or its text. As an array it is 1 at the right one; a prediction has the
    choices' scores.

    Args:
        normalise: ``none`` sums the logarithms over a choice's tokens, ``tokens`` takes their mean.
    """

    granularity: ClassVar[Granularity] = "token"
    trained: ClassVar[bool] = False
    causal: ClassVar[bool] = True
    layout: ClassVar[Any] = (items.Choices, items.Prompted)

    def __init__(self, encoder: Any, data: Any, normalise: Literal["none", "tokens"] = "none") -> None:
        super(Head, self).__init__()
        if normalise not in ("none", "tokens"):
            raise SuiteError(f"task {data.task}: head.normalise={normalise} should be none or tokens.")
        self.normalise, self.recorded = normalise, {"normalise": normalise}

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        column = rows.columns[task.label[0]]
        refuse_missing(task, rows, column, task.label[0])
        return Labels(objects(column))

    @classmethod
    def fit_label(cls, label: Any, inputs: tuple[Any, ...], where: str) -> np.ndarray:
        texts = [text.strip() for text in inputs[-1][2]]
        name = str(label).strip()
        right = texts.index(name) if name in texts else int(name) if name.isdigit() else -1
        if not 0 <= right < len(texts):
            raise SuiteError(f"{where}: the label '{name[:40]}' is none of its {len(texts)} choices, nor their place.")
        return np.eye(len(texts), dtype=np.int64)[right]

    def answer(
        self, encoder: Any, modality: Any, data: Any, task: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
        prompted = len(task.inputs) > 1
        return {part: self._scores(encoder, data, part, prompted) for part in data.tested}, None

    def _scores(self, encoder: Any, data: Any, part: str, prompted: bool) -> np.ndarray:
        """(I,) the scores of each item's choices."""
        scores: list[list[float]] = [[] for _ in range(len(data.parts[part]))]
        windows = list(data.split(part).each())
        texts = [data.values[start : start + length] for _, start, length in windows]
        found = encoder.log_probabilities(texts, prompted)
        for logs_T, (item, start, length) in zip(found, windows, strict=True):
            own_T = logs_T[(data.marks[start : start + length, 0] > 0) & ~np.isnan(logs_T)]
            scores[item].append(float(own_T.mean() if self.normalise == "tokens" and len(own_T) else own_T.sum()))
        return objects([np.array(each, np.float32) for each in scores])
