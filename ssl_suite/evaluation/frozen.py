"""Frozen encoders under a head: the softmax-weighted sum of all hidden states, as in SUPERB (arXiv:2105.01051).

    sequences   the mean of every hidden state, computed once: pooling is linear, so the mean of a weighted sum is the
                weighted sum of means, and the encoder runs once over the data, not once a step
    positions   of tokens and frames every hidden state, on disk in float16 where they take at most ``CACHE`` bytes;
                beyond that the frozen encoder runs inside the trainer

Shapes: S sequences of a split; L + 1 hidden states of D numbers; B and N as in ``core.batch``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.data.store import Windows
from ssl_suite.evaluation import encode
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality

CACHE = 2 << 30  # bytes of a task's hidden states: an hour of speech at 50 frames a second, 5 layers of 384, is 0.7 GB


@dataclass(frozen=True)
class LayerMixSpec:
    """The shapes, as ``models.flops`` and the trainer ask for them: no layer, nothing but weights."""

    kind: ClassVar[str] = "layer_mix"

    width: int
    layers: int = 0
    mlp_width: int = 0


class LayerMix(nn.Module):
    """A sequence's vector from those of its layers: each standardised by the training split, then softmax-weighted.

    Args:
        mean_LD, deviation_LD: of the training split.
    """

    def __init__(self, mean_LD: Tensor, deviation_LD: Tensor) -> None:
        super().__init__()
        self.spec = LayerMixSpec(mean_LD.shape[1])
        self.layers = nn.ModuleList()
        self.register_buffer("mean_LD", mean_LD)
        self.register_buffer("deviation_LD", deviation_LD)
        self.weights_L = nn.Parameter(torch.zeros(len(mean_LD)))

    @property
    def width(self) -> int:
        """D."""
        return self.spec.width

    def pooled(self, batch: Batch) -> Tensor:
        """(B, D), from batches whose sequences have one position that carries the vectors of all layers."""
        assert batch.frames_NF is not None
        place_B = (batch.offsets_B1[:-1].long() + 1).clamp(max=len(batch.values) - 1)
        vectors_BLD = batch.frames_NF[place_B].unflatten(1, self.mean_LD.shape)
        return torch.einsum("bld,l->bd", (vectors_BLD - self.mean_LD) / self.deviation_LD, self.weights_L.softmax(0))


class PositionMix(nn.Module):
    """The states of positions from those of all layers, each normalised by itself (no statistics), softmax-weighted.

    Args:
        count: L + 1.
        width: D.
        encoder: runs in each step, without gradient; None where batches carry the hidden states as their frames.
        ready: what makes a batch ready for the encoder, see ``encode.input_mapper``.
    """

    def __init__(self, count: int, width: int, encoder: Any = None, ready: Any = None) -> None:
        super().__init__()
        self.spec = LayerMixSpec(width)
        self.layers = nn.ModuleList()
        self.weights_L = nn.Parameter(torch.zeros(count))
        # Kept out of the module's children: a frozen encoder is neither trained nor written into checkpoints.
        self._frozen = (encoder, ready)

    @property
    def width(self) -> int:
        """D."""
        return self.spec.width

    def forward(self, batch: Batch) -> Tensor:
        """(N, D)."""
        encoder, ready = self._frozen
        if encoder is None:
            assert batch.frames_NF is not None
            states_NLD = batch.frames_NF.float().unflatten(1, (len(self.weights_L), self.spec.width))
        else:
            with torch.no_grad():
                states_NLD = torch.stack([state.float() for state in encode.all_layers(encoder, ready(batch))], 1)
        return torch.einsum("nld,l->nd", F.layer_norm(states_NLD, states_NLD.shape[-1:]), self.weights_L.softmax(0))


def sequence_features(
    encoder: Any, data: TaskData, modality: Modality, splits: tuple[str, ...], at_once: int = encode.AT_ONCE
) -> tuple[TaskData, LayerMix]:
    """The task's data with every sequence's vectors in the place of its positions, and what reads them.

    Args:
        splits: those to compute. The first one's mean and deviation standardise: train's, or a checkpoint's that is
            loaded over them.
    """
    found = {split: encode.pooled(encoder, data, modality, split, at_once) for split in splits}
    parts, start = {}, 0
    for split in splits:
        part, count = data.parts[split], len(found[split])
        windows = Windows(np.arange(start, start + count), np.ones(count, np.int32), part.windows.records_S)
        parts[split] = replace(part, windows=windows)
        start += count
    values_SF = np.concatenate([vectors.reshape(len(vectors), -1) for vectors in found.values()])
    train_SLD = torch.from_numpy(found[splits[0]])
    deviation_LD = train_SLD.std(0, unbiased=False).clamp(min=1e-6)
    made = replace(data, values=values_SF, parts=parts, units=None, segments=None, marks=None)
    return made, LayerMix(train_SLD.mean(0), deviation_LD)


def position_features(
    encoder: Any, data: TaskData, modality: Modality, splits: tuple[str, ...], folder: Path, most: int = CACHE
) -> tuple[TaskData, PositionMix]:
    """The task's data with the hidden states of every position in its place, in float16 in a file below ``folder``; or,
    where they would take more than ``most`` bytes, the data as they are and an encoder that runs in each step.
    """
    device, width = encode.device_of(encoder), int(encoder.spec.width)
    count = len(encoder.layers) + 1
    size = 2 * len(data.values) * count * width
    if size > most:
        return data, PositionMix(count, width, encoder, encode.input_mapper(encoder, modality, device))
    folder.mkdir(parents=True, exist_ok=True)
    values_TF = np.lib.format.open_memmap(folder / "states.npy", "w+", np.float16, (len(data.values), count * width))
    for split in splits:
        windows = data.parts[split].windows
        for s, states_TLD in encode.states(encoder, modality, encode.sequences_of(data, split, once=True), "position"):
            start = int(windows.starts_S[s])
            values_TF[start : start + len(states_TLD)] = states_TLD.reshape(len(states_TLD), -1)
    return replace(data, values=values_TF, units=None), PositionMix(count, width)
