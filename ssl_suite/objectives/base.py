"""What every objective offers to the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from ssl_suite.data.batch import Batch
from ssl_suite.data.rng import Rng
from ssl_suite.models.encoder import Encoder

Metrics = dict[str, tuple[Tensor, Tensor]]
"""A name to (sum, count), both scalars on the device: sums add up over rows, processes and steps."""


class Objective(Protocol):
    """A plain ``nn.Module`` whose forward returns sums, so that one process and eight give the same gradient.

    The constructor takes ``modality`` and ``spec`` (the encoder's shapes) from the suite and its other keywords from
    ``conf/objective/NAME.yaml``.
    """

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """``(loss_sum, count, metrics)``: the gradient of a step is that of all loss sums over all counts."""
        ...

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Matrix FLOPs of one forward and backward pass over the data of ``batch``, padding not counted."""
        ...

    def hub_weights(self) -> tuple[str, dict[str, Tensor]]:
        """The ``transformers`` class that this objective's weights complete, and those weights under its names."""
        ...
