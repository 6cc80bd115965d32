"""One class a sequence, or a pair of them in one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.evaluation import baselines
from ssl_suite.evaluation.heads.base import IGNORED, Head, Labels, class_numbers, of_sequences
from ssl_suite.objectives.base import Metrics


class Classification(Head):
    """A softmax over classes. An item's class is what most of its sequences say; a tie goes to the larger share."""

    def __init__(self, encoder: Any, data: Any, *others: Any, **more: Any) -> None:
        super().__init__(encoder, data, *others, **more)
        part = data.parts["train"]
        self.register_buffer("labels_S", torch.from_numpy(of_sequences(part.labels_I, part)), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        return class_numbers(task, rows, rows.columns[task.label[0]])

    @classmethod
    def majority(cls, data: Any, part: Any) -> np.ndarray:
        return baselines.majority(data.parts["train"].labels_I, len(part), regression=False)

    def start_targets(self, part: Any) -> np.ndarray:
        return of_sequences(part.labels_I, part)

    def outputs(self, data: Any) -> int:
        return len(data.classes)

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        labels: Any = self.labels_S
        labels_B = torch.where(batch.real_B, labels[batch.index_B.clamp(min=0)], IGNORED)
        count = batch.real_B.sum()
        right = ((outputs.argmax(1) == labels_B) & batch.real_B).sum()
        loss = F.cross_entropy(outputs, labels_B, ignore_index=IGNORED, reduction="sum")
        return loss, count, {"accuracy": (right, count)}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        outputs_SC, items_S = np.stack(list(outputs_S)), part.windows.records_S
        shares_SC = torch.from_numpy(outputs_SC).double().softmax(1).numpy()
        votes_IC = np.zeros((len(part), outputs_SC.shape[1]))
        sums_IC = votes_IC.copy()
        np.add.at(votes_IC, (items_S, shares_SC.argmax(1)), 1.0)
        np.add.at(sums_IC, items_S, shares_SC)
        return (votes_IC + sums_IC / (1.0 + sums_IC.sum(1, keepdims=True))).argmax(1).astype(np.int64)

    def confidence(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> list[float]:
        """The mean over an item's sequences."""
        chosen_S = self.decode(outputs_S, data, part)[part.windows.records_S]
        shares_SC = torch.from_numpy(np.stack(list(outputs_S))).double().softmax(1).numpy()
        sums_I = np.bincount(part.windows.records_S, shares_SC[np.arange(len(chosen_S)), chosen_S], len(part))
        return (sums_I / np.bincount(part.windows.records_S, minlength=len(part))).tolist()
