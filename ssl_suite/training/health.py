"""Whether representations have collapsed: spread and rank of the pooled vectors, and how units are used.

Sums are kept, not vectors, so they add up over processes. Shapes: B sequences, D width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Vocabulary
from ssl_suite.training.distributed import DistributedContext


class Health:
    """Numbers of the sequences seen so far.

    Args:
        vocabulary: whose units are counted; None counts none.
    """

    def __init__(self, device: torch.device, vocabulary: Vocabulary | None = None) -> None:
        self.device, self.vocabulary = device, vocabulary
        self._sums: Tensor | None = None  # (1 + D + D * D,): sequences, their sum, their outer products
        self._used_V = torch.zeros(len(vocabulary) if vocabulary else 0, dtype=torch.float64, device=device)

    def add(self, pooled_BD: Tensor, batch: Batch) -> None:
        """The vectors of a batch. Each is first scaled to unit length, as kNN and contrasts do."""
        x_BD = torch.nn.functional.normalize(pooled_BD.double(), dim=1) * batch.real_B[:, None]
        sums = torch.cat((batch.real_B.sum()[None].double(), x_BD.sum(0), (x_BD.T @ x_BD).flatten()))
        self._sums = sums if self._sums is None else self._sums + sums
        if self.vocabulary is not None:
            low, high = self.vocabulary.targets
            inside_N = (batch.values >= low) & (batch.values < high)  # neither specials nor sentinels
            self._used_V.index_add_(0, batch.values * inside_N, inside_N.double())

    def read(self, group: DistributedContext) -> dict[str, float]:
        """Of all processes together; every process must have added as often.

        Returns:
            ``feature_std``: the mean standard deviation of a dimension times sqrt(D); 0 is collapse, 1 is evenly spread
            over the sphere (Chen and He 2021, arXiv:2011.10566). ``effective_rank``: exp of the entropy of the centred
            vectors' singular values (Roy and Vetterli 2007; RankMe, Garrido et al. 2023, arXiv:2210.02885), from 1 to
            D. ``unit_perplexity`` and ``units_used``: exp of the entropy of the units, and the share that occurs.
        """
        assert self._sums is not None
        sums = group.add_up(self._sums).cpu()
        width = math.isqrt(len(sums))
        count, mean_D = sums[0], sums[1 : 1 + width] / sums[0]
        covariance_DD = sums[1 + width :].view(width, width) / count - torch.outer(mean_D, mean_D)
        values_D = torch.linalg.eigvalsh(covariance_DD).clamp(min=0).sqrt()
        found = {"feature_std": float(covariance_DD.diagonal().clamp(min=0).sqrt().mean()) * math.sqrt(width)}
        found["effective_rank"] = perplexity(values_D)
        if self.vocabulary is not None:
            used_V = group.add_up(self._used_V).cpu()
            low, high = self.vocabulary.targets
            found["unit_perplexity"] = perplexity(used_V)
            found["units_used"] = float((used_V > 0).sum()) / (high - low)
        return found


def perplexity(weights: Tensor) -> float:
    """exp of the entropy of weights that are not negative; 1 where they are all 0."""
    shares = weights[weights > 0] / weights.sum()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) else 1.0
