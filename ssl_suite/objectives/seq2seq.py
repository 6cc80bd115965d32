"""Sequence-to-sequence pre-training: the encoder reads a corrupted sequence, a decoder writes what is missing.

What MASS, BART and T5 share (Sutskever et al. 2014, arXiv:1409.3215; Vaswani et al. 2017, arXiv:1706.03762). They
differ in their arrangers, which corrupt on the host because lengths change, each sequence by whole-array NumPy.
Signals are read and written as units of their codebook.

Shapes: M positions of the targets, N of the sources, D width, V vocabulary with its extra rows; n ids of one sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count
from ssl_suite.modalities.base import Modality
from ssl_suite.models.decoder import Decoder, decoder_flops
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives.base import Metrics, Objective
from ssl_suite.objectives.heads import PredictionHead
from ssl_suite.objectives.next_token import next_labels

DecoderLayers = Annotated[Count | None, Field(description="Blocks of the decoder; null = as many as the encoder has.")]
LabelSmoothing = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="Share of the aimed-at probability that goes to all ids alike while training (arXiv:1512.00567).",
    ),
]


class Seq2Seq(Objective):
    """The base of MASS, BART and T5: a decoder of the encoder's shapes and a head."""

    reads = "ids"

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        decoder_layers: DecoderLayers = None,
        label_smoothing: LabelSmoothing = 0.0,
    ) -> None:
        super().__init__()
        self.vocabulary: Vocabulary = modality.vocabulary
        self.label_smoothing = label_smoothing
        self.decoder = Decoder(spec, decoder_layers or spec.layers)
        self.head = PredictionHead(spec)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """Cross-entropy in nats of each target id given those before it and the source, and how many there are.

        The decoder reads the true ids (teacher forcing) and predicts the next one: [CLS] starts it, [SEP] ends it and
        is predicted too. Metrics: ``accuracy``.
        """
        target = batch.target
        assert target is not None
        table_VD = encoder.embeddings.table_VD
        hidden_MD = self.decoder(target, encoder(batch), batch, table_VD)
        logits_MV = self.head(hidden_MD, table_VD).float()
        labels_M = next_labels(target, self.vocabulary)
        smoothing = self.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(logits_MV, labels_M, ignore_index=-100, reduction="sum", label_smoothing=smoothing)
        count = (labels_M != -100).sum()
        return loss, count, {"accuracy": ((logits_MV.argmax(-1) == labels_M).sum(), count)}

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder on the source, the decoder on both, and the head on every target id."""
        target = batch.target
        assert target is not None
        width = model["width"]
        head = 2 * target.tokens * (width**2 + width * (len(self.vocabulary) + self.extra_tokens))
        decoder = decoder_flops(model, self.decoder.spec.layers, target, batch)
        return 3 * (encoder_flops(model, batch) + decoder + head)


def framed(ids: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """(n + 2,) int64: [CLS] ids [SEP]."""
    return np.concatenate(([vocabulary.cls], ids, [vocabulary.sep])).astype(np.int64, copy=False)


def share_of(n: int, share: float, draw: np.random.Generator) -> int:
    """``n * share`` rounded up or down at random, so that its mean over draws is ``n * share`` for short ones too."""
    whole = int(n * share)
    return whole + int(draw.random() < n * share - whole)


def parts(total: int, count: int, draw: np.random.Generator, least: int = 1) -> np.ndarray:
    """(count,) sizes of at least ``least`` that sum to ``total``, every such cut equally likely."""
    ends = np.empty(count + 1, np.int64)
    ends[0], ends[-1] = 0, total - (least - 1) * count
    ends[1:-1] = np.sort(draw.permutation(ends[-1] - 1)[: count - 1]) + 1
    return ends[1:] - ends[:-1] + (least - 1)


def runs(n: int, reach: int) -> np.ndarray:
    """(n,) the number of the run of ``reach`` neighbours, the last one longer, that each of n ids belongs to."""
    return np.minimum(np.arange(n) // reach, max(0, n // reach - 1))


def replace_spans(
    ids: np.ndarray, gaps: np.ndarray, lengths: np.ndarray, marks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put one mark in the place of each span.

    Args:
        ids: (n,).
        gaps: (spans + 1,) ids that stay before, between and after the spans.
        lengths: (spans,) ids of each span, 0 to insert a mark; with ``gaps`` they sum to n.
        marks: (spans,) ids.

    Returns:
        (n - hidden + spans,) ids with their marks, and (n,) bool, True inside spans.
    """
    sizes = np.zeros(2 * len(lengths) + 1, np.int64)
    sizes[::2], sizes[1::2] = gaps, lengths
    hidden = np.repeat(np.arange(len(sizes)) % 2 == 1, sizes)
    return np.insert(ids[~hidden], np.cumsum(gaps[:-1]), marks), hidden
