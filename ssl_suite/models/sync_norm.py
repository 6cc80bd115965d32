"""Batch normalisation over the real items of all processes (Ioffe and Szegedy 2015, arXiv:1502.03167).

A batch has a constant number of slots, and not all of them hold data; each process has some of them. So that one
process and eight take the same step, statistics are those of all real items, wherever they are. PyTorch's
``SyncBatchNorm`` knows no masks and runs on GPUs alone.

Shapes: n items of this process, C channels; whatever follows (height and width of a picture) are places of an item.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

_real: list[Tensor] = []


@contextlib.contextmanager
def counting(real_n: Tensor) -> Iterator[None]:
    """Within it, every ``SyncNorm`` counts only the items for which ``real_n``, (n,) bool, is True.

    A context and not an argument, because heads and convnets from libraries hand on nothing but the items.
    """
    _real.append(real_n)
    try:
        yield
    finally:
        _real.pop()


def convert(module: nn.Module) -> nn.Module:
    """The module with a ``SyncNorm`` in place of every BatchNorm1d and BatchNorm2d, with their parameters and buffers.

    Names stay, so a state dict fits both. The module is changed in place, unless it is a batch norm itself.
    """
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        tracks = module.track_running_stats
        norm = SyncNorm(module.num_features, module.eps, module.momentum, module.affine, tracks)
        norm.weight, norm.bias = module.weight, module.bias
        norm.running_mean, norm.running_var = module.running_mean, module.running_var
        norm.num_batches_tracked = module.num_batches_tracked
        return norm.train(module.training)
    for name, child in module.named_children():
        module.add_module(name, convert(child))
    return module


class SyncNorm(_BatchNorm):
    """``nn.BatchNorm1d`` and ``nn.BatchNorm2d`` over the real items of all processes, (n, C, …) -> (n, C, …).

    Items that are not real are normalised with the others' statistics. Evaluation uses the running statistics. Without
    a group and a mask this is PyTorch's own kernel.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (n, C) or more axes, got {input.dim()} axes")

    def forward(self, input: Tensor) -> Tensor:
        real_n = _real[-1] if _real else None
        by_batch = self.training or self.running_mean is None
        if not by_batch or (real_n is None and not _grouped()):
            return super().forward(input)
        self._check_input_dim(input)
        n, axes = len(input), [0, *range(2, input.dim())]
        if real_n is not None and len(real_n) != n:
            raise ValueError(f"{n} items, but the mask is of {len(real_n)}")

        # Statistics in float32 at least. Of the mean first: sums of squares would cancel where it is far from 0.
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        real = x.new_ones(n) if real_n is None else real_n.to(x.dtype)
        real, per_channel = real.view(n, *[1] * (x.dim() - 1)), (1, -1, *[1] * (x.dim() - 2))
        count = (real.sum() * input[0, 0].numel())[None]
        total_C, count = _over_processes(torch.cat(((x * real).sum(axes), count))).split((x.shape[1], 1))
        mean_C = total_C / count.clamp(min=1)
        centred = x - mean_C.view(per_channel)
        var_C = _over_processes((centred.square() * real).sum(axes)) / count.clamp(min=1)
        if self.training and self.running_mean is not None:
            self._track(mean_C, var_C, count)

        out = centred * torch.rsqrt(var_C + self.eps).view(per_channel)
        if self.affine:
            out = out * self.weight.view(per_channel) + self.bias.view(per_channel)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean_C: Tensor, var_C: Tensor, count: Tensor) -> None:
        """Running statistics, the variance unbiased as PyTorch's; nothing changes where nothing was counted."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        share = momentum * (count > 0).to(count.dtype)
        self.running_mean += share * (mean_C - self.running_mean)
        self.running_var += share * (var_C * (count / (count - 1).clamp(min=1)) - self.running_var)


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _over_processes(sums: Tensor) -> Tensor:
    """The sum over all processes; the gradients of all of them come back, summed."""
    return all_reduce(sums) if _grouped() else sums
