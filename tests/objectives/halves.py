"""The rows of a batch as batches of their own: what two processes would hold."""

from __future__ import annotations

from dataclasses import replace

import torch

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.models.encoder import Encoder


def halves(batch: Batch) -> list[Batch]:
    """Each row of a batch whose rows hold equally many sequences."""
    n, slots = len(batch.values) // batch.rows, len(batch.lengths) // batch.rows
    found = []
    for r in range(batch.rows):
        places, mine = slice(r * n, (r + 1) * n), slice(r * slots, (r + 1) * slots)
        found.append(
            replace(
                batch,
                values=batch.values[places],
                offsets_B1=batch.offsets_B1[r * slots : (r + 1) * slots + 1] - r * n,
                lengths=batch.lengths[mine],
                real_B=batch.real_B[mine],
                index_B=batch.index_B[mine],
                labels_B=None if batch.labels_B is None else batch.labels_B[mine],
                tokens=sum(batch.lengths[mine]),
                squares=sum(length**2 for length in batch.lengths[mine]),
                rows=1,
            )
        )
    return found


def gradients(objective: torch.nn.Module, encoder: Encoder, batches: list[tuple[Batch, list[int]]]) -> torch.Tensor:
    """The gradient of the sum of losses over the sum of counts, all parameters in one vector.

    Args:
        batches: each with the numbers of its rows.
    """
    learner = torch.nn.ModuleList([objective, encoder])
    learner.zero_grad(set_to_none=True)
    total = 0
    for batch, rows in batches:
        loss, count, _ = objective(encoder, batch, Rng(0, 3, torch.tensor(rows)))
        loss.backward()
        total += int(count)
    missing = [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    return torch.cat([p.grad.flatten() for p in learner.parameters() if p.requires_grad]) / max(1, total)
