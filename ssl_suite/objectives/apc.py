"""Autoregressive predictive coding (Chung et al. 2019, arXiv:1904.03240): foresee what stands n positions ahead.

A causal encoder and a linear map from its state at a position to the content n positions later, by the absolute error.
The content of a frame is its features: log-mel bands of speech, pixels of a picture's patches, row after row. The
content of a token is its embedding, layer-normed, without a gradient: otherwise the embeddings would learn to be easy
to predict. Nothing but the encoder's own use of them then keeps them apart, so watch ``repeat_l1``: if all became one
and the same it would fall to 0.

How far ahead: some neighbours share what they are made of, and predicting that is copying. A position of speech covers
20 ms, but its log-mel windows reach 7.5 ms into both neighbours (400 samples every 160), so features 1 ahead share
15 ms of samples with those the encoder has seen, and features 2 ahead share none: hence 2 there. k-mers share letters
up to k - 1 ahead: hence k. Everything else starts at 1. The encoder's state at a position thus knows 7.5 ms of the
next one's samples and nothing later, and so does the baseline of repeating the current features.

Shapes: N positions, G numbers of a position's content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.core.schema import Count
from ssl_suite.modalities.base import Modality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import forward_flops
from ssl_suite.objectives.base import Metrics, Objective


def apart(modality: Modality) -> int:
    """The least distance at which two positions share nothing they are made of."""
    windows_overlap = modality.frame is not None and modality.frame.grid is None
    return 2 if windows_overlap else modality.vocabulary.reach


def content_N(batch: Batch, vocabulary: Vocabulary) -> Tensor:
    """(N,) bool: not [CLS], [SEP] or [PAD]."""
    values_N = batch.values
    return (values_N != vocabulary.pad) & (values_N != vocabulary.cls) & (values_N != vocabulary.sep)


def pairs_N(batch: Batch, inside_N: Tensor, step: int) -> Tensor:
    """(N,) bool: both a position and the one ``step`` later are content of one sequence."""
    sequence_N = batch.sequence_ids_N()
    together_N = (sequence_N[:-step] == sequence_N[step:]) & inside_N[:-step] & inside_N[step:]
    return F.pad(together_N, (0, step))


def later(x_N: Tensor, step: int) -> Tensor:
    """(N, …) what stands ``step`` positions later, zeros beyond the end."""
    return torch.cat((x_N[step:], torch.zeros_like(x_N[:step])))


class Autoregressive(Objective):
    """A linear head that predicts the content some positions ahead.

    Raises:
        SuiteError: a shift so long that no sequence has a pair.
    """

    causal: ClassVar[bool] = True
    predicts_ids: ClassVar[bool] = False

    def __init__(
        self,
        modality: Modality,
        spec: EncoderSpec,
        shift: Annotated[
            Count | None,
            Field(
                description="Positions ahead; null = the least that share nothing: 2 for speech, k for k-mers, else 1."
            ),
        ] = None,
    ) -> None:
        super().__init__()
        longest = modality.max_length - 3  # between the first and the last position of content
        self.shift = apart(modality) if shift is None else shift
        if self.shift > longest:
            raise SuiteError(f"objective.shift={shift} should be between 1 and {longest}, or null.")
        self.vocabulary = modality.vocabulary
        self.features = modality.frame.features if modality.frame is not None else spec.width
        self.signal = modality.frame is not None
        self.head = nn.Linear(spec.width, self.features)
        nn.init.trunc_normal_(self.head.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)
        nn.init.zeros_(self.head.bias)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The absolute error, a mean over the content's numbers, summed over all pairs, and their count.

        Metrics: ``l1``, and ``repeat_l1`` of predicting that the content stays what it is.
        """
        content_NG = self.content(encoder, batch)
        shown = replace(batch, features_NG=content_NG) if self.signal else batch
        valid_N = pairs_N(batch, content_N(batch, self.vocabulary), self.shift)
        wanted_NG = later(content_NG, self.shift)
        loss_N = (self.head(encoder(shown)).float() - wanted_NG).abs().mean(1) * valid_N
        repeat_N = (content_NG - wanted_NG).abs().mean(1) * valid_N
        count = valid_N.sum()
        metrics: Metrics = {"l1": (loss_N.detach().sum(), count), "repeat_l1": (repeat_N.sum(), count)}
        return loss_N.sum(), count, metrics

    @torch.no_grad()
    def content(self, encoder: Encoder, batch: Batch) -> Tensor:
        """(N, G) float32: features of frames, or layer-normed embeddings of tokens."""
        if self.signal:
            return encoder.embeddings.features(batch)
        return F.layer_norm(encoder.embeddings(batch).float(), (self.features,))

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder, each position of which looks at half of its sequence, and the head."""
        encoder = forward_flops(
            model, lengths_squared_sum=batch.squares / 2, positions=batch.tokens, predicted=0, vocabulary=0
        )
        return 3 * (encoder + 2 * batch.tokens * self.head.weight.numel())
