"""From the states of positions to a vector a sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch


def mean_pool(states_ND: Tensor, batch: Batch, pad: int) -> Tensor:
    """(B, D) float32: the mean over a sequence's positions, its first and last ([CLS], [SEP]) and [PAD] left out.

    Args:
        states_ND: (N, D).
        pad: the id of [PAD]. A slot may end in some, so the last token is found by counting.

    Returns:
        Zeros for sequences without content.
    """
    filled_N = batch.values != pad
    ids_N = batch.sequence_ids_N()
    size_B = torch.zeros(len(batch.real_B), dtype=torch.int64, device=states_ND.device)
    size_B.index_add_(0, ids_N, filled_N.long())
    slot_N = torch.arange(len(ids_N), device=ids_N.device) - batch.offsets_B1[ids_N].long()
    inside_N = filled_N & (slot_N > 0) & (slot_N < size_B[ids_N] - 1)
    sums_BD = states_ND.new_zeros(len(size_B), states_ND.shape[1], dtype=torch.float32)
    sums_BD = sums_BD.index_add(0, ids_N, states_ND.float() * inside_N[:, None])
    return sums_BD / (size_B - 2).clamp(min=1)[:, None]
