"""Batch normalisation over the real items of all processes (Ioffe and Szegedy 2015, arXiv:1502.03167).

A batch has a constant number of slots, and not all of them hold data; each process has some of them. So that one
process and eight take the same step, statistics are those of all real items, wherever they are. PyTorch's
``SyncBatchNorm`` knows no masks and runs on GPUs alone.

Shapes: n items of this process, C channels; whatever follows (height and width of a picture) are places of an item.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
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
        if not by_batch or (real_n is None and _world() == 1):
            return super().forward(input)
        self._check_input_dim(input)
        if real_n is not None and real_n.shape[0] != input.shape[0]:
            raise ValueError(f"{input.shape[0]} items, but the mask is of {real_n.shape[0]}")
        out, mean_C, var_C, count = _Normalise.apply(input, self.weight, self.bias, real_n, self.eps)
        if self.training and self.running_mean is not None:
            self._track(mean_C, var_C, count)
        return out

    @torch.no_grad()
    def _track(self, mean_C: Tensor, var_C: Tensor, count: Tensor) -> None:
        """Running statistics, the variance unbiased as PyTorch's; nothing changes where nothing was counted."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        share = momentum * (count > 0).to(count.dtype)
        unbiased_C = var_C * (count / (count - 1).clamp(min=1))
        self.running_mean += share * (mean_C - self.running_mean)
        self.running_var += share * (unbiased_C - self.running_var)


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Normalise(torch.autograd.Function):
    """The forward pass and the gradient of the statistics, each with one exchange between the processes.

    With x^ the normalised input, g the gradient of x^, and N the real items' number of places, over all processes:
    dx = (g - [item is real] (sum(g) + x^ sum(g x^)) / N) / std, where the sums run over every item.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_C: Tensor | None, bias_C: Tensor | None, real_n: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = _wide(x)
        real = None if real_n is None else real_n.to(wide.dtype).view(-1, *[1] * (x.dim() - 1))
        mean_C, var_C, count = _over_processes(*_statistics(wide, real))
        inverse_C = torch.rsqrt(var_C + eps)
        out = (wide - _as(mean_C, x)) * _as(inverse_C, x)
        if weight_C is not None:
            out = out * _as(weight_C, x)
        if bias_C is not None:
            out = out + _as(bias_C, x)
        ctx.save_for_backward(x, weight_C, bias_C, mean_C, inverse_C, count, real)
        ctx.mark_non_differentiable(mean_C, var_C, count)
        return out.to(x.dtype), mean_C, var_C, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, bias_C, mean_C, inverse_C, count, real = ctx.saved_tensors
        grad = gradients[0].to(mean_C.dtype)
        normal = (_wide(x) - _as(mean_C, x)) * _as(inverse_C, x)
        axes = _axes(x)
        sums_2C = torch.stack((grad.sum(axes), (grad * normal).sum(axes)))
        grad_bias = None if bias_C is None else sums_2C[0].to(bias_C.dtype)
        grad_weight = None if weight_C is None else sums_2C[1].to(weight_C.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias, None, None
        if weight_C is not None:
            grad, sums_2C = grad * _as(weight_C, x), sums_2C * weight_C
        if _world() > 1:
            sums_2C = sums_2C.contiguous().clone()
            dist.all_reduce(sums_2C)
        mean_2C = sums_2C / count.clamp(min=1)
        shared = _as(mean_2C[0], x) + normal * _as(mean_2C[1], x)
        grad_x = (grad - (shared if real is None else shared * real)) * _as(inverse_C, x)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums of half-precision numbers lose them."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _as(v_C: Tensor, x: Tensor) -> Tensor:
    """(1, C, 1, …), to go with x."""
    return v_C.view(1, -1, *[1] * (x.dim() - 2))


def _statistics(x: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(C,) mean, (C,) sum of squared distances from it, and () how many numbers of a channel were counted, here."""
    axes, places = _axes(x), x[0, 0].numel()
    if real is None:
        count = x.new_full((), float(x.shape[0] * places))
        mean_C = x.mean(axes)
        return mean_C, (x - _as(mean_C, x)).square().sum(axes), count
    count = real.sum() * places
    mean_C = (x * real).sum(axes) / count.clamp(min=1)
    return mean_C, ((x - _as(mean_C, x)).square() * real).sum(axes), count


def _over_processes(mean_C: Tensor, squares_C: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and count of all processes.

    Merged from each one's own mean and spread (Chan et al. 1979): sums of squares would cancel where a mean is far
    from 0.
    """
    if _world() > 1:
        own = torch.cat((mean_C, squares_C, count[None]))
        parts = [torch.empty_like(own) for _ in range(_world())]
        dist.all_gather(parts, own)
        mean_PC, squares_PC, count_P1 = torch.stack(parts).split((len(mean_C), len(mean_C), 1), 1)
        count = count_P1.sum()
        mean_C = (mean_PC * count_P1).sum(0) / count.clamp(min=1)
        squares_C = squares_PC.sum(0) + ((mean_PC - mean_C).square() * count_P1).sum(0)
    return mean_C, squares_C / count.clamp(min=1), count
