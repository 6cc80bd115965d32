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

from ssl_suite.core.rng import Rng, numbered_bits

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
        return [partial(self._drop, first + i * passes, passes) for i in range(count)]

    def _drop(self, draw: int, passes: int, x_ND: Tensor) -> Tensor:
        limit, each = round(self.rate * _UNITS), x_ND.numel() // (self.rng.rows * passes)
        kept = kept_units(self.rng.keys_R1, draw, passes, each, limit)
        return x_ND * kept.view_as(x_ND) * (_UNITS / (_UNITS - limit))


@torch.library.custom_op("ssl_suite::kept_units", mutates_args=())
def kept_units(keys_R1: Tensor, draw: int, passes: int, each: int, limit: int) -> Tensor:
    """(R * passes, each) bool, False for ``limit`` of ``_UNITS`` on average.

    An operator of its own, so that ``torch.compile`` does not look inside: it multiplies the hash's constants beyond 64
    bits and stops.

    Args:
        keys_R1: of the generator's rows.
        draw: the number of the first pass's draw; further passes have the next ones.
    """
    bits = torch.cat([numbered_bits(keys_R1, draw + i, -(-each // 4)) for i in range(passes)]).view(torch.int16)
    return bits.view(keys_R1.shape[0] * passes, -1)[:, :each].bitwise_and(_UNITS - 1) >= limit


@kept_units.register_fake
def _(keys_R1: Tensor, draw: int, passes: int, each: int, limit: int) -> Tensor:
    return keys_R1.new_empty((keys_R1.shape[0] * passes, each), dtype=torch.bool)
