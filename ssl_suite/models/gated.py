"""The gated activation, with a CPU path that writes its gradient into one buffer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu_gate(x_N2M: Tensor) -> Tensor:
    """gelu of the first half times the second half, (N, 2M) -> (N, M)."""
    if x_N2M.device.type == "cpu" and not torch.compiler.is_compiling():
        return _GeluGate.apply(x_N2M)
    value, gate = x_N2M.chunk(2, dim=-1)
    return F.gelu(value) * gate


class _GeluGate(torch.autograd.Function):
    """Plain autograd concatenates the gradients of the two halves: 1.5 % of a step of `mini` (benchmarks/LOG.md)."""

    @staticmethod
    def forward(ctx: Any, x_N2M: Tensor) -> Tensor:
        value, gate = x_N2M.chunk(2, dim=-1)
        activated = F.gelu(value)
        ctx.save_for_backward(x_N2M, activated)
        return activated * gate

    @staticmethod
    def backward(ctx: Any, grad_NM: Tensor) -> Tensor:
        x_N2M, activated = ctx.saved_tensors
        value, gate = x_N2M.chunk(2, dim=-1)
        grad = torch.empty_like(x_N2M)
        grad_value, grad_gate = grad.chunk(2, dim=-1)
        torch.mul(grad_NM, activated, out=grad_gate)
        torch.mul(grad_NM, gate, out=grad_value)
        torch.ops.aten.gelu_backward.grad_input(grad_value, value, grad_input=grad_value)
        return grad
