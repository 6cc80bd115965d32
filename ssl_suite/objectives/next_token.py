"""What a left-to-right model predicts: at every position the id that follows (Bengio et al. 2003)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary


def next_labels(batch: Batch, vocabulary: Vocabulary) -> Tensor:
    """(N,) int64: the next id of the same sequence, [SEP] at its end included, as cross-entropy takes it.

    -100 where nothing is to be predicted: at a sequence's last position, where [PAD] stands or follows, and all through
    the sequences that carry no data.
    """
    sequence_N, values_N = batch.sequence_ids_N(), batch.values
    next_N = torch.cat((values_N[1:], values_N.new_full((1,), vocabulary.pad)))
    goes_on_N = torch.cat((sequence_N[1:] == sequence_N[:-1], sequence_N.new_zeros(1, dtype=torch.bool)))
    known_N = goes_on_N & batch.real_B[sequence_N] & (next_N != vocabulary.pad) & (values_N != vocabulary.pad)
    return torch.where(known_N, next_N, -100)
