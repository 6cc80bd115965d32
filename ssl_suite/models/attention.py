"""Attention over a ragged batch: two paths, one meaning.

CUDA in half precision: ``torch.nn.attention.varlen.varlen_attn`` over the offsets, static shapes, no padding.
Everywhere else: PyTorch's attention on each group of neighbouring sequences of equal length, so no FLOP goes to padding
there either. ``varlen_attn`` has no CPU kernel and FlexAttention no CPU backward.

On 2 CPU cores, 16 windows of 512 with 4 heads of 64, forward and backward: one call on the group 81 GFLOP/s, one call a
window 61, plain softmax(QK)V 51; hence the grouping.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_suite.core.batch import Batch

Rope = tuple[Tensor, Tensor]  # cosines and sines, each (N, 1, 1, E/2)
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


def attention(qkv_N3HE: Tensor, rope: Rope, batch: Batch, window: int | None = None, causal: bool = False) -> Tensor:
    """Each position attends to its own sequence only, with rotary positions.

    Args:
        qkv_N3HE: (N, 3, H, E) queries, keys and values, not yet rotated.
        rope: see ``rope_table``.
        batch: the layout (offsets, host lengths, the run's longest sequence).
        window: attend to positions at most this far away; None is the whole sequence.
        causal: attend to no later position.

    Returns:
        (N, H, E), scaled by 1 / sqrt(E) inside the softmax (Vaswani et al. 2017).
    """
    if qkv_N3HE.is_cuda and qkv_N3HE.dtype in (torch.bfloat16, torch.float16):
        return _varlen(qkv_N3HE, rope, batch, window, causal)
    if qkv_N3HE.device.type == "cpu" and (window is None or max(batch.lengths) <= window + 1):
        return _on_cpu(qkv_N3HE, rope, batch, causal)
    return _per_group(qkv_N3HE, rope, batch, window, causal)


def cross_attention(q_MHE: Tensor, kv_N2HE: Tensor, batch: Batch, source: Batch) -> Tensor:
    """Each position of ``batch`` attends to the whole sequence of ``source`` that stands at the same place.

    Args:
        q_MHE: (M, H, E) queries, a row a position of ``batch``.
        kv_N2HE: (N, 2, H, E) keys and values, a row a position of ``source``.
        batch, source: as many sequences each.

    Returns:
        (M, H, E); zeros where the sequence of ``source`` is empty.
    """
    k_NHE, v_NHE = kv_N2HE[:, 0], kv_N2HE[:, 1]
    if q_MHE.is_cuda and q_MHE.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        offsets, others = batch.offsets_B1, source.offsets_B1
        longest, other = (x.values.shape[0] // x.rows for x in (batch, source))
        found = varlen_attn(q_MHE, k_NHE, v_NHE, offsets, others, longest, other)
        assert isinstance(found, Tensor)
        return found
    return _cross_per_group(q_MHE, k_NHE, v_NHE, batch, source)


@torch.compiler.disable
def _cross_per_group(q_MHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, batch: Batch, source: Batch) -> Tensor:
    """SDPA on each run of neighbouring sequences that have equal lengths on both sides."""
    outputs, start, other = [], 0, 0
    for (length, length_source), run in groupby(zip(batch.lengths, source.lengths, strict=True)):
        count = sum(1 for _ in run)
        stop, stop_source = start + count * length, other + count * length_source
        q = q_MHE[start:stop]
        if length and length_source:
            k, v = (_grouped(x, (slice(other, stop_source), count, length_source)) for x in (k_NHE, v_NHE))
            q = F.scaled_dot_product_attention(_grouped(q, (slice(None), count, length)), k, v)
            outputs.append(q.transpose(1, 2).flatten(0, 1))
        elif length:
            outputs.append(torch.zeros_like(q))
        start, other = stop, stop_source
    return torch.cat(outputs)


def rope_table(positions_N: Tensor, width: int, theta: float) -> Rope:
    """Cosines and sines of the rotary angles, each (N, 1, 1, E/2) float32 (Su et al. 2021, arXiv:2104.09864)."""
    exponent = torch.arange(0, width, 2, dtype=torch.float32, device=positions_N.device) / width
    angles = positions_N.float()[:, None] * (1.0 / theta**exponent)
    return angles.cos()[:, None, None], angles.sin()[:, None, None]


def rotate(x_N2HE: Tensor, rope: Rope) -> Tensor:
    """Turn each pair (i, i + E/2) of the last axis by its position's angle; float32 inside, the input's type out."""
    cos, sin = rope
    first, second = x_N2HE.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_N2HE.dtype)


def _varlen(qkv_N3HE: Tensor, rope: Rope, batch: Batch, window: int | None, causal: bool = False) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    qk_N2HE = rotate(qkv_N3HE[:, :2], rope)
    left = -1 if window is None else window
    reach = (left, 0 if causal else left)
    # A row that is not full ends in a padding sequence that may be longer than any other: what a kernel leaves out is
    # not written, and may be NaN.
    offsets, longest = batch.offsets_B1, batch.values.shape[0] // batch.rows
    q, k, v = qk_N2HE[:, 0], qk_N2HE[:, 1], qkv_N3HE[:, 2]
    out_NHE = varlen_attn(q, k, v, offsets, offsets, longest, longest, window_size=reach)
    assert isinstance(out_NHE, Tensor)  # it returns a pair only when asked for its log-sum-exp
    return out_NHE


def _groups(batch: Batch) -> list[tuple[slice, int, int]]:
    """Runs of neighbouring sequences of one length: (their positions, how many, the length)."""
    groups, start = [], 0
    for length, run in groupby(batch.lengths):
        count = sum(1 for _ in run)
        if length:
            groups.append((slice(start, start + count * length), count, length))
            start += count * length
    return groups


def _grouped(x_NHE: Tensor, group: tuple[slice, int, int]) -> Tensor:
    """A view of a group as (count, H, length, E)."""
    span, count, length = group
    return x_NHE[span].unflatten(0, (count, length)).transpose(1, 2)


@torch.compiler.disable
def _per_group(qkv_N3HE: Tensor, rope: Rope, batch: Batch, window: int | None, causal: bool = False) -> Tensor:
    """SDPA on each group. Outside compiled graphs: the lengths change with the batch, and each set would recompile."""
    qk_N2HE = rotate(qkv_N3HE[:, :2], rope)
    outputs = []
    for group in _groups(batch):
        q, k, v = (_grouped(x, group) for x in (qk_N2HE[:, 0], qk_N2HE[:, 1], qkv_N3HE[:, 2]))
        near = window is not None and group[2] > window + 1
        mask = _band(group[2], window, causal, q.device) if near else None
        whole = causal and not near
        outputs.append(
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=whole).transpose(1, 2).flatten(0, 1)
        )
    return torch.cat(outputs)


def _band(length: int, window: int | None, causal: bool, device: torch.device) -> Tensor:
    """(length, length) bool, True where two positions are at most ``window`` apart, and none is later if ``causal``."""
    place = torch.arange(length, device=device)
    back = place[:, None] - place[None, :]
    near = back.abs() <= (length if window is None else window)
    return near & (back >= 0) if causal else near


@torch.compiler.disable
def _on_cpu(qkv_N3HE: Tensor, rope: Rope, batch: Batch, causal: bool = False) -> Tensor:
    return _CpuAttention.apply(qkv_N3HE, *rope, batch, causal)


class _CpuAttention(torch.autograd.Function):
    """Rotation and flash attention with one buffer for the gradient of all three inputs.

    Written with plain autograd, slicing q, k and v out of one tensor costs a zero-filled gradient and an addition for
    each slice and a concatenation for each half of a rotation: 8 to 10 % of a pass (benchmarks/LOG.md).
    """

    @staticmethod
    def forward(ctx: Any, qkv_N3HE: Tensor, cos: Tensor, sin: Tensor, batch: Batch, causal: bool) -> Tensor:
        qk_N2HE = torch.empty_like(qkv_N3HE[:, :2])
        _rotate_into(qk_N2HE, qkv_N3HE[:, :2], cos, sin, 1)
        v_NHE = qkv_N3HE[:, 2]
        out_NHE = torch.empty_like(v_NHE)
        ctx.groups, ctx.sums, ctx.causal = _groups(batch), [], causal
        for group in ctx.groups:
            q, k, v = (_grouped(x, group) for x in (qk_N2HE[:, 0], qk_N2HE[:, 1], v_NHE))
            out, log_sum = _flash(q, k, v, 0.0, causal)
            _grouped(out_NHE, group).copy_(out)
            ctx.sums.append(log_sum)
        ctx.save_for_backward(qk_N2HE, v_NHE, out_NHE, cos, sin)
        return out_NHE

    @staticmethod
    def backward(ctx: Any, grad_NHE: Tensor) -> tuple[Tensor, None, None, None, None]:
        qk_N2HE, v_NHE, out_NHE, cos, sin = ctx.saved_tensors
        grad_qkv = grad_NHE.new_empty(grad_NHE.shape[0], 3, *grad_NHE.shape[1:])
        for group, log_sum in zip(ctx.groups, ctx.sums, strict=True):
            tensors = (grad_NHE, qk_N2HE[:, 0], qk_N2HE[:, 1], v_NHE, out_NHE)
            grads = _flash_backward(*(_grouped(x, group) for x in tensors), log_sum, 0.0, ctx.causal)
            span = group[0]
            for i in (0, 1):
                turned = grads[i].transpose(1, 2).flatten(0, 1)[:, None]
                _rotate_into(grad_qkv[span, i : i + 1], turned, cos[span], sin[span], -1)
            _grouped(grad_qkv[:, 2], group).copy_(grads[2])
        return grad_qkv, None, None, None, None


def _rotate_into(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> None:
    """``rotate`` without temporaries; ``sign=-1`` turns back, which is also the gradient of turning."""
    (first, second), (out_first, out_second) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(first, cos, out=out_first).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out_second).addcmul_(first, sin, value=sign)
