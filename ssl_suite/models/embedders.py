"""From what stands at a position to D numbers: one small module a kind of input, everything after it is shared.

Shapes: N positions, D width, V vocabulary, G features of a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.modalities.base import Modality
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.encoder import EncoderSpec, TokenEmbedder


class FrameEmbedder(TokenEmbedder):
    """Frames of a signal to (N, D): a linear map of their features, or the table's entry at special tokens.

    The table has a row a unit as well: a masked objective's head shares them, as it shares a token's. Cells of a
    picture add learnt rows and columns, for the rotary positions know a line only.
    """

    def __init__(self, spec: EncoderSpec, modality: SignalModality) -> None:
        super().__init__(spec)
        self.modality, self.first_unit = modality, modality.vocabulary.targets[0]
        self.frames = nn.Linear(spec.features, spec.width, bias=False)
        self.grid = spec.grid
        if self.grid is not None:
            self.row_embeddings = nn.Embedding(self.grid[0], spec.width)
            self.column_embeddings = nn.Embedding(self.grid[1], spec.width)

    def forward(self, batch: Batch) -> Tensor:
        return self.norm(self.before_norm(batch))

    @torch.no_grad()
    def features(self, batch: Batch) -> Tensor:
        """(N, G) float32 features of the batch's frames."""
        with torch.autocast(batch.values.device.type, enabled=False):  # an FFT has no bfloat16
            return self.modality.features(batch)

    def before_norm(self, batch: Batch) -> Tensor:
        """(N, D): what ``transformers.ModernBertModel`` takes as ``inputs_embeds``."""
        features_NG = self.features(batch) if batch.features_NG is None else batch.features_NG
        special_N = batch.values < self.first_unit
        # Units look up row 0: their own rows are the head's, and the padding row takes no gradient.
        x_ND = torch.where(special_N[:, None], self.tok_embeddings(batch.values * special_N), self.frames(features_NG))
        if self.grid is None:
            return x_ND
        rows, columns = self.grid
        cell_N = batch.positions_N() - 1  # position 0 is [CLS]
        inside_N = (cell_N >= 0) & (cell_N < rows * columns) & batch.real_B[batch.sequence_ids_N()]
        cell_N = cell_N.clamp(0, rows * columns - 1)
        place_ND = self.row_embeddings(cell_N // columns) + self.column_embeddings(cell_N % columns)
        return x_ND + place_ND * inside_N[:, None]


def embedder(spec: EncoderSpec, modality: Modality) -> nn.Module:
    """A table for ids (a signal's units among them), or a linear map for frames."""
    if isinstance(modality, SignalModality) and spec.features:
        return FrameEmbedder(spec, modality)
    return TokenEmbedder(spec)
