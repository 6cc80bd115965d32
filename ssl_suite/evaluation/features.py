"""Frozen encoders: every sequence's vector from every layer, computed once; then a head on those.

Probing as in SUPERB (Yang et al. 2021, arXiv:2105.01051): the features are the softmax-weighted sum of all hidden
states. Pooling is linear, so the mean of a weighted sum is the weighted sum of means, and one vector a layer is all
that a head needs: the encoder runs once over the data, not once a step.

Shapes: S sequences of a split; L + 1 hidden states of D numbers; B and N as in ``data.batch``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ssl_suite.data.batch import Batch
from ssl_suite.data.store import Windows
from ssl_suite.evaluation import passes
from ssl_suite.evaluation.embedding import autocast
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.models.pooling import mean_pool


def pooled(encoder: Any, data: TaskData, modality: Modality, split: str, at_once: int = passes.AT_ONCE) -> np.ndarray:
    """(S, L + 1, D) float32: the mean of each hidden state over a sequence, from an encoder that stands still.

    The last is what the encoder gives (after its final norm). An encoder with one vector a record has one "layer".

    Args:
        at_once: positions of a forward pass.
    """
    encoder.eval()
    device = next(itertools.chain(encoder.parameters(), encoder.buffers())).device

    def vectors(batch: Batch) -> Tensor:
        with autocast(device):
            return torch.stack(_vectors(encoder, batch, modality.vocabulary.pad), 1)

    return passes.over(data, modality, split, device, vectors, at_once)


def _vectors(encoder: Any, batch: Batch, pad: int) -> list[Tensor]:
    if not hasattr(encoder, "layer_states"):
        return [encoder.pooled(batch)]
    states = encoder.layer_states(batch)
    norm = getattr(encoder, "final_norm", None)
    states[-1] = states[-1] if norm is None else norm(states[-1])
    return [mean_pool(state, batch, pad) for state in states]


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


def precomputed(
    encoder: Any,
    data: TaskData,
    modality: Modality,
    splits: tuple[str, ...] = ("train", "dev", "test"),
    at_once: int = passes.AT_ONCE,
) -> tuple[TaskData, LayerMix]:
    """The task's data with every sequence's vectors in the place of its positions, and what reads them.

    Args:
        splits: those to compute. The first one's mean and deviation standardise: train's, or a checkpoint's that is
            loaded over them.
    """
    found = {split: pooled(encoder, data, modality, split, at_once) for split in splits}
    parts, start = {}, 0
    for split in splits:
        part = data.parts[split]
        count = len(found[split])
        windows = Windows(np.arange(start, start + count), np.ones(count, np.int32), part.windows.records_S)
        parts[split] = replace(part, windows=windows)
        start += count
    values_SF = np.concatenate([vectors.reshape(len(vectors), -1) for vectors in found.values()])
    train_SLD = torch.from_numpy(found[splits[0]])
    deviation_LD = train_SLD.std(0, unbiased=False).clamp(min=1e-6)
    return replace(data, values=values_SF, parts=parts, units=None), LayerMix(train_SLD.mean(0), deviation_LD)
