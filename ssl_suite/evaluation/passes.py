"""Something computed for every sequence of a split, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ssl_suite.data.batch import Batch
from ssl_suite.data.loader import FRAME, Collator, RowOrder
from ssl_suite.evaluation.task_data import TaskData
from ssl_suite.modalities.base import Modality

AT_ONCE = 8192  # positions of a forward pass


@torch.no_grad()
def over(
    data: TaskData,
    modality: Modality,
    split: str,
    device: torch.device,
    compute: Callable[[Batch], Tensor],
    at_once: int = AT_ONCE,
) -> np.ndarray:
    """(S, …) float32: ``compute``'s rows (B, …), at the places of their sequences in the split.

    Args:
        at_once: positions of a forward pass; the result does not depend on it beyond rounding.
    """
    lengths_S = data.split(split).lengths_S.astype(np.int64) + FRAME
    n = max(at_once, int(lengths_S.max()))
    order = RowOrder(lengths_S, n, seed=0, shuffle=False)
    collator = Collator(data, split, modality.vocabulary, n, order.slots, modality.max_length)  # type: ignore[arg-type]
    found: np.ndarray | None = None
    for row in range(len(order.epoch(0))):
        batch = collator.rows([order.items(row)]).to(device)
        values = compute(batch).float().cpu().numpy()
        keys_B = batch.keys_B.cpu().numpy()
        if found is None:
            found = np.zeros((len(lengths_S), *values.shape[1:]), np.float32)
        found[keys_B[keys_B >= 0]] = values[keys_B >= 0]
    assert found is not None  # a split has items
    return found
