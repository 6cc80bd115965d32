"""Random views of token batches of music, drawn on the device: no loop over sequences, no host synchronisation.

Shapes: N positions, B sequences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng
from ssl_suite.modalities import views

Range = tuple[int, int]
"""Ids of a kind, half-open; empty where a tokeniser has none."""


def within(values_N: Tensor, ids: Range) -> Tensor:
    """(N,) bool: which ids lie in a range."""
    return (values_N >= ids[0]) & (values_N < ids[1])


def crop(batch: Batch, rng: Rng, vocabulary: Vocabulary, share: float, opens: Range | None) -> Tensor:
    """(N,) int64 ids: a random stretch of each sequence, from one token of ``opens`` to before another.

    The stretch is drawn as in ``views.crop_and_turn`` (a length between ``share`` and all, then a place), and then
    grows until both its ends are at a sequence's end or before a token that opens a bar, an onset or a note. It moves
    to the start of its sequence's slot; what is left of the slot becomes [PAD].

    Args:
        batch: sequences of the form [CLS] … [SEP] [PAD]*; all-padding and empty sequences stay as they are.
        rng: of the batch's rows.
        vocabulary: for the special tokens.
        share: the smallest share of a sequence that is kept, in (0, 1].
        opens: ids before which a stretch may begin or end; None for all.
    """
    values_N, starts_B = batch.values, batch.offsets_B1[:-1].long()
    ids_N, slot_N = batch.sequence_ids_N(), batch.positions_N()
    total = values_N.shape[0]
    size_B, begin_B, kept_B = views.stretches(batch, rng, vocabulary, share)
    content_B = (size_B - 2).clamp(min=0)
    end_B = begin_B + kept_B
    if opens is not None:
        edge_N = (slot_N == 1) | (slot_N == size_B[ids_N] - 1) | within(values_N, opens)  # the first token, and [SEP]
        place_N = torch.arange(total, device=values_N.device)
        before_N = torch.where(edge_N, place_N, -1).cummax(0).values
        after_N = torch.where(edge_N, place_N, total).flip(0).cummin(0).values.flip(0)
        first_B = starts_B + 1
        begin_B = torch.where(content_B > 0, before_N[(first_B + begin_B).clamp(max=total - 1)] - first_B, begin_B)
        end_B = torch.where(content_B > 0, after_N[(first_B + end_B).clamp(max=total - 1)] - first_B, end_B)
    return views.moved(batch, vocabulary, size_B, begin_B, end_B - begin_B)[0]


def transpose(values_N: Tensor, batch: Batch, rng: Rng, pitches: Range, down: int, up: int) -> Tensor:
    """(N,) int64 ids: all pitches of a sequence moved by the same number of semitones.

    The number is uniform over those in [-down, up] that keep every pitch of the sequence in range.
    """
    ids_N, count = batch.sequence_ids_N(), batch.offsets_B1.shape[0] - 1
    is_pitch_N = within(values_N, pitches)
    low, high = pitches[0], pitches[1] - 1
    lowest_B = torch.full((count,), high, dtype=values_N.dtype, device=values_N.device)
    highest_B = torch.full_like(lowest_B, low)
    lowest_B = lowest_B.scatter_reduce(0, ids_N, torch.where(is_pitch_N, values_N, high), "amin")
    highest_B = highest_B.scatter_reduce(0, ids_N, torch.where(is_pitch_N, values_N, low), "amax")
    least_B, most_B = (low - lowest_B).clamp(min=-down), (high - highest_B).clamp(max=up)
    drawn_B = (rng.uniform(count // batch.rows) * (most_B - least_B + 1)).long()
    shift_B = torch.minimum(least_B + drawn_B, most_B)
    return torch.where(is_pitch_N, values_N + shift_B[ids_N], values_N)


def scale(values_N: Tensor, batch: Batch, rng: Rng, levels: Range, most: int) -> Tensor:
    """(N,) int64 ids: all levels of a sequence moved by the same whole number of steps, uniform in [-most, most].

    Levels that would leave the range stay at its end.
    """
    count = batch.offsets_B1.shape[0] - 1
    step_B = rng.integers(count // batch.rows, -most, most + 1)
    moved_N = (values_N + step_B[batch.sequence_ids_N()]).clamp(levels[0], levels[1] - 1)
    return torch.where(within(values_N, levels), moved_N, values_N)


def stretch(values_N: Tensor, batch: Batch, rng: Rng, levels: Range, most: float) -> Tensor:
    """(N,) int64 ids: all levels of a sequence multiplied by the same factor, log-uniform in [1/(1+most), 1+most].

    A level's number, from 1, is proportional to what it stands for. Those that would leave the range stay at its end.
    """
    count = batch.offsets_B1.shape[0] - 1
    limit = math.log1p(most)
    factor_B = torch.exp((2 * rng.uniform(count // batch.rows) - 1) * limit)
    number_N = (values_N - levels[0] + 1) * factor_B[batch.sequence_ids_N()]
    moved_N = (number_N.round().long() - 1 + levels[0]).clamp(levels[0], levels[1] - 1)
    return torch.where(within(values_N, levels), moved_N, values_N)
