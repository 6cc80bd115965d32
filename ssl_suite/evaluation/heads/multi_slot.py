"""Several classes a sequence, one for each slot; an item is right where all are (SUPERB's intent classification)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.evaluation.heads.base import IGNORED, Head, Labels, refuse_missing
from ssl_suite.evaluation.predictions import objects
from ssl_suite.objectives.base import Metrics

UNSEEN = "<not in train>"  # a value that only dev or test have: it counts as wrong, whatever is answered


class MultiSlot(Head):
    """A softmax over the values of each label column. Classes are called ``COLUMN=VALUE``, one slot after the other."""

    def __init__(self, encoder: Any, data: Any, *others: Any, **more: Any) -> None:
        super().__init__(encoder, data, *others, **more)
        self.slots = _slots(data.classes)
        part = data.parts["train"]
        labels_IK = np.stack(list(part.labels_I)) if len(part) else np.zeros((0, len(self.slots)), np.int64)
        self.register_buffer("labels_SK", torch.from_numpy(labels_IK[part.windows.records_S]), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        columns = [rows.columns[name] for name in task.label]
        train, used = rows.of("train"), rows.used()
        for name, column in zip(task.label, columns, strict=True):
            refuse_missing(task, rows, column, name)
        classes = [
            f"{name}={value}"
            for name, column in zip(task.label, columns, strict=True)
            for value in sorted({str(column[row]) for row in train})
        ]
        numbers = {name: i for i, name in enumerate(classes)}
        found, unseen = np.empty(len(columns[0]), object), False
        for row in used:
            names = [f"{name}={column[row]}" for name, column in zip(task.label, columns, strict=True)]
            found[row] = np.array([numbers.get(name, len(classes)) for name in names], np.int64)
            unseen |= any(name not in numbers for name in names)
        return Labels(found, (*classes, UNSEEN) if unseen else tuple(classes))

    @classmethod
    def majority(cls, data: Any, part: Any) -> np.ndarray:
        """The commonest value of each slot."""
        labels_IK = np.stack(list(data.parts["train"].labels_I))
        usual = np.array([np.bincount(labels_I).argmax() for labels_I in labels_IK.T], np.int64)
        return objects([usual] * len(part))

    def outputs(self, data: Any) -> int:
        return _slots(data.classes)[-1][1]

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        labels_BK = self.get_buffer("labels_SK")[batch.index_B.clamp(min=0)]
        count, right_B = batch.real_B.sum(), batch.real_B
        total = outputs.new_zeros(())
        for k, (low, high) in enumerate(self.slots):
            labels_B = torch.where(batch.real_B, labels_BK[:, k] - low, IGNORED)
            slot_BC = outputs[:, low:high]
            total = total + F.cross_entropy(slot_BC, labels_B, ignore_index=IGNORED, reduction="sum")
            right_B = right_B & (slot_BC.argmax(1) == labels_B)
        return total / len(self.slots), count, {"all_slots": (right_B.sum(), count)}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        sums_IC = np.zeros((len(part), self.output.out_features))
        np.add.at(sums_IC, part.windows.records_S, np.stack(list(outputs_S)))
        answers_IK = np.stack([sums_IC[:, low:high].argmax(1) + low for low, high in self.slots], 1)
        return objects(list(answers_IK.astype(np.int64)))


def _slots(classes: Sequence[str]) -> list[tuple[int, int]]:
    """The half-open range of class numbers of each slot."""
    names = [name.partition("=")[0] for name in classes if name != UNSEEN]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return list(zip(starts, [*starts[1:], len(names)], strict=True))
