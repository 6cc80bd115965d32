"""What stands on an encoder for a task: supervised objectives, trained by the trainer of everything else.

A head is one class and one line in ``tasks.HEADS``. It says how its targets are made from a task's labels, what it
computes from an encoder, its loss, and how outputs become the predictions that metrics are computed from.

Shapes: S sequences of a split, I items (a piece of music is an item of several sequences), C outputs of a head; B and D
as in ``data.batch``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.data.batch import Batch
from ssl_suite.data.rng import Rng
from ssl_suite.evaluation.tasks import HEADS
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.base import Metrics, Objective

IGNORED = -100


class Head(Objective):
    """The base of all heads.

    Args:
        encoder: whose width it reads.
        labels_I: of the training items: class numbers, or values.
        items_S: the item of each training sequence.
        classes: how many there are; 0 for values.
        pooling: what a sequence's vector is: the ``mean`` of its states, or that of [CLS].
        dropout: before the last map.
        noisy: the encoder has dropout of its own, whose draws are then a function of the seed and the step.
        norm: a LayerNorm without parameters before the last map. Vectors of an encoder that was tuned for cosines
            differ by 0.05 from one sequence to another, and a map that starts at 0.02 hardly sees them: MiniLM on
            splice reached 85 % of dev with it and 61 % without, after 110,000 tokens at 3e-4.
    """

    pooled: ClassVar[bool] = True
    predicts_ids: ClassVar[bool] = False
    scores: ClassVar[bool] = False  # predictions are values, not classes

    def __init__(
        self,
        encoder: Any,
        labels_I: np.ndarray,
        items_S: np.ndarray,
        classes: int,
        pooling: Literal["mean", "cls"] = "mean",
        dropout: float = 0.0,
        noisy: bool = False,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.pooling, self.noisy, self._seeded = pooling, noisy or dropout > 0, -1
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(encoder.width, elementwise_affine=False) if norm else nn.Identity()
        self.register_buffer("labels_S", torch.from_numpy(self.targets(labels_I)[items_S]), persistent=False)
        self.output = nn.Linear(encoder.width, self.outputs(classes))
        nn.init.trunc_normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def targets(self, labels_I: np.ndarray) -> np.ndarray:
        """What the loss is computed from, an item's each."""
        raise NotImplementedError

    def outputs(self, classes: int) -> int:
        """C."""
        raise NotImplementedError

    def loss(self, outputs_BC: Tensor, labels_B: Tensor, real_B: Tensor) -> tuple[Tensor, Metrics]:
        """The sum over real sequences, and metrics; ``labels_B`` is anything where ``real_B`` is False."""
        raise NotImplementedError

    def decode(self, outputs_SC: np.ndarray, items_S: np.ndarray) -> np.ndarray:
        """(I,) predictions of the items, from the outputs of their sequences."""
        raise NotImplementedError

    def forward(self, encoder: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The loss of the sequences whose numbers (``keys_B``) are training sequences'."""
        if self.noisy and rng.step != self._seeded:  # the passes of one step go on in one stream
            torch.manual_seed(hash((rng.seed, rng.step, batch.tokens, batch.squares)) % 2**63)
            self._seeded = rng.step
        outputs_BC = self.read(encoder, batch)
        labels: Any = self.labels_S
        labels_B = labels[batch.keys_B.clamp(min=0)]
        loss, metrics = self.loss(outputs_BC.float(), labels_B, batch.real_B)
        return loss, batch.real_B.sum(), metrics

    def read(self, encoder: Any, batch: Batch) -> Tensor:
        """(B, C): the head's outputs."""
        return self.output(self.drop(self.vectors(encoder, batch)))

    def vectors(self, encoder: Any, batch: Batch) -> Tensor:
        """(B, D): what the last map reads."""
        if self.pooling == "cls":
            vectors_BD = encoder(batch)[batch.offsets_B1[:-1].long().clamp(max=len(batch.values) - 1)]
        else:
            vectors_BD = encoder.pooled(batch)
        return self.norm(vectors_BD)

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder, and of the last map."""
        return 3 * (encoder_flops(model, batch) + 2.0 * len(batch.lengths) * self.output.weight.numel())


class Classification(Head):
    """One class a sequence; an item's is what most of its sequences say, a tie goes to the larger sum of shares."""

    def targets(self, labels_I: np.ndarray) -> np.ndarray:
        return labels_I.astype(np.int64)

    def outputs(self, classes: int) -> int:
        return classes

    def loss(self, outputs_BC: Tensor, labels_B: Tensor, real_B: Tensor) -> tuple[Tensor, Metrics]:
        labels_B = torch.where(real_B, labels_B, IGNORED)
        right = ((outputs_BC.argmax(1) == labels_B) & real_B).sum()
        loss = F.cross_entropy(outputs_BC, labels_B, ignore_index=IGNORED, reduction="sum")
        return loss, {"accuracy": (right, real_B.sum())}

    def decode(self, outputs_SC: np.ndarray, items_S: np.ndarray) -> np.ndarray:
        shares_SC = torch.from_numpy(outputs_SC).double().softmax(1).numpy()
        votes_IC = np.zeros((int(items_S.max()) + 1, outputs_SC.shape[1]))
        sums_IC = votes_IC.copy()
        np.add.at(votes_IC, (items_S, shares_SC.argmax(1)), 1.0)
        np.add.at(sums_IC, items_S, shares_SC)
        return (votes_IC + sums_IC / (1.0 + sums_IC.sum(1, keepdims=True))).argmax(1).astype(np.int64)


class Regression(Head):
    """One value a sequence, in units of the training labels' deviation; an item's is the mean of its sequences'."""

    scores: ClassVar[bool] = True

    def __init__(self, encoder: Any, labels_I: np.ndarray, *others: Any, **more: Any) -> None:
        self.mean, self.deviation = float(labels_I.mean()), float(labels_I.std())
        super().__init__(encoder, labels_I, *others, **more)

    def targets(self, labels_I: np.ndarray) -> np.ndarray:
        return ((labels_I - self.mean) / self.deviation).astype(np.float32)

    def outputs(self, classes: int) -> int:
        return 1

    def loss(self, outputs_BC: Tensor, labels_B: Tensor, real_B: Tensor) -> tuple[Tensor, Metrics]:
        loss = ((outputs_BC[:, 0] - labels_B).square() * real_B).sum()
        return loss, {}

    def decode(self, outputs_SC: np.ndarray, items_S: np.ndarray) -> np.ndarray:
        count_I = np.bincount(items_S)
        values_S = outputs_SC[:, 0].astype(np.float64) * self.deviation + self.mean
        return (np.bincount(items_S, values_S) / count_I).astype(np.float32)


def head_class(name: str) -> type[Head]:
    """The class of a task's ``head``."""
    module, _, attribute = HEADS[name][1].partition(":")
    return getattr(importlib.import_module(module), attribute)
