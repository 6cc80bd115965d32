"""Frozen encoders under a head: the softmax-weighted sum of all hidden states, as in SUPERB (arXiv:2105.01051).

    sequences   the mean of every hidden state, computed once: pooling is linear, so the mean of a weighted sum is the
                weighted sum of means, and the encoder runs once over the data, not once a step
    positions   of tokens and frames every hidden state, on disk in float16 where they take at most ``CACHE`` bytes;
                beyond that the frozen encoder runs inside the trainer

Both lie in a folder (``Features``) that all trials of a cell share: rates and seeds differ in the head alone. SUPERB
sums the states as they are (s3prl's Featurizer without its ``normalize``); here each is brought to one scale first, as
layers of some encoders are a hundred times larger than others.

Shapes: S sequences of a split; L + 1 hidden states of D numbers; B and N as in ``core.batch``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core import atomic
from ssl_suite.core.batch import Batch
from ssl_suite.core.errors import SuiteError
from ssl_suite.data.store import Windows
from ssl_suite.evaluation import encode
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.models.weights import digest

if TYPE_CHECKING:
    from ssl_suite.evaluation.encoders import Opened

FORMAT = 1  # of the files; part of a folder's key
LARGEST = float(np.finfo(np.float16).max)
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

    scaled: ClassVar[str] = "standardised over train"
    mean_LD: Tensor
    deviation_LD: Tensor

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

    scaled: ClassVar[str] = "layer norm of each position"

    def __init__(self, count: int, width: int, encoder: Any = None, ready: Any = None) -> None:
        super().__init__()
        self.spec = LayerMixSpec(width)
        self.layers = nn.ModuleList()
        self.weights_L = nn.Parameter(torch.zeros(count))
        # Kept out of the module's children: a frozen encoder is neither trained nor written into checkpoints.
        self._frozen = (encoder, ready)
        self.layers_read = slice(None)

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
                states = encode.all_layers(encoder, ready(batch))[self.layers_read]
                states_NLD = torch.stack([state.float() for state in states], 1)
        return torch.einsum("nld,l->nd", F.layer_norm(states_NLD, states_NLD.shape[-1:]), self.weights_L.softmax(0))


class Features:
    """What a frozen encoder gives on a task's data, in a folder that outlives a trial. The encoder is opened where
    something is not there yet, and no sooner.

        facts.json     what a row says of the encoder, and the shape of its states
        PART.npy       (S, L + 1, D) float32 means of a part's sequences
        states.npy     (positions, (L + 1) D) float16 of all parts, and PART.json once those of a part are in it

    Args:
        folder: its name says what determines the states.
        open_encoder: gives the encoder, in evaluation mode.
        device: where it runs.
        report: takes the tokens of each forward pass; it may raise, and then nothing of the part is kept.
    """

    def __init__(
        self,
        folder: Path,
        open_encoder: Callable[[], Opened],
        device: torch.device,
        report: Callable[[int], None] | None = None,
    ) -> None:
        self.report = report
        self.folder, self.device, self._open, self._encoder = folder, device, open_encoder, None
        if not (folder / "facts.json").is_file():
            opened = self._opened()
            shape = {"states": len(getattr(opened.encoder, "layers", ())) + 1, "width": int(opened.encoder.width)}
            folder.mkdir(parents=True, exist_ok=True)
            atomic.write_json(folder / "facts.json", {"encoder": opened.facts(), **shape})
        found = json.loads((folder / "facts.json").read_text("utf-8"))
        self.facts, self.count, self.width = found["encoder"], found["states"], found["width"]

    def _opened(self) -> Opened:
        opened = self._open()
        self._encoder, self._digest = opened.encoder.to(self.device), digest(opened.encoder)
        return opened

    @property
    def encoder(self) -> Any:
        """The frozen encoder, on its device."""
        if self._encoder is None:
            self._opened()
        return self._encoder

    def check(self) -> None:
        """Raise where a weight of the encoder has moved since it was opened."""
        if self._encoder is not None and digest(self._encoder) != self._digest:
            raise SuiteError(f"{self.folder}: the frozen encoder's weights moved; this is a fault of the suite.")

    def means(self, data: TaskData, modality: Modality, split: str, at_once: int = encode.AT_ONCE) -> np.ndarray:
        """(S, L + 1, D) float32 of a part's sequences."""
        path = self.folder / f"{split}.npy"
        if not path.is_file():
            found_SLD = encode.pooled(self.encoder, data, modality, split, at_once, self.report)
            self.check()
            with atomic.replacing(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, found_SLD)
        return np.load(path)

    def positions(self, data: TaskData, modality: Modality, splits: tuple[str, ...]) -> np.ndarray:
        """(positions, (L + 1) D) float16, a file in memory; only the places of ``splits`` hold states for certain."""
        path, shape = self.folder / "states.npy", (len(data.values), self.count * self.width)
        written = {split: self.folder / f"{split}.json" for split in splits}
        absent = [split for split in splits if not (path.is_file() and written[split].is_file())]
        if not path.is_file():
            for old in self.folder.glob("*.json"):  # of a file that somebody removed
                old.unlink() if old.name != "facts.json" else None
            with atomic.replacing(path) as unfinished:
                np.lib.format.open_memmap(unfinished, "w+", np.float16, shape).flush()
        if absent:
            values_TF = np.lib.format.open_memmap(path, "r+")
            for split in absent:
                self._write(values_TF, data, modality, split)
                values_TF.flush()
                self.check()
                atomic.write_json(written[split], {"sequences": len(data.split(split))})
        return np.lib.format.open_memmap(path, "r")

    def _write(self, values_TF: np.ndarray, data: TaskData, modality: Modality, split: str) -> None:
        starts_S = data.split(split).starts_S
        sequences = encode.sequences_of(data, split, once=True)
        for s, states_TLD in encode.states(self.encoder, modality, sequences, "position", report=self.report):
            start, flat_TF = int(starts_S[s]), states_TLD.reshape(len(states_TLD), -1)
            values_TF[start : start + len(flat_TF)] = flat_TF.clip(-LARGEST, LARGEST)


def sequence_features(
    features: Features, data: TaskData, modality: Modality, splits: tuple[str, ...], at_once: int = encode.AT_ONCE
) -> tuple[TaskData, LayerMix]:
    """The task's data with every sequence's vectors in the place of its positions, and what reads them.

    Args:
        splits: those to compute. The first one's mean and deviation standardise: train's, or a checkpoint's that is
            loaded over them.
    """
    found = {split: features.means(data, modality, split, at_once) for split in splits}
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
    features: Features, data: TaskData, modality: Modality, splits: tuple[str, ...], most: int | None = None
) -> tuple[TaskData, PositionMix]:
    """The task's data with the hidden states of every position in its place; or, where they would take more than
    ``most`` bytes (``CACHE``), the data as they are and an encoder that runs in each step.
    """
    count, width = features.count, features.width
    if 2 * len(data.values) * count * width > (CACHE if most is None else most):
        ready = encode.input_mapper(features.encoder, modality, features.device)
        return data, PositionMix(count, width, features.encoder, ready)
    values_TF = features.positions(data, modality, splits)
    return replace(data, values=values_TF, units=None), PositionMix(count, width)


def one_layer(data: TaskData, mix: LayerMix | PositionMix, layer: int) -> tuple[TaskData, LayerMix | PositionMix]:
    """The same features of one hidden state alone, and what reads them. Raises SuiteError: there is no such layer."""
    count, width = len(mix.weights_L), mix.width
    if not 0 <= layer < count:
        raise SuiteError(f"layer={layer} should be from 0 (the embedder's output) to {count - 1}.")
    one = slice(layer, layer + 1)
    if isinstance(mix, PositionMix) and mix._frozen[0] is not None:
        alone = PositionMix(1, width, *mix._frozen)
        alone.layers_read = one
        return data, alone
    of_layer = replace(data, values=data.values[:, layer * width : (layer + 1) * width])
    if isinstance(mix, LayerMix):
        return of_layer, LayerMix(mix.mean_LD[one], mix.deviation_LD[one])
    return of_layer, PositionMix(1, width)
