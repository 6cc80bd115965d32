"""What is trained: an encoder under an objective."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssl_suite.models.dropout import Dropout
from ssl_suite.models.encoder import Encoder


class Learner(nn.Module):
    """The encoder and the objective as one module, so that DDP and FSDP2 see one forward."""

    def __init__(self, encoder: Encoder, objective: Any) -> None:
        super().__init__()
        self.encoder: Encoder = encoder
        self.objective: Any = objective

    def forward(self, batch: Any, rng: Any, pooled: bool = False) -> Any:
        """What the objective gives; or, if ``pooled``, the encoder's vector of each sequence.

        Both by way of this module: under FSDP2 it gathers the weights.
        """
        rate = getattr(self.encoder.spec, "dropout", 0.0) if self.training else 0.0
        if pooled or not rate:
            return self.encoder.pooled(batch) if pooled else self.objective(self.encoder, batch, rng)
        # Set on the encoder, so that every objective's calls have it and those of a slow copy have none.
        self.encoder.dropout = Dropout(rng, rate)
        try:
            return self.objective(self.encoder, batch, rng)
        finally:
            self.encoder.dropout = None
