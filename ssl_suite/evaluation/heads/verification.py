"""Whether two recordings are of one speaker, with the x-vectors of a speaker classifier (Snyder et al. 2018).

train        an input and its speaker. The states of its positions, one layer, their mean and deviation, a linear
             map: its vector, for a softmax with an additive margin over speakers (Wang et al. 2018,
             arXiv:1801.05599)
dev, test    trials: two inputs, and 1 where they are of one speaker, else 0. The score is the vectors' cosine
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import items
from ssl_suite.evaluation.heads.base import IGNORED, Granularity, Head, Labels, inner_positions, of_sequences
from ssl_suite.objectives.base import Metrics

FLOOR = 1e-5  # of a variance, whose root has no gradient at 0


class Verification(Head):
    """A vector a sequence; items of dev and test are pairs of sequences.

    Args:
        hidden: width of the layer under the pooling.
        dim: of the vectors.
        margin, scale: of the softmax; SUPERB has 0.4 and 30.
    """

    granularity: ClassVar[Granularity] = "frame"
    layout: ClassVar[Any] = (items.Single, items.Apart)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        *others: Any,
        hidden: int = 512,
        dim: int = 256,
        margin: float = 0.4,
        scale: float = 30.0,
        **more: Any,
    ) -> None:
        self.dim = dim
        super().__init__(encoder, data, *others, **more)
        self.recorded = {"hidden": hidden, "dim": dim, "margin": margin, "scale": scale}
        self.margin, self.scale = margin, scale
        self.layer = nn.Linear(encoder.width, hidden)
        self.output = nn.Linear(2 * hidden, dim)
        self.speakers_CE = nn.Parameter(F.normalize(torch.randn(len(data.classes), dim)))
        part = data.parts["train"]
        self.register_buffer("labels_S", torch.from_numpy(of_sequences(part.labels_I, part)), persistent=False)

    @classmethod
    def read_labels(cls, task: Any, rows: Any) -> Labels:
        if len(task.inputs) != 2:
            raise SuiteError(f"task {task.name}: head=verification takes two inputs; the second is empty in train.")
        column, train = rows.columns[task.label[0]], rows.names.index("train")
        classes = tuple(sorted({str(column[row]) for row in rows.of("train")}))
        speakers, answers = {name: i for i, name in enumerate(classes)}, {"0": 0, "1": 1, "False": 0, "True": 1}
        found = np.zeros(len(column), np.int64)
        for row in rows.used():
            value, numbers = column[row], speakers if rows.parts[row] == train else answers
            if value in (None, "") or str(value) not in numbers:
                wanted = "a speaker" if rows.parts[row] == train else "0 or 1"
                raise SuiteError(
                    f"task {task.name}: {rows.places[row]} has the label '{'' if value is None else value}', not "
                    f"{wanted} (column '{task.label[0]}')."
                )
            found[row] = numbers[str(value)]
        return Labels(found, classes)

    def outputs(self, data: Any) -> int:
        return self.dim

    def read(self, encoder: Any, batch: Batch) -> Tensor:
        """(B, C): a vector a sequence."""
        x_NH = F.relu(self.layer(self.norm(encoder(batch)))).float()
        ids_N, inside_N = inner_positions(batch)
        size_B1 = x_NH.new_zeros(len(batch.real_B)).index_add(0, ids_N, inside_N.float()).clamp(min=1)[:, None]

        def mean(some_NH: Tensor) -> Tensor:
            sums_BH = some_NH.new_zeros(len(size_B1), some_NH.shape[1])
            return sums_BH.index_add(0, ids_N, some_NH * inside_N[:, None]) / size_B1

        mean_BH = mean(x_NH)
        deviation_BH = (mean((x_NH - mean_BH[ids_N]).square()) + FLOOR).sqrt()
        return self.output(self.drop(torch.cat((mean_BH, deviation_BH), 1)))

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        labels_B = self.get_buffer("labels_S")[batch.index_B.clamp(min=0)]
        cosines_BC = F.normalize(outputs) @ F.normalize(self.speakers_CE.float()).T
        own_BC = torch.arange(len(self.speakers_CE), device=labels_B.device) == labels_B[:, None]
        logits_BC = self.scale * (cosines_BC - self.margin * own_BC)
        targets_B, count = torch.where(batch.real_B, labels_B, IGNORED), batch.real_B.sum()
        right = ((cosines_BC.argmax(1) == labels_B) & batch.real_B).sum()
        loss = F.cross_entropy(logits_BC, targets_B, ignore_index=IGNORED, reduction="sum")
        return loss, count, {"accuracy": (right, count)}

    def decode(self, outputs_S: Sequence[np.ndarray], data: Any, part: Any) -> np.ndarray:
        vectors_SC = np.stack(list(outputs_S)).astype(np.float64)
        vectors_SC /= np.maximum(np.linalg.norm(vectors_SC, axis=1, keepdims=True), 1e-12)
        return (vectors_SC[0::2] * vectors_SC[1::2]).sum(1)
