"""What an objective needs from the other processes of its group; alone, every function gives back what it was given.

Shapes: P processes.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from lightly.utils import dist as lightly_dist
from torch import Tensor


def world() -> int:
    """Processes of the group; 1 where there is none."""
    return lightly_dist.world_size()


def rank() -> int:
    """This process's number in the group; 0 where there is none."""
    return lightly_dist.rank()


def gathered(x_AE: Tensor) -> Tensor:
    """(P * A, E): every process's rows, in the order of the processes.

    Carries gradients: those of all processes' losses come back, added up, to the process that owns a row. So when each
    process sums the loss of its own rows, adding up the parameters' gradients gives the gradient of the whole sum.

    Args:
        x_AE: this process's rows, as many as every other's.
    """
    return torch.cat(lightly_dist.gather(x_AE)) if world() > 1 else x_AE


def total(x: Tensor) -> Tensor:
    """The sum over all processes, without a gradient."""
    x = x.detach()
    if world() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x
