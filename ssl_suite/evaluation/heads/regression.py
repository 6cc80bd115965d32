"""One value a sequence, or a pair of them in one sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import baselines
from ssl_suite.evaluation.heads.base import Head, Labels, of_sequences
from ssl_suite.objectives.base import Metrics


class Regression(Head):
    """A value in units of the training labels' deviation; an item's is the mean of its sequences'."""

    def __init__(self, encoder: Any, data: Any, *others: Any, **more: Any) -> None:
        part = data.parts["train"]
        self.mean, self.deviation = float(part.labels_I.mean()), float(part.labels_I.std())
        super().__init__(encoder, data, *others, **more)
        targets_I = self._scaled(part.labels_I)
        self.register_buffer("targets_S", torch.from_numpy(of_sequences(targets_I, part)), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        column = rows.columns[task.label[0]]
        values = np.zeros(len(column), np.float64)
        for row in rows.labelled():
            values[row] = number(column[row])
            if not math.isfinite(values[row]):
                fault = "no label" if column[row] in (None, "") else f"the label {column[row]}"
                raise SuiteError(f"task {task.name}: {rows.places[row]} has {fault}; regression takes finite numbers.")
        return Labels(values)

    @classmethod
    def majority(cls, data: Any, part: Any) -> np.ndarray:
        return baselines.majority(data.parts["train"].labels_I, len(part), regression=True)

    def start_targets(self, part: Any) -> np.ndarray:
        return of_sequences(self._scaled(part.labels_I), part)

    def _scaled(self, labels_I: np.ndarray) -> np.ndarray:
        return ((labels_I - self.mean) / self.deviation).astype(np.float32)

    def outputs(self, data: Any) -> int:
        return 1

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        targets: Any = self.targets_S
        targets_B = targets[batch.index_B.clamp(min=0)]
        return ((outputs[:, 0] - targets_B).square() * batch.real_B).sum(), batch.real_B.sum(), {}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        items_S = part.windows.records_S
        values_S = np.stack(list(outputs_S))[:, 0].astype(np.float64) * self.deviation + self.mean
        counts_I = np.bincount(items_S, minlength=len(part))
        return (np.bincount(items_S, values_S, len(part)) / counts_I).astype(np.float32)


def number(label: Any) -> float:
    """A label as a number, NaN where it is none."""
    try:
        return float(label)
    except (TypeError, ValueError, OverflowError):
        return math.nan
