"""Heads that objectives share.

Shapes: K positions, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.models.encoder import EncoderSpec


def prediction_head(spec: Any) -> PredictionHead | None:
    """A head of the objective's own; None where the encoder brings one (``models.wrapped``)."""
    return None if spec.kind == "wrapped" else PredictionHead(spec)


class PredictionHead(nn.Module):
    """(K, D) -> (K, V): dense, gelu, norm, then the tied embedding table plus a bias, as in ModernBERT."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.width, spec.width, bias=False)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.bias = nn.Parameter(torch.zeros(spec.vocabulary))
        nn.init.trunc_normal_(self.dense.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)

    def forward(self, x_KD: Tensor, table_VD: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(x_KD))), table_VD, self.bias)
