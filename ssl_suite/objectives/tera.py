"""Altered frames restored: Mockingjay (Liu et al. 2020, arXiv:1910.12638) and TERA (Liu et al. 2021, arXiv:2007.06028).

Spans of frames are blanked (or replaced, or left alone), a band of channels is blanked along a whole sequence, and the
encoder has to give back the features as they were. The features are standardised, so blank means the mean.

A blank frame is zeros in the papers, whose encoders add places to the frames. Here places are rotations of queries and
keys: zeros would stay zeros, and the first layer would look everywhere evenly. So [MASK] stands there in the ids, a
learnt vector instead of the map of zeros.

A frame may stack the channels of several windows (speech: two of 80 mel bands); a band is blanked in all of them, or
the other window would tell the answer.

Shapes: N positions, K altered in time, G features of a frame, B sequences; "cells" are single numbers of (N, G).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.rng import Rng
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import encoder_flops
from ssl_suite.objectives import masking
from ssl_suite.objectives.base import Metrics

BLANKED, REPLACED = 0.8, 0.1  # shares of sequences; what remains keeps its frames (section 2.2 of Mockingjay)
NOISE = 0.2  # deviation of the added noise, in units of standardised features (TERA, magnitude alteration)


class FrameHead(nn.Module):
    """(N, D) -> (N, G): dense, gelu, norm, then a linear map."""

    def __init__(self, spec: EncoderSpec, features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.width, spec.width, bias=False)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.out = nn.Linear(spec.width, features)
        for layer in (self.dense, self.out):
            nn.init.trunc_normal_(layer.weight, std=spec.init_std, a=-2 * spec.init_std, b=2 * spec.init_std)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.out(self.norm(F.gelu(self.dense(x_ND))))


class Tera(nn.Module):
    """Args:
    modality: gives the features; ``settings()["stacked"]`` tells how many windows a frame stacks, 1 if it is silent.
    spec: the encoder's shapes.
    time_rate: share of the frames present that are altered.
    time_width: positions of a span.
    frequency_width: the widest band that is blanked, as a share of the channels; widths are even from 0 to it.
    noise_rate: probability that Gaussian noise is added to a sequence.

    Raises:
        SuiteError: spans as long as a sequence.
    """

    def __init__(
        self,
        modality: SignalModality,
        spec: EncoderSpec,
        time_rate: float = 0.15,
        time_width: int = 4,
        frequency_width: float = 0.2,
        noise_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if time_width >= modality.max_length:
            raise SuiteError(f"objective.time_width={time_width} should be below modality.max_length.")
        self.vocabulary = modality.vocabulary
        self.masker, self.noise_rate = masking.Masker(self.vocabulary, time_rate, time_width), noise_rate
        self.features = modality.frame.features
        self.channels = self.features // int(modality.settings().get("stacked", 1))
        self.widest = round(frequency_width * self.channels)
        self.head = FrameHead(spec, self.features)

    def forward(self, encoder: Encoder, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Metrics]:
        """The absolute error summed over all altered cells, and their count.

        Metrics: ``l1`` at the positions altered in time, and on the same cells ``mean_l1`` of predicting the mean and
        ``copy_l1`` of copying what the nearest unaltered position of the sequence shows; ``band_l1`` and
        ``band_mean_l1`` in the blanked bands of the other positions.
        """
        true_NG = encoder.embeddings.features(batch)
        shown, altered_N, band_NG = self.alter(batch, true_NG, rng)
        error_NG = (self.head(encoder(shown)).float() - true_NG).abs()
        copied_NG = self.copied(batch, shown, altered_N)
        in_time_NG, band_NG = altered_N[:, None].expand_as(band_NG), band_NG & ~altered_N[:, None]
        loss_NG = error_NG.detach()
        sums = {
            "l1": (loss_NG, in_time_NG),
            "mean_l1": (true_NG.abs(), in_time_NG),
            "copy_l1": ((copied_NG - true_NG).abs(), in_time_NG),
            "band_l1": (loss_NG, band_NG),
            "band_mean_l1": (true_NG.abs(), band_NG),
        }
        cells_NG = in_time_NG | band_NG
        metrics = {name: ((x_NG * where_NG).sum(), where_NG.sum()) for name, (x_NG, where_NG) in sums.items()}
        return (error_NG * cells_NG).sum(), cells_NG.sum(), metrics

    def alter(self, batch: Batch, true_NG: Tensor, rng: Rng) -> tuple[Batch, Tensor, Tensor]:
        """Draw the alterations.

        Returns:
            shown: what the encoder sees: other features, and [MASK] where a frame is blanked.
            altered_N: (N,) bool, positions altered in time, those that were drawn to keep their frames among them.
            band_NG: (N, G) bool, cells of blanked bands.
        """
        n, slots = len(batch.values) // batch.rows, len(batch.real_B) // batch.rows
        inside_N, sequence_N = masking.maskable_N(batch.values, self.vocabulary), batch.sequence_ids_N()
        picks_K, valid_K = self.masker(batch, rng)
        altered_N = torch.zeros_like(inside_N).index_copy(0, picks_K, valid_K)
        # A draw a sequence, as in Mockingjay: frames that a span keeps would give away its blanked ones.
        case_N = rng.uniform(slots)[sequence_N]
        blanked_N = altered_N & (case_N < BLANKED)
        replaced_N = altered_N & (case_N >= BLANKED) & (case_N < BLANKED + REPLACED)
        shown_NG = torch.where(replaced_N[:, None], true_NG[masking.elsewhere_N(batch, rng)], true_NG)
        band_NG = self._bands(rng, slots)[sequence_N] & inside_N[:, None]
        shown_NG = shown_NG.masked_fill(blanked_N[:, None] | band_NG, 0.0)
        if self.noise_rate:
            noisy_N = rng.uniform(slots)[sequence_N] < self.noise_rate
            shown_NG = shown_NG + NOISE * rng.normal(n * self.features).view_as(shown_NG) * noisy_N[:, None]
        values_N = batch.values.masked_fill(blanked_N, self.vocabulary.mask)
        return replace(batch, values=values_N, features_NG=shown_NG), altered_N, band_NG

    def _bands(self, rng: Rng, slots: int) -> Tensor:
        """(B, G) bool: a band a sequence, the same in each of the windows that a frame stacks."""
        width_B1 = rng.integers(slots, 0, self.widest + 1)[:, None]
        start_B1 = (rng.uniform(slots)[:, None] * (self.channels - width_B1 + 1)).long()
        channel_G = torch.arange(self.features, device=width_B1.device) % self.channels
        return (channel_G >= start_B1) & (channel_G < start_B1 + width_B1)

    def copied(self, batch: Batch, shown: Batch, altered_N: Tensor) -> Tensor:
        """(N, G): what a sequence's nearest unaltered position shows, the earlier one of two; the mean if none."""
        visible_N = masking.maskable_N(batch.values, self.vocabulary) & ~altered_N
        n, sequence_N = len(visible_N), batch.sequence_ids_N()
        here_N = torch.arange(n, device=visible_N.device)
        before_N = here_N.masked_fill(~visible_N, -1).cummax(0).values
        after_N = here_N.masked_fill(~visible_N, n).flip(0).cummin(0).values.flip(0)
        back_N = self._distance(here_N, before_N, sequence_N)
        ahead_N = self._distance(here_N, after_N, sequence_N)
        nearest_N = torch.where(back_N <= ahead_N, before_N, after_N).clamp(0, n - 1)
        assert shown.features_NG is not None
        return shown.features_NG[nearest_N] * (torch.minimum(back_N, ahead_N) < n)[:, None]

    @staticmethod
    def _distance(here_N: Tensor, there_N: Tensor, sequence_N: Tensor) -> Tensor:
        """(N,) how far another position is, N where it does not exist or belongs to another sequence."""
        n = len(here_N)
        exists_N = (there_N >= 0) & (there_N < n)
        same_N = sequence_N[there_N.clamp(0, n - 1)] == sequence_N
        return torch.where(exists_N & same_N, (here_N - there_N).abs(), n)

    def flops(self, model: Mapping[str, Any], batch: Batch) -> float:
        """Of the encoder and the head, both on every position: bands are blanked everywhere."""
        width = model["width"]
        head = 2 * batch.tokens * (width**2 + width * self.features)
        return 3 * (encoder_flops(model, batch) + head)
