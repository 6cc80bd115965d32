"""The encoder that learns nothing: filter-bank features and their slopes, the baseline of SUPERB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.modalities.speech_features import bounds, delta
from ssl_suite.models.pooling import mean_pool


@dataclass(frozen=True)
class FilterbankSpec:
    """Its shapes: no layer, and nothing for ``models.flops`` to count."""

    kind: ClassVar[str] = "filterbank"

    width: int
    pad: int
    features: int
    layers: int = 0
    mlp_width: int = 0


class Filterbank(nn.Module):
    """80 log-mel bands of each 10 ms, their deltas and the deltas' deltas, as in s3prl's ``fbank``: (N, 480), two such
    windows a position of 20 ms, which keeps the features' own rate.

    A delta is the slope of a line through five windows; beyond a sequence's ends its first and last are repeated.
    """

    version: ClassVar[int] = 2  # 2: slopes over windows and not over positions, and second ones

    def __init__(self, modality: Any) -> None:
        super().__init__()
        self.modality, self.layers, features = modality, nn.ModuleList(), modality.frame.features
        self.spec = FilterbankSpec(3 * features, modality.vocabulary.pad, features)
        self.register_buffer("nothing", torch.zeros(0))  # tells its device

    @property
    def width(self) -> int:
        """D = 3 G."""
        return self.spec.width

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """(N, 3 G) float32; zeros at special tokens."""
        inside_N = batch.values >= self.modality.vocabulary.targets[0]
        with torch.autocast(batch.values.device.type, enabled=False):  # an FFT has no bfloat16
            x_MB = self.modality.features(batch).float().view(2 * len(inside_N), -1)
        first_M, last_M = bounds(batch, self.spec.pad)
        once_MB = delta(x_MB, first_M, last_M)
        all_MK = torch.cat((x_MB, once_MB, delta(once_MB, first_M, last_M)), 1)
        return all_MK.view(len(inside_N), -1) * inside_N[:, None]

    def layer_states(self, batch: Batch) -> list[Tensor]:
        """One: the features."""
        return [self(batch)]

    def pooled(self, batch: Batch) -> Tensor:
        """(B, 3 G): each sequence's mean."""
        return mean_pool(self(batch), batch, self.spec.pad)
