"""The objective's loss on held-out data: the same rows and draws at every step, of every run, on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_suite.data.batch import Batch
from ssl_suite.data.loader import FRAME, Collator, RowOrder
from ssl_suite.data.rng import Rng
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.training.distributed import Processes
from ssl_suite.training.sums import StepSums, means

DRAWS = 20_181_011  # the seed of every validation mask, whatever the run's: BERT's first day on arXiv


class Evaluator:
    """Args:
    store: with a ``valid`` split.
    train: the ``train`` section; ``eval_tokens`` positions are read at most.
    group: each process takes its share of the rows; short shares are filled with empty rows.
    """

    def __init__(self, store: Store, modality: Modality, train: Mapping[str, Any], group: Processes) -> None:
        n = train["tokens_per_row"]
        lengths = store.split("valid").lengths_S + FRAME
        order = RowOrder(lengths, n, seed=0, shuffle=False)
        self.collator = Collator(store, "valid", modality.vocabulary, n, order.slots, modality.max_length)
        self.group = group
        rows = order.epoch(0)
        total = min(len(rows), max(1, train["eval_tokens"] // n))
        # Evenly spaced over the split: the first rows of a store come from its first records.
        self.rows = [rows.row(int(i)) for i in torch.linspace(0, len(rows) - 1, total).round()]

    def batches(self, group: Processes) -> Iterator[tuple[Batch, Rng]]:
        """One row at a time, this process's share of them; every process gets as many."""
        for r in range(group.rank, -(-len(self.rows) // group.world) * group.world, group.world):
            items = self.rows[r] if r < len(self.rows) else np.empty(0, dtype=np.int64)
            yield self.collator.rows([items]).to(group.device), Rng(DRAWS, 0, torch.tensor([r]).to(group.device))

    @torch.no_grad()
    def __call__(self, learner: nn.Module) -> dict[str, float]:
        """``valid_loss`` and the objective's metrics with the same prefix."""
        learner.eval()
        sums = StepSums(self.group.device)
        for batch, rng in self.batches(self.group):
            with self.group.autocast():
                loss, count, metrics = learner(batch, rng)
            sums.add(loss, count, metrics, batch, 0.0)
        learner.train()
        return means(sums.over_processes(False, self.group).tolist(), sums.names, "valid_")
