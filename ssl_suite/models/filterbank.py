"""The encoder that learns nothing: filter-bank features and their slopes, the baseline of SUPERB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.models.pooling import mean_pool


@dataclass(frozen=True)
class FilterbankSpec:
    """Its shapes: no layer, and nothing for ``models.flops`` to count."""

    kind: ClassVar[str] = "filterbank"

    width: int
    pad: int
    layers: int = 0
    mlp_width: int = 0


class Filterbank(nn.Module):
    """A signal's features (80 log-mel bands twice a position, for speech) and their deltas: (N, 2 G).

    The delta is half the difference of the next position and the one before, inside a sequence; at its ends, and beside
    special tokens, the position itself stands for the one that is not there.
    """

    def __init__(self, modality: Any) -> None:
        super().__init__()
        self.modality, self.layers = modality, nn.ModuleList()
        self.spec = FilterbankSpec(2 * modality.frame.features, modality.vocabulary.pad)
        self.register_buffer("nothing", torch.zeros(0))  # tells its device

    @property
    def width(self) -> int:
        """D = 2 G."""
        return self.spec.width

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """(N, 2 G) float32; zeros at special tokens."""
        inside_N = batch.values >= self.modality.vocabulary.targets[0]
        with torch.autocast(batch.values.device.type, enabled=False):  # an FFT has no bfloat16
            x_NG = self.modality.features(batch).float() * inside_N[:, None]
        before_N, after_N = inside_N.roll(1), inside_N.roll(-1)
        earlier_NG = torch.where(before_N[:, None], x_NG.roll(1, 0), x_NG)
        later_NG = torch.where(after_N[:, None], x_NG.roll(-1, 0), x_NG)
        return torch.cat((x_NG, (later_NG - earlier_NG) / 2), 1) * inside_N[:, None]

    def layer_states(self, batch: Batch) -> list[Tensor]:
        """One: the features."""
        return [self(batch)]

    def pooled(self, batch: Batch) -> Tensor:
        """(B, 2 G): each sequence's mean."""
        return mean_pool(self(batch), batch, self.spec.pad)
