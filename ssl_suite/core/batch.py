"""The ragged batch: whole sequences end to end, one row of N positions, no FLOP spent on padding.

Shape legend, used in suffixes throughout the package:
    N  positions of a batch         B  sequences in it            K  positions predicted
    D  width of the encoder         H  attention heads            E  width of a head
    F  features of a frame          V  vocabulary size            L  layers
    R  rows (packing units) of a batch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.records import Vocabulary


@dataclass(frozen=True)
class Batch:
    """B whole sequences end to end.

    Attributes:
        values: (N,) int64 ids: tokens, or units where a position is a frame of a signal.
        offsets_B1: (B+1,) int32, where each sequence begins; the first is 0, the last is N. Sequences may be empty:
            B is a constant of the run, so that shapes are static.
        max_length: the longest sequence any batch of the run may hold (a host integer, constant).
        lengths: the sequences' lengths on the host, ``B`` integers; the CPU attention path walks them.
        real_B: (B,) bool, True where a sequence carries data.
        index_B: (B,) int64, the number of each sequence in its store (-1 for padding): names the records of a bad batch
            and keys draws that must not change from epoch to epoch.
        tokens, squares: positions that carry data, and the sum of their sequences' lengths squared; host integers, for
            throughput and FLOP counts.
        rows: how many packing rows the batch holds, each of N / rows positions and B / rows sequences.
        segments_N: (N,) int64, 0 or 1 in pair tasks, else None.
        frames_NF: (N, F) the raw signal of each position, uint8 pixels or int16 samples, zeros at special tokens;
            None for tokens.
        features_NG: (N, G) what stands in for the features of ``frames_NF``, where an objective altered them.
        places_N: (N,) int64 each position's place in its sequence, where positions in between were dropped.
        labels_B: (B,) int64 a class of each sequence, -100 where it has none.
        target: what a decoder reads and predicts: another batch, as many sequences in the same order.
    """

    values: Tensor
    offsets_B1: Tensor
    max_length: int
    lengths: tuple[int, ...]
    real_B: Tensor
    index_B: Tensor
    tokens: int
    squares: int
    rows: int = 1
    segments_N: Tensor | None = None
    frames_NF: Tensor | None = None
    features_NG: Tensor | None = None
    places_N: Tensor | None = None
    labels_B: Tensor | None = None
    target: Batch | None = None

    def with_values(self, values: Tensor, frames_NF: Tensor | None = None) -> Batch:
        """The same layout with other ids (and frames), as masking and augmentation need it."""
        return replace(self, values=values, frames_NF=self.frames_NF if frames_NF is None else frames_NF)

    def to(self, device: torch.device) -> Batch:
        """Every tensor on ``device``; copies are non-blocking (the source is pinned on CUDA)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Batch:
        """Every tensor in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(x) for name, x in parts.items() if isinstance(x, Tensor)}
        if self.target is not None:
            changed["target"] = self.target._map(change)
        return replace(self, **changed)

    def sequence_ids_N(self) -> Tensor:
        """(N,) int64: the number of the sequence each position belongs to."""
        positions_N = torch.arange(self.values.shape[0], device=self.values.device, dtype=torch.int32)
        return torch.searchsorted(self.offsets_B1[1:], positions_N, right=True)

    def positions_N(self) -> Tensor:
        """(N,) int64: each position's place inside its own sequence, from 0; ``places_N`` where it is given."""
        if self.places_N is not None:
            return self.places_N
        ids_N = self.sequence_ids_N()
        return torch.arange(self.values.shape[0], device=self.values.device) - self.offsets_B1[ids_N].long()

    def without_padding(self, pad: int) -> Batch:
        """The same positions as 2B sequences: each slot's content, then the [PAD] at its end as a sequence of its own.

        A view that was cropped leaves [PAD] in its slot, which attention must not see. Contents stand at even places.
        """
        filled_N1 = torch.nn.functional.pad((self.values != pad).int().cumsum(0, dtype=torch.int32), (1, 0))
        starts_B, ends_B = self.offsets_B1[:-1], self.offsets_B1[1:]
        middle_B = starts_B + filled_N1[ends_B.long()] - filled_N1[starts_B.long()]
        offsets = torch.cat((torch.stack((starts_B, middle_B), 1).flatten(), ends_B[-1:]))
        nothing_B = torch.zeros_like(self.real_B)
        return replace(
            self,
            offsets_B1=offsets,
            # Only the CPU path reads the lengths; from a GPU they would have to be waited for.
            lengths=tuple(offsets.diff().tolist()) if offsets.device.type == "cpu" else self.lengths,
            real_B=torch.stack((self.real_B, nothing_B), 1).flatten(),
            index_B=torch.stack((self.index_B, torch.full_like(self.index_B, -1)), 1).flatten(),
            labels_B=None,
        )


def ragged(
    sequences: list[np.ndarray],
    vocabulary: Vocabulary,
    max_length: int,
    segments: list[np.ndarray] | None = None,
) -> Batch:
    """[CLS] sequence [SEP] end to end: as many positions as there are tokens, no padding.

    Args:
        sequences: each (length,) ids, or (length, F) frames, whose ids are then the first unit's: whoever looks at a
            signal without a codebook has frames only.
        vocabulary: for the special tokens.
        max_length: of the batch.
        segments: each (length,) 0 or 1 of pairs; [CLS] gets 0, [SEP] that of the position before it.
    """
    lengths = np.array([len(sequence) + 2 for sequence in sequences], np.int64)
    ends = np.cumsum(lengths)
    signal = sequences[0].ndim == 2
    values = np.full(ends[-1], vocabulary.targets[0], np.int64)
    frames = np.zeros((ends[-1], sequences[0].shape[1]), sequences[0].dtype) if signal else None
    inside = np.ones(ends[-1], dtype=bool)
    inside[ends - lengths] = inside[ends - 1] = False
    (values if frames is None else frames)[inside] = np.concatenate(sequences)
    values[ends - lengths], values[ends - 1] = vocabulary.cls, vocabulary.sep
    segments_N = None
    if segments is not None:
        segments_N = torch.from_numpy(np.concatenate([framed(each) for each in segments]))
    return Batch(
        values=torch.from_numpy(values),
        frames_NF=None if frames is None else torch.from_numpy(frames),
        offsets_B1=torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
        max_length=max_length,
        lengths=tuple(lengths.tolist()),
        real_B=torch.ones(len(lengths), dtype=torch.bool),
        index_B=torch.arange(len(lengths)),
        tokens=int(lengths.sum()),
        squares=int((lengths**2).sum()),
        segments_N=segments_N,
    )


def framed(segments: np.ndarray) -> np.ndarray:
    """(length + 2,) int64: the segments of a sequence with its [CLS] and [SEP]."""
    return np.concatenate([[0], segments, segments[-1:]]).astype(np.int64)
