"""A convolutional network for sequences of symbols: the network made for a domain, beside the general encoder.

Residual blocks of dilated convolutions over embedded symbols, as in ByteNet (Kalchbrenner et al. 2016,
arXiv:1610.10099) and CARP, which holds up against transformers on proteins (Yang et al. 2022). Trained from scratch.

Shapes: J sequences padded to T positions; N, B and D as in ``core.batch``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.models.padded import groups, scattered
from ssl_suite.models.pooling import mean_pool


@dataclass(frozen=True)
class SequenceCNNSpec:
    """What determines the shapes.

    Attributes:
        vocabulary, pad: V, and the id of [PAD].
        layers, width: blocks, and D.
        kernel: positions of a convolution.
        dilations: of the blocks in turn: 1, 2, 4, 8 and again from 1.
        mlp_width: such that ``models.flops`` counts a block's maps right: kernel D x D and a pointwise D x D, where it
            counts 4 D x D and 3 D x M.
        features, attends: of signals none is read, and nothing attends.
    """

    kind: ClassVar[str] = "sequence_cnn"

    vocabulary: int
    pad: int = 0
    layers: int = 6
    width: int = 128
    kernel: int = 9
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    features: int = 0
    attends: bool = False
    mlp_width: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mlp_width", (self.kernel + 1 - 4) * self.width / 3)


class Block(nn.Module):
    """x + pointwise(gelu(convolution(norm(x)))), zero outside a sequence."""

    def __init__(self, spec: SequenceCNNSpec, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.width)
        reach = dilation * (spec.kernel // 2)
        self.convolution = nn.Conv1d(spec.width, spec.width, spec.kernel, padding=reach, dilation=dilation)
        self.pointwise = nn.Linear(spec.width, spec.width)

    def forward(self, x_JTD: Tensor, seen_JT1: Tensor) -> Tensor:
        inside = self.norm(x_JTD) * seen_JT1  # what lies beside a sequence is nothing, whatever it is padded to
        mixed = self.convolution(inside.transpose(1, 2)).transpose(1, 2)
        return x_JTD + self.pointwise(F.gelu(mixed))


class SequenceCNN(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, spec: SequenceCNNSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embeddings = nn.Embedding(spec.vocabulary, spec.width, padding_idx=spec.pad)
        self.layers = nn.ModuleList(Block(spec, spec.dilations[i % len(spec.dilations)]) for i in range(spec.layers))
        self.final_norm = nn.LayerNorm(spec.width)

    @property
    def width(self) -> int:
        """D, of the states and of the pooled vectors."""
        return self.spec.width

    def forward(self, batch: Batch) -> Tensor:
        """(N, D): the last block's states after the final norm."""
        return self.final_norm(self.layer_states(batch)[-1])

    def layer_states(self, batch: Batch) -> list[Tensor]:
        """The embeddings and every block's states, L + 1 tensors of (N, D), before the final norm."""
        parts, places = [], []
        for place_JT, seen_JT in groups(batch):
            seen_JT1 = seen_JT[..., None].to(self.embeddings.weight.dtype)
            states = [self.embeddings(batch.values[place_JT])]
            for layer in self.layers:
                states.append(layer(states[-1], seen_JT1))
            parts.append(states)
            places.append((place_JT, seen_JT))
        return scattered(batch, places, parts)

    def pooled(self, batch: Batch) -> Tensor:
        """(B, D): each sequence's mean state, its [CLS], [SEP] and [PAD] left out."""
        return mean_pool(self(batch), batch, self.spec.pad)
