"""Targets that follow a network as an exponential moving average of its weights (Tarvainen and Valpola 2017, "Mean
teachers", arXiv:1703.01780): never trained, never exported, part of every checkpoint.
"""

from __future__ import annotations

import copy
import math
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)

HalfLife = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="In place of tau, the share of train.steps in which the moving average forgets half of what it was "
        "(tau=0.996: 173 steps, tau=0.999: 693).",
    ),
]


def make_teacher(online: Module, *shared: Any) -> Module:
    """A copy that takes no gradient.

    Args:
        shared: objects inside the module that need no copy of their own, such as a modality.
    """
    return copy.deepcopy(online, {id(x): x for x in shared}).requires_grad_(False)


@torch.no_grad()
def update_ema(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target = tau * target + (1 - tau) * online, of parameters and buffers; whole numbers (counters) are copied.

    Batch norms keep statistics of their own, of what the target makes of its input, as in BYOL's code: those of the
    network would be of other weights, and come as late as tau is slow.
    Under FSDP2 each process moves its own shards: both networks are cut along the same lines.
    """
    pairs = [(_local(t), _local(o)) for t, o in _pairs(target, online)]
    moving = [(t, o) for t, o in pairs if t.is_floating_point()]
    torch._foreach_lerp_([t for t, _ in moving], [o for _, o in moving], 1 - tau)
    for t, o in pairs:
        if not t.is_floating_point():
            t.copy_(o)


@torch.no_grad()
def ema_distance(target: nn.Module, online: nn.Module) -> Tensor:
    """() the distance between the parameters of both, divided by the norm of the network's.

    A collective call under FSDP2: every process of the group must make it.
    """
    whole = [(_whole(t), _whole(o)) for t, o in zip(target.parameters(), online.parameters(), strict=True) if t.numel()]
    distance = torch.stack(torch._foreach_norm([t - o for t, o in whole])).norm()
    return distance / torch.stack(torch._foreach_norm([o for _, o in whole])).norm()


def lasting_tau(half_life: float, steps: int) -> float:
    """The tau that halves the weight of the past in ``half_life * steps`` updates, in one at least."""
    return 0.5 ** (1 / max(1.0, half_life * steps))


def cosine_tau(start: float, done: int, steps: int) -> float:
    """tau after the ``done``-th of ``steps`` updates: from ``start`` at the first towards 1 (BYOL, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * (done - 1) / steps) + 1) / 2


def linear_tau(start: float, end: float, done: int, over: float) -> float:
    """From ``start`` to ``end`` in ``over`` updates, then constant (data2vec, section 3.3)."""
    return start + (end - start) * (min(1.0, done / over) if over > 0 else 1.0)


def _pairs(target: nn.Module, online: nn.Module) -> list[tuple[Tensor, Tensor]]:
    pairs: list[tuple[Tensor, Tensor]] = list(zip(target.parameters(), online.parameters(), strict=True))
    for t, o in zip(target.modules(), online.modules(), strict=True):
        if not isinstance(t, _BatchNorm):
            pairs += zip(t.buffers(recurse=False), o.buffers(recurse=False), strict=True)
    return pairs


def _local(x: Tensor) -> Tensor:
    x = x.detach()
    return x.to_local() if isinstance(x, DTensor) else x


def _whole(x: Tensor) -> Tensor:
    """float32, because the distance of half-precision weights is below their resolution."""
    return (x.full_tensor() if isinstance(x, DTensor) else x).detach().float()
