"""Dropout whose draws are a function of the run's seed, the step, the row and the place in the network.

So a run that was killed goes on with the same draws, one process and eight drop the same numbers, and activations that
are computed again (``model.checkpointing``) are the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ssl_suite.data.rng import Rng

_UNITS = 1 << 15  # four draws are cut out of 64 bits, which divides their cost by four; the share is exact to 2**-16


@dataclass(frozen=True)
class Dropout:
    """Attributes:
    rng: of the rows of a batch, or of one that holds them several times over (two views); each time has own draws.
    rate: the share that is dropped; what is kept grows by 1 / (1 - rate).
    """

    rng: Rng
    rate: float

    def places(self, rows: int, count: int) -> list[Callable[[Tensor], Tensor]]:
        """A function of (N, D) for each of ``count`` places in the network; each gives the same whenever it is called.

        Args:
            rows: of the batch, a multiple of the generator's.
        """
        passes = rows // self.rng.rows
        first = self.rng.reserve(passes * count)
        return [partial(self._drop, range(first + i * passes, first + (i + 1) * passes)) for i in range(count)]

    def _drop(self, draws: range, x_ND: Tensor) -> Tensor:
        each, limit = x_ND.numel() // (self.rng.rows * len(draws)), round(self.rate * _UNITS)
        bits = torch.cat([self.rng.numbered(draw, -(-each // 4)) for draw in draws]).view(torch.int16)
        drawn = bits.view(self.rng.rows * len(draws), -1)[:, :each].bitwise_and(_UNITS - 1)
        return x_ND * (drawn >= limit).view_as(x_ND) * (_UNITS / (_UNITS - limit))
