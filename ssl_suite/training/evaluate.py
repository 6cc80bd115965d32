"""The objective's loss on held-out data: the same rows and draws at every step, of every run, on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.rng import Rng
from ssl_suite.data.loader import FRAME, Collator, RowOrder
from ssl_suite.data.store import Store
from ssl_suite.modalities.base import Modality
from ssl_suite.objectives.base import Objective
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.health import Health
from ssl_suite.training.sums import StepSums, means

DRAWS = 20_181_011  # the seed of every validation mask, whatever the run's: BERT's first day on arXiv


class Evaluator:
    """Args:
    store: with a ``valid`` split.
    train: the ``train`` section; ``eval_tokens`` positions are read at most.
    group: each process takes its share of the rows; short shares are filled with empty rows.
    """

    def __init__(
        self,
        store: Store,
        modality: Modality,
        train: Mapping[str, Any],
        group: DistributedContext,
        objective: Objective,
    ) -> None:
        n = train["tokens_per_row"]
        lengths = store.split("valid").lengths_S + FRAME
        order = RowOrder(lengths, n, seed=0, shuffle=False)
        self.collator = Collator(
            store,
            "valid",
            modality.vocabulary,
            n,
            order.slots,
            modality.max_length,
            arranger=objective.arranger,
            seed=DRAWS,
            frames=objective.reads == "frames",
        )
        self.group, self.objective = group, objective
        self.units = modality.vocabulary if modality.frame is not None and objective.predicts_ids else None
        # What contrasts the sequences of a step needs as many of them here.
        self.at_once = train["tokens_per_batch"] // n if objective.whole else group.world
        rows = order.epoch(0)
        total = min(len(rows), max(1, train["eval_tokens"] // n))
        # Evenly spaced over the split: the first rows of a store come from its first records.
        self.rows = [rows.row(int(i)) for i in torch.linspace(0, len(rows) - 1, total).round()]

    def batches(self, group: DistributedContext) -> Iterator[tuple[Batch, Rng]]:
        """One row at a time (or the rows of a step), this process's share of them; every process gets as many."""
        for first in range(0, len(self.rows), self.at_once):
            numbers = list(range(first + group.rank, first + self.at_once, group.world))
            rows = [self.rows[r] if r < len(self.rows) else np.empty(0, dtype=np.int64) for r in numbers]
            rng = Rng(DRAWS, 0, torch.tensor(numbers).to(group.device))
            yield self.collator.rows(rows, numbers).to(group.device), rng

    @torch.no_grad()
    def __call__(self, learner: nn.Module) -> dict[str, float]:
        """``valid_loss``, the objective's metrics and the health of the representations with the same prefix."""
        learner.eval()
        sums, health = StepSums(self.group.device), Health(self.group.device, self.units)
        for batch, rng in self.batches(self.group):
            with self.group.autocast():
                loss, count, metrics = learner(batch, rng)
                health.add(learner(batch, rng, pooled=True), batch)
            sums.add(loss, count, metrics, batch, 0.0)
        found = means(sums.over_processes(False, self.group).tolist(), sums.names, "valid_")
        own = self.objective.health(learner.get_submodule("encoder"))
        learner.train()
        shown = health.read(self.group) | {name: float(whole(x)) for name, x in own.items()}
        return found | {f"valid_{name}": x for name, x in shown.items()}


def whole(x: Tensor) -> Tensor:
    """A number that FSDP2 may have left in parts."""
    return x.full_tensor() if isinstance(x, DTensor) else x
