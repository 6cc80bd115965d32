"""Records to vectors: one vector a record, in the order of the input, at a bounded amount of memory."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ssl_suite.data.batch import Batch, ragged
from ssl_suite.data.faults import BadRecord
from ssl_suite.errors import SuiteError
from ssl_suite.modalities.signals import SignalModality
from ssl_suite.models.pooling import mean_pool
from ssl_suite.training.units import identified, points_of

if TYPE_CHECKING:
    from ssl_suite.modalities.base import Fault, Modality, Record
    from ssl_suite.models.encoder import Encoder

FRAME = 2  # [CLS] and [SEP] around each sequence
POOL = 16  # batches that are sorted by length together, so that equal lengths meet and attention takes them in one call


@dataclass(frozen=True)
class Embedded:
    """A record's vector.

    Attributes:
        name, source: of the record.
        vector_D: (D,) float32.
        tokens: of the whole record, [CLS] and [SEP] not counted.
        windows: pieces it was cut into; 1 unless it is longer than the model's window.
    """

    name: str
    source: str
    vector_D: np.ndarray
    tokens: int
    windows: int


@dataclass
class _Pending:
    """A record whose pieces are not all done."""

    record: Record
    tokens: int
    windows: int
    left: int
    sum_D: Any = 0.0  # (D,) float64 once a piece is done

    def finished(self) -> Embedded:
        vector_D = (self.sum_D / self.tokens).astype(np.float32)
        return Embedded(self.record.name, self.record.source, vector_D, self.tokens, self.windows)


class Embedder:
    """Applies one encoder.

    Args:
        encoder, modality: as ``ssl_suite.training.restore.load_run`` gives them; the encoder's device is used.
        pooling: ``mean`` over a record's tokens, or the state of [CLS].
        layer: 0 is the embedding, 1..L the layers, -1 the last one after the final norm (so is L), -2 the one before.
            A convnet has one vector a picture and no states of positions: ``mean`` and -1 stand for it.
        batch_tokens: positions of a forward pass; memory grows with it, the result does not depend on it.

    Raises:
        SuiteError: the encoder has no such layer, or no [CLS].
    """

    def __init__(
        self,
        encoder: Encoder,
        modality: Modality,
        pooling: Literal["mean", "cls"] = "mean",
        layer: int = -1,
        batch_tokens: int = 8192,
    ) -> None:
        self.one_vector = not hasattr(encoder, "layer_states")
        if self.one_vector and (layer != -1 or pooling != "mean"):
            raise SuiteError(f"layer={layer} pooling={pooling}: a convnet gives one vector; use layer=-1 pooling=mean.")
        depth = len(encoder.layers)
        if not -depth - 1 <= layer <= depth:
            raise SuiteError(f"layer={layer} does not exist: choose one from {-depth - 1} to {depth}.")
        self.encoder, self.modality, self.pooling, self.batch_tokens = encoder, modality, pooling, batch_tokens
        self.layer = None if layer in (-1, depth) else layer
        self.device = next(encoder.parameters()).device
        self.points = None  # of an encoder that reads a signal's units, not its frames
        if isinstance(modality, SignalModality) and not self.one_vector and not encoder.spec.features:
            self.points = points_of(modality, self.device)

    def records(self, records: Iterable[Record], fault: Fault) -> Iterator[Embedded]:
        """One result a record, in order.

        A record longer than the window is cut into windows that do not overlap; its vector is their mean, weighted by
        length, so mean pooling is the mean over all of its tokens.

        Args:
            fault: called with each record that cannot be encoded or has no token.
        """
        waiting: deque[_Pending] = deque()
        pool: list[tuple[_Pending, np.ndarray]] = []
        size, window = 0, self.modality.max_length - FRAME
        for record in records:
            try:
                values = self.modality.encode(record).values
                if not len(values):
                    raise BadRecord(f"{record.source}, record {record.name}: holds no whole token.", "no token")
            except SuiteError as error:
                fault(error)
                continue
            count = -(-len(values) // window)
            waiting.append(entry := _Pending(record, len(values), count, count))
            for start in range(0, len(values), window):
                pool.append((entry, values[start : start + window]))
                size += min(window, len(values) - start) + FRAME
                if size >= POOL * self.batch_tokens:
                    self._run(pool)
                    pool, size = [], 0
                    while waiting and not waiting[0].left:
                        yield waiting.popleft().finished()
        self._run(pool)
        yield from (entry.finished() for entry in waiting)

    def _run(self, pool: list[tuple[_Pending, np.ndarray]]) -> None:
        """Add each piece's vector, times its length, to its record."""
        ordered = sorted(pool, key=lambda item: -len(item[1]))
        first, size = 0, 0
        for place, (_, values) in enumerate(ordered):
            if place > first and size + len(values) + FRAME > self.batch_tokens:
                self._add(ordered[first:place])
                first, size = place, 0
            size += len(values) + FRAME
        if ordered:
            self._add(ordered[first:])

    def _add(self, pieces: list[tuple[_Pending, np.ndarray]]) -> None:
        vectors_BD = self.vectors([values for _, values in pieces])
        for (entry, values), vector_D in zip(pieces, vectors_BD.astype(np.float64), strict=True):
            entry.sum_D = entry.sum_D + vector_D * len(values)
            entry.left -= 1

    @torch.inference_mode()
    def vectors(self, sequences: list[np.ndarray]) -> np.ndarray:
        """(B, D) float32: the pooled states of sequences of token ids, each at least one long."""
        batch = ragged(sequences, self.modality.vocabulary, self.modality.max_length).to(self.device)
        with autocast(self.device):
            if isinstance(self.modality, SignalModality) and self.points is not None:
                batch = identified(self.modality, batch, self.points)
            if self.one_vector:
                return self.encoder.pooled(batch).float().cpu().numpy()
            states_ND = self.encoder(batch) if self.layer is None else self.encoder.layer_states(batch)[self.layer]
        return self._pool(states_ND.float(), batch).cpu().numpy()

    def _pool(self, states_ND: Tensor, batch: Batch) -> Tensor:
        if self.pooling == "cls":
            return states_ND[batch.offsets_B1[:-1].long()]
        return mean_pool(states_ND, batch, self.modality.vocabulary.pad)


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 where the varlen attention path needs it, as in training; float32 elsewhere."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
