"""What every objective offers to the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.data.arrange import Arranger
from ssl_suite.modalities.base import Modality

Metrics = dict[str, tuple[Tensor, Tensor]]
"""A name to (sum, count), both scalars on the device: sums add up over rows, processes and steps."""


class Objective(nn.Module):
    """The base of all objectives. Its forward returns sums, so that one process and eight give the same gradient.

    The constructor takes keywords from ``conf/objective/NAME.yaml`` and whichever it names of ``modality``, ``spec``
    (the encoder's shapes) and ``encoder`` (the module, to copy a target from). Every parameter that takes a gradient
    must get one in every step.

    Attributes:
        causal: the encoder attends to the left only.
        reads: of signals, whether the encoder sees ``frames`` or the ``ids`` of their units.
        predicts_ids: whether a signal's units must be known; without it no codebook is fitted.
        whole: all sequences of a process must share a forward pass (contrasts, batch norms).
        sequences: how many a step should have at least.
        selects: the checkpoint with the lowest validation loss is the best; else the last is.
        extra_tokens: rows of the embedding table beyond the vocabulary.
        layers: of the encoder, whatever the model says; None leaves the model's.
        pooled: it uses ``encoder.pooled`` alone, so a convnet can be trained with it.
        compares: what a count model can be held against: ``masked`` positions, the ``next`` id, or nothing.
        command: what a finished run is tried with: ``fill``, ``generate``, or nothing.
        wraps: it asks an encoder for states and ``predict`` alone, so that it trains those of ``transformers`` that are
            wrapped (``models.wrapped``).
        arranger: lays a sequence out on the host before it becomes part of a batch; None leaves it as it is.
    """

    causal: ClassVar[bool] = False
    reads: ClassVar[Literal["frames", "ids"]] = "frames"
    predicts_ids: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    sequences: ClassVar[int] = 1
    selects: ClassVar[bool] = True
    extra_tokens: ClassVar[int] = 0
    layers: ClassVar[int | None] = None
    pooled: ClassVar[bool] = False
    compares: ClassVar[Literal["masked", "next", ""]] = ""
    command: ClassVar[Literal["fill", "generate", ""]] = ""
    wraps: ClassVar[bool] = False
    arranger: Arranger | None = None

    @classmethod
    def refuses(cls, modality: type[Modality]) -> str:
        """Why it makes no sense for a modality, with a suggestion, in one line; empty where it does."""
        return ""

    def forward(self, encoder: Any, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """``(loss_sum, count, metrics)``: the gradient of a step is that of all loss sums over all counts."""
        raise NotImplementedError

    def after_step(self, encoder: nn.Module, done: int, steps: int) -> None:
        """Called after each optimiser step, the ``done``-th of ``steps``: moving averages go on here."""

    def health(self, encoder: nn.Module) -> dict[str, Tensor]:
        """Scalars to log at each evaluation."""
        return {}

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Matrix FLOPs of one forward and backward pass over the data of ``batch``, padding not counted."""
        raise NotImplementedError

    def hub_weights(self) -> tuple[str, dict[str, Tensor]]:
        """The ``transformers`` class that this objective's weights complete, and those weights under its names."""
        return "ModernBertModel", {}

    def write_beside(self, encoder: nn.Module, modality: Modality, folder: Path) -> None:
        """Files of its own for an exported folder."""
