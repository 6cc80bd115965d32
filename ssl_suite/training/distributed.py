"""Processes, devices, and the two ways of spreading one model over them.

Gradients are sums of every process's loss sums; ``reduce_gradients`` divides once by the global count, so one process
and eight take the same step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ssl_suite.core.errors import SuiteError
from ssl_suite.core.machine import cpu_threads
from ssl_suite.core.wording import count
from ssl_suite.training.learner import Learner

CPU = torch.device("cpu")


@dataclass(frozen=True)
class DistributedContext:
    """This process among the run's.

    Attributes:
        rank, world, local_rank: as ``torchrun`` sets them; 0, 1, 0 without it.
        device: where tensors live.
        bf16: whether the forward pass runs under bfloat16 autocast.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    device: torch.device = CPU
    bf16: bool = False

    @property
    def main(self) -> bool:
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def add_up(self, sums: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(sums)
        return sums

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]


def device_name(device: torch.device) -> str:
    """A name for a reader."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {count(torch.get_num_threads(), 'thread')}"


@contextlib.contextmanager
def processes(train: Mapping[str, Any]) -> Iterator[DistributedContext]:
    """Join the group that ``torchrun`` started (or stand alone), and leave it at the end.

    Raises:
        SuiteError: bf16 was asked for on a device without it.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank, local_world = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.set_num_threads(cpu_threads(train["threads"], local_world))
    can_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if train["precision"] == "bf16" and not can_bf16:
        raise SuiteError(f"train.precision=bf16: {device.type} has no fast bfloat16 here; use train.precision=fp32.")
    if world > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield DistributedContext(rank, world, local_rank, device, can_bf16 and train["precision"] != "fp32")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def wrap_model(learner: Learner, parallel: str, group: DistributedContext) -> nn.Module:
    """Wrap for data parallelism: DDP, or FSDP2 with one shard group per encoder layer and one for the rest."""
    if group.world == 1:
        return learner
    if parallel == "ddp":
        # 25 MB buckets; every parameter takes part in every step, so nothing is searched for.
        return DistributedDataParallel(learner, gradient_as_bucket_view=True)
    mesh = torch.distributed.init_device_mesh(group.device.type, (group.world,))
    for layer in learner.encoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(learner, mesh=mesh)
    return learner


@contextlib.contextmanager
def gradient_sync(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Exchange gradients in this backward pass, or leave it to a later one of the same step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)
        yield
    elif isinstance(model, DistributedDataParallel) and not wanted:
        with model.no_sync():
            yield
    else:
        yield


def reduce_gradients(
    parameters: list[nn.Parameter], count: Tensor, clip: float | None, group: DistributedContext
) -> Tensor:
    """Turn summed gradients into the gradient of the mean loss, and clip it, in one pass over memory.

    DDP and FSDP2 leave the mean over processes of each one's sum; times ``world / count`` it is the global mean.

    Args:
        count: () predicted positions of the step over all processes, on the device: nothing is read back.
        clip: the largest allowed norm of the whole gradient.

    Returns:
        () the gradient's norm before clipping.
    """
    gradients = [p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad for p in parameters if p.grad is not None]
    squares = torch.stack(torch._foreach_norm(gradients)).square().sum()
    if any(isinstance(p.grad, DTensor) for p in parameters):
        squares = group.add_up(squares)
    scale = group.world / count.clamp(min=1)
    norm = squares.sqrt() * scale
    factor = scale if clip is None else scale * (clip / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
    return norm
