"""Random views of token sequences: some dropped, some neighbours swapped, all on the device without a loop.

Dropping is "word deletion" and swapping "reordering" of Wu et al. 2020 (CLEAR, arXiv:2012.15466), one token at a time.
Shapes: N positions, B sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.core.rng import Rng


def drop(
    batch: Batch, values_N: Tensor, place_N: Tensor, rng: Rng, vocabulary: Vocabulary, rate: float
) -> tuple[Tensor, Tensor]:
    """Leave tokens out, each with probability ``rate``; one of each sequence, drawn evenly, always stays.

    The rest closes up within the sequence's slot, and what becomes free at its end is [PAD].

    Args:
        batch: for the layout.
        values_N: (N,) int64 ids, [CLS] … [SEP] [PAD]*.
        place_N: (N,) int64, place among a sequence's tokens, -1 for special ones and padding.

    Returns:
        ``values_N`` and ``place_N`` of the view.
    """
    n, sequences = values_N.shape[0] // batch.rows, batch.offsets_B1.shape[0] - 1
    ids_N, inside_N = batch.sequence_ids_N(), place_N >= 0
    counts_B = torch.zeros(sequences, dtype=torch.int64, device=values_N.device)
    counts_B = counts_B.scatter_reduce(0, ids_N, place_N + 1, "amax")
    spared_B = torch.minimum((rng.uniform(sequences // batch.rows) * counts_B).long(), counts_B - 1)
    gone_N = (rng.uniform(n) < rate) & inside_N & (place_N != spared_B[ids_N])
    stays_N = (values_N != vocabulary.pad) & ~gone_N
    before_N = stays_N.long().cumsum(0) - stays_N.long()
    starts_N = batch.offsets_B1[:-1].long()[ids_N]
    rank_N = before_N - before_N[starts_N]
    to_N = torch.where(stays_N, starts_N + rank_N, values_N.shape[0])
    empty = torch.full((values_N.shape[0] + 1,), vocabulary.pad, dtype=values_N.dtype, device=values_N.device)
    moved_N = empty.scatter(0, to_N, values_N)[:-1]
    nowhere = torch.full_like(empty, -1)
    return moved_N, nowhere.scatter(0, to_N, torch.where(inside_N, rank_N - 1, -1))[:-1]


def swap(values_N: Tensor, place_N: Tensor, rng: Rng, rows: int, rate: float) -> Tensor:
    """Exchange tokens with their right neighbour: each is drawn with probability ``rate``, and is exchanged unless its
    left neighbour was drawn too, so that no token moves twice.

    Args:
        values_N: (N,) int64 ids.
        place_N: (N,) int64, place among a sequence's tokens, -1 for special ones and padding.
    """
    drawn_N = rng.uniform(values_N.shape[0] // rows) < rate
    last = torch.zeros(1, dtype=torch.bool, device=values_N.device)
    pair_N = torch.cat([(place_N[1:] == place_N[:-1] + 1) & (place_N[:-1] >= 0), last])
    goes_N = drawn_N & pair_N
    goes_N = goes_N & ~torch.cat([last, goes_N[:-1]])
    comes_N = torch.cat([last, goes_N[:-1]])
    here_N = torch.arange(values_N.shape[0], device=values_N.device)
    return values_N[here_N + goes_N.long() - comes_N.long()]
