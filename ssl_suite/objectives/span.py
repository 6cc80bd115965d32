"""SpanBERT (Joshi et al. 2020, arXiv:1907.10529): hide spans of random length, predict them from inside and outside.

Beside masked language modelling each hidden token is predicted from the two visible states at the edges of its span
and from its place in the span: the span boundary objective. So those two states come to hold what lies between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.objectives.base import Metrics
from ssl_suite.objectives.heads import PredictionHead
from ssl_suite.objectives.masking import LineSpan, MaskRate, MaskShare, RandomShare, boundaries
from ssl_suite.objectives.mlm import MaskedLM

LONGEST_RUN = 32  # places with an embedding of their own. Spans merge: 1 run in 1,000 is longer, 3 at mask_rate 0.3


class SpanBERT(MaskedLM):
    """Masked language modelling of spans, and a boundary head.

    A span's tokens all show [MASK], or random symbols, or themselves.
    """

    by_run: ClassVar[bool] = True
    wraps: ClassVar[bool] = False

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        mask_rate: MaskRate = 0.15,
        mask_share: MaskShare = 0.8,
        random_share: RandomShare = 0.1,
        span: LineSpan = "geometric",
    ) -> None:
        super().__init__(modality, spec, mask_rate, mask_share, random_share, span)
        self.boundary = BoundaryHead(spec)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """Both cross-entropies in nats summed over the predicted positions, and their count.

        Metrics: those of ``MaskedLM``, and ``boundary_loss`` and ``boundary_accuracy`` of the boundary objective.
        """
        picks_K, labels_K, shown_N = self.corrupt(batch, rng)
        hidden_ND = self.states(encoder, batch, picks_K, shown_N, rng)
        table_VD, valid_K = encoder.embeddings.table_VD, labels_K != -100
        loss_K, metrics = self.score(self.head(hidden_ND[picks_K], table_VD).float(), labels_K, shown_N[picks_K])
        left_K, right_K = boundaries(picks_K, valid_K, len(shown_N))
        logits_KV = self.boundary(hidden_ND[left_K], hidden_ND[right_K], picks_K - left_K, table_VD).float()
        beyond_K = F.cross_entropy(logits_KV, labels_K, reduction="none", ignore_index=-100)
        count = valid_K.sum()
        metrics["boundary_loss"] = beyond_K.detach().sum(), count
        metrics["boundary_accuracy"] = (logits_KV.argmax(-1) == labels_K).sum(), count
        return (loss_K + beyond_K).sum(), count, metrics

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of masked language modelling, and of the boundary head on the predicted positions."""
        width = model["width"]
        head = 2 * self.masker.rate * batch.tokens * (4 * width**2 + width * len(self.vocabulary))
        return super().flops(model, batch) + 3 * head


class BoundaryHead(nn.Module):
    """Two layers of dense, gelu and norm over (left edge, right edge, place), then the tied table plus a bias."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.places = nn.Embedding(LONGEST_RUN, spec.width)
        self.dense = nn.Linear(3 * spec.width, spec.width, bias=False)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.second = PredictionHead(spec)
        for weight in (self.places.weight, self.dense.weight):
            nn.init.trunc_normal_(weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)

    def forward(self, left_KD: Tensor, right_KD: Tensor, place_K: Tensor, table_VD: Tensor) -> Tensor:
        """(K, V) logits.

        Args:
            left_KD, right_KD: states of the visible positions before and after each span.
            place_K: (K,) int64, place in the span, from 1; places beyond ``LONGEST_RUN`` share the last embedding.
            table_VD: the encoder's embedding table.
        """
        place_KD = self.places((place_K - 1).clamp(0, LONGEST_RUN - 1))
        x_KD = self.dense(torch.cat((left_KD, right_KD, place_KD.to(left_KD.dtype)), dim=-1))
        return self.second(self.norm(F.gelu(x_KD)), table_VD)
