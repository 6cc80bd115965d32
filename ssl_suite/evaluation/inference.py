"""What a trained head says of a split, and how good that is.

Shapes: I items, S sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.evaluation import encode, metrics, predictions, tasks
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.training.distributed import DistributedContext


def predict(
    learner: Any,
    data: TaskData,
    modality: Modality,
    split: str,
    group: DistributedContext,
    at_once: int = encode.AT_ONCE,
) -> np.ndarray:
    """(I,) predictions of a split's items."""
    found = outputs(learner, data, modality, split, group, at_once)
    return learner.objective.decode(found, data, data.parts[split])


def outputs(
    learner: Any,
    data: TaskData,
    modality: Modality,
    split: str,
    group: DistributedContext,
    at_once: int = encode.AT_ONCE,
) -> list[np.ndarray]:
    """What the head gives of each sequence of a split, as its ``decode`` takes it."""
    learner.eval()
    head = learner.objective

    def read(batch: Batch) -> Tensor:
        with group.autocast():
            return head.read(learner.encoder, batch)

    ready = encode.input_mapper(learner.encoder, modality, group.device)
    rows: encode.Granularity = "position" if head.positions else "sequence"
    _, first_U, which_S = np.unique(data.split(split).starts_S, return_index=True, return_inverse=True)
    sequences = encode.sequences_of(data, split, once=True)
    found = dict(encode.run_batches(sequences, modality, group.device, lambda batch: read(ready(batch)), rows, at_once))
    return [found[first] for first in first_U[which_S].tolist()]


def scores(task: tasks.Task, labels_I: np.ndarray, predictions_I: np.ndarray) -> dict[str, float]:
    """The task's metrics that are defined on these predictions."""
    found = {}
    for name in dict.fromkeys((*task.metrics, task.select)):
        try:
            found[name] = metrics.METRICS[name].compute(labels_I, predictions_I)
        except metrics.Undefined:  # an encoder that answers everything alike has no correlation
            continue
    return found


def stored(task: tasks.Task, data: TaskData, split: str, by_seed: Mapping[int, np.ndarray]) -> predictions.Predictions:
    """The predictions of a split as its file will hold them."""
    part = data.parts[split]
    return predictions.stored(part.labels_I, by_seed, part.rows_I, data.classes, task.kind, part.clusters_I)
