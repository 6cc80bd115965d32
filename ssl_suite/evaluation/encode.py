"""The one engine that runs an encoder over sequences without gradients: embeddings, probes, analyses, predictions.

Sequences go through in pools that are sorted by length, so that equal lengths meet and attention takes them in one
call; what comes out comes in the order in which they went in. Shapes: D width, L + 1 hidden states (the embedder's
output and every layer's, the last one after the final norm).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from ssl_suite.core.batch import Batch, ragged
from ssl_suite.data.loader import FRAME
from ssl_suite.evaluation.items import Sequence
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality
from ssl_suite.models.pooling import mean_pool

AT_ONCE = 8192  # positions of a forward pass; memory grows with it, the result does not depend on it
POOL = 16  # forward passes whose sequences are sorted together

Key = TypeVar("Key")
Granularity = Literal["sequence", "position"]


def sequences_of(data: TaskData, split: str, once: bool = False) -> Iterator[tuple[int, Sequence]]:
    """The sequences of a part with their numbers; ``once`` leaves out those that an earlier one shares its place with,
    as the recordings of many trials do."""
    seen: set[int] = set()
    for s, (_, start, length) in enumerate(data.split(split).each()):
        if once and start in seen:
            continue
        seen.add(start)
        inside = slice(start, start + length)
        yield s, Sequence(data.values[inside], None if data.segments is None else data.segments[inside])


@torch.no_grad()
def run_batches(
    sequences: Iterable[tuple[Key, Sequence]],
    modality: Modality,
    device: torch.device,
    compute: Callable[[Batch], Tensor],
    granularity: Granularity = "sequence",
    at_once: int = AT_ONCE,
    report: Callable[[int], None] | None = None,
) -> Iterator[tuple[Key, np.ndarray]]:
    """Each sequence's rows of what ``compute`` gives, in order.

    Args:
        compute: (B, …) of a batch's sequences, or (N, …) of its positions.
        granularity: which of the two; of positions those between [CLS] and [SEP] are kept.
        at_once: positions of a forward pass; a longer sequence is one of its own.
        report: takes the tokens of each forward pass when it is done.
    """
    for pool in _pools(sequences, POOL * at_once):
        found: dict[int, np.ndarray] = {}
        order = sorted(range(len(pool)), key=lambda i: -len(pool[i][1].values))
        for some in split_by_size(order, [len(sequence.values) + FRAME for _, sequence in pool], at_once):
            given = [pool[i][1] for i in some]
            pairs = [sequence.segments for sequence in given if sequence.segments is not None]
            values = [np.asarray(sequence.values) for sequence in given]
            batch = ragged(values, modality.vocabulary, modality.max_length, pairs or None).to(device)
            rows = compute(batch).float().cpu().numpy()
            if report is not None:
                report(sum(map(len, values)))
            if granularity == "sequence":
                found |= dict(zip(some, rows, strict=True))
                continue
            ends = np.cumsum(batch.lengths)
            for i, end, length in zip(some, ends.tolist(), batch.lengths, strict=True):
                found[i] = rows[end - length + 1 : end - 1]
        yield from ((key, found[i]) for i, (key, _) in enumerate(pool))


def _pools(sequences: Iterable[tuple[Key, Sequence]], most: int) -> Iterator[list[tuple[Key, Sequence]]]:
    pool: list[tuple[Key, Sequence]] = []
    size = 0
    for key, sequence in sequences:
        pool.append((key, sequence))
        size += len(sequence.values) + FRAME
        if size >= most:
            yield pool
            pool, size = [], 0
    if pool:
        yield pool


def split_by_size(order: list[int], sizes: list[int], most: int) -> Iterator[list[int]]:
    """``order`` in pieces whose sizes add up to at most ``most``, or of one that is larger."""
    some: list[int] = []
    size = 0
    for i in order:
        if some and size + sizes[i] > most:
            yield some
            some, size = [], 0
        some.append(i)
        size += sizes[i]
    if some:
        yield some


def states(
    encoder: Any,
    modality: Modality,
    sequences: Iterable[tuple[Key, Sequence]],
    granularity: Granularity = "sequence",
    layer: int | None = None,
    pooling: Literal["mean", "cls"] = "mean",
    at_once: int = AT_ONCE,
    report: Callable[[int], None] | None = None,
) -> Iterator[tuple[Key, np.ndarray]]:
    """Hidden states of an encoder that stands still: (L + 1, D) a sequence, or (length, L + 1, D) its positions.

    Args:
        layer: of all states this one alone, (D,) or (length, D): 0 is the embedder's output, L or -1 the last.
        pooling: of sequences: the mean over their positions, or the state of [CLS]. An encoder with one vector a
            sequence (a convnet) has one "layer", and no positions.
    """
    encoder.eval()
    device = device_of(encoder)
    ready, pad = input_mapper(encoder, modality, device), modality.vocabulary.pad

    def compute(batch: Batch) -> Tensor:
        batch = ready(batch)
        with autocast(device):
            if not hasattr(encoder, "layer_states"):
                return encoder.pooled(batch)[:, None] if layer is None else encoder.pooled(batch)
            last = layer is not None and layer in (-1, len(getattr(encoder, "layers", ())))
            found = [encoder(batch)] if last else all_layers(encoder, batch) if layer is None else [layer_of(batch)]
        found = [state.float() for state in found]
        if granularity == "sequence":
            starts = batch.offsets_B1[:-1].long()
            found = [state[starts] if pooling == "cls" else mean_pool(state, batch, pad) for state in found]
        return found[0] if layer is not None else torch.stack(found, 1)

    def layer_of(batch: Batch) -> Tensor:
        return encoder.layer_states(batch)[layer]

    yield from run_batches(sequences, modality, device, compute, granularity, at_once, report)


def pooled(
    encoder: Any,
    data: TaskData,
    modality: Modality,
    split: str,
    at_once: int = AT_ONCE,
    report: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(S, L + 1, D) float32: the mean of each hidden state over each sequence of a part."""
    found = states(encoder, modality, sequences_of(data, split), at_once=at_once, report=report)
    return np.stack([vectors for _, vectors in found])


def all_layers(encoder: Any, batch: Batch) -> list[Tensor]:
    """The L + 1 hidden states, the last one as the encoder gives it, after its final norm."""
    found = list(encoder.layer_states(batch))
    norm = getattr(encoder, "final_norm", None)
    found[-1] = found[-1] if norm is None else norm(found[-1])
    return found


def input_mapper(encoder: Any, modality: Modality, device: torch.device) -> Callable[[Batch], Batch]:
    """What makes a batch ready for the encoder: units in the place of frames where it was trained on those."""
    from ssl_suite.modalities.signals import SignalModality
    from ssl_suite.training.units import identified, points_of

    if not isinstance(modality, SignalModality) or not reads_units(encoder, modality):
        return lambda batch: batch
    points = points_of(modality, device)
    return lambda batch: identified(modality, batch, points)


def reads_units(encoder: Any, modality: Modality) -> bool:
    """Whether the encoder was made for a signal's units and not for its frames."""
    return modality.frame is not None and hasattr(encoder, "layer_states") and not encoder.spec.features


def with_units(encoder: Any, data: TaskData, modality: Modality, device: torch.device) -> TaskData:
    """The data with each frame's unit, where the encoder reads units: a trainer's batches take their ids from it."""
    if not reads_units(encoder, modality):
        return data
    ready, units = input_mapper(encoder, modality, device), np.zeros(len(data.values), np.int32)
    for part in data.parts:
        windows, sequences = data.split(part), sequences_of(data, part)
        for s, ids_T1 in run_batches(
            sequences, modality, device, lambda batch: ready(batch).values[:, None], "position"
        ):
            start = int(windows.starts_S[s])
            units[start : start + len(ids_T1)] = ids_T1[:, 0]
    return replace(data, units=units)


def device_of(encoder: Any) -> torch.device:
    """Where the encoder's weights are."""
    return next(itertools.chain(encoder.parameters(), encoder.buffers())).device


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 where the varlen attention path needs it, as in training; float32 elsewhere."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
