"""Random views of token batches, drawn on the device over the whole ragged batch: no loop, no host synchronisation.

Shapes: N positions, B sequences, V vocabulary size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng


def stretches(batch: Batch, rng: Rng, vocabulary: Vocabulary, crop: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a stretch of every sequence, its length uniform between ``crop`` of it and all, its place uniform too.

    Returns:
        size_B: (B,) tokens of each sequence, [CLS] and [SEP] included, [PAD] not. begin_B: (B,) where its stretch
        begins, counted from the token after [CLS]. kept_B: (B,) tokens of the stretch; 0 for empty sequences.
    """
    filled = torch.nn.functional.pad((batch.values != vocabulary.pad).long().cumsum(0), (1, 0))
    size_B = filled[batch.offsets_B1[1:].long()] - filled[batch.offsets_B1[:-1].long()]
    content_B = (size_B - 2).clamp(min=0)
    each = content_B.shape[0] // batch.rows
    fewest_B = torch.minimum((content_B * crop).ceil().long(), content_B)
    kept_B = torch.minimum(fewest_B + (rng.uniform(each) * (content_B - fewest_B + 1)).long(), content_B)
    room_B = content_B - kept_B
    begin_B = torch.minimum((rng.uniform(each) * (room_B + 1)).long(), room_B)
    return size_B, begin_B, kept_B


def moved(
    batch: Batch,
    vocabulary: Vocabulary,
    size_B: Tensor,
    begin_B: Tensor,
    kept_B: Tensor,
    turned_B: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Put each stretch at its slot's start: [CLS] stretch [SEP], and [PAD] in what is left of the slot.

    Args:
        size_B, begin_B, kept_B: what ``stretches`` gives.
        turned_B: (B,) bool: stretches that are read from their ends.

    Returns:
        values_N: (N,) ids. from_N: (N,) int64, where the content of each position comes from. inside_N: (N,) bool, the
        stretches.
    """
    values_N, ids_N, place_N = batch.values, batch.sequence_ids_N(), batch.positions_N() - 1
    starts_B, kept_N = batch.offsets_B1[:-1].long(), kept_B[ids_N]
    order_N = place_N if turned_B is None else torch.where(turned_B[ids_N], kept_N - 1 - place_N, place_N)
    from_N = (order_N + (starts_B + begin_B + 1)[ids_N]).clamp(0, values_N.shape[0] - 1)
    inside_N = (place_N >= 0) & (place_N < kept_N)
    outside_N = torch.where(place_N < 0, values_N, torch.full_like(values_N, vocabulary.pad))
    closes_N = (place_N == kept_N) & (size_B[ids_N] >= 2)
    outside_N = torch.where(closes_N, torch.full_like(values_N, vocabulary.sep), outside_N)
    return torch.where(inside_N, values_N[from_N], outside_N), from_N, inside_N


def crop_and_turn(
    batch: Batch, rng: Rng, vocabulary: Vocabulary, crop: float, turn: float, opposite_V: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Cut a random stretch out of every sequence and reverse-complement some.

    A sequence keeps its slot, for shapes and offsets are constants of a run, see ``moved``.

    Args:
        batch: sequences of the form [CLS] … [SEP] [PAD]*; all-padding and empty sequences stay as they are.
        rng: of the batch's rows.
        vocabulary: for the special tokens.
        crop: the smallest share of a sequence that is kept, in (0, 1]; the length is uniform between it and all.
        turn: the probability of a reverse complement.
        opposite_V: (V,) int64, the complement of each id; None where ids have no complement.

    Returns:
        values_N: (N,) int64 ids. place_N: (N,) int64, each position's place in the stretch, -1 outside.
    """
    size_B, begin_B, kept_B = stretches(batch, rng, vocabulary, crop)
    turned_B = rng.uniform(kept_B.shape[0] // batch.rows) < (turn if opposite_V is not None else 0.0)
    values_N, _, inside_N = moved(batch, vocabulary, size_B, begin_B, kept_B, turned_B)
    if opposite_V is not None:
        turned_N = turned_B[batch.sequence_ids_N()] & inside_N
        values_N = torch.where(turned_N, opposite_V[values_N], values_N)
    return values_N, torch.where(inside_N, batch.positions_N() - 1, -1)


def substitute_bases(
    values_N: Tensor, place_N: Tensor, rng: Rng, rows: int, vocabulary: Vocabulary, k: int, rate: float
) -> Tensor:
    """Replace bases by another, each of the three with equal probability; a token spells k bases (1 for base tokens).

    Overlapping k-mers (``vocabulary.reach`` > 1) change together, all k that spell the base; there the last k - 1
    bases of a sequence, which begin no token, are left alone. Tokens that are no targets stay.

    Args:
        values_N: (N,) int64 ids.
        place_N: (N,) int64, place in the sequence, -1 for positions that may not change.
        rate: probability of a change per base.
    """
    low, high = vocabulary.targets
    inside_N = place_N >= 0
    n = values_N.shape[0] // rows

    def draw() -> Tensor:
        hit_N = (rng.uniform(n) < rate) & inside_N
        return torch.where(hit_N, rng.integers(n, 1, 4), 0)

    shift_N = draw()
    numbers_N = torch.zeros_like(values_N)
    for j in range(k):  # over the letters of a word, not over positions
        if j and vocabulary.reach == 1:
            shift_N = draw()
        elif j:
            # ``place`` grows by j exactly when the position j further on belongs to the same sequence
            same_N = torch.roll(place_N, -j) == place_N + j
            shift_j = torch.where(same_N, torch.roll(shift_N, -j), 0)
        digit_N = ((values_N - low) >> (2 * (k - 1 - j))) & 3
        numbers_N = numbers_N * 4 + ((digit_N + (shift_j if j and vocabulary.reach > 1 else shift_N)) & 3)
    target_N = inside_N & (values_N >= low) & (values_N < high)
    return torch.where(target_N, numbers_N + low, values_N)
