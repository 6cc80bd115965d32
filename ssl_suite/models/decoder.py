"""A decoder over a ragged batch: the encoder's blocks, looking to the left only, each with a look at the encoder.

Sequence b of the targets attends to sequence b of the sources (Vaswani et al. 2017, arXiv:1706.03762), pre-norm like
the encoder. Self-attention is rotary; cross-attention has no positions of its own, as in T5 (Raffel et al. 2020,
arXiv:1910.10683): both sides carry theirs in their states. The table of embeddings is the encoder's.

Shapes beside the legend of ``core.batch``: M positions of the targets, N of the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_suite.core.batch import Batch
from ssl_suite.models.attention import Rope, cross_attention, rope_table
from ssl_suite.models.encoder import Attention, EncoderSpec, GeGLU


class CrossAttention(nn.Module):
    """Multi-head attention of the targets' positions to the sources' states."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.Wq = nn.Linear(spec.width, spec.width, bias=False)
        self.Wkv = nn.Linear(spec.width, 2 * spec.width, bias=False)
        self.Wo = nn.Linear(spec.width, spec.width, bias=False)

    def forward(self, x_MD: Tensor, target: Batch, states_ND: Tensor, source: Batch) -> Tensor:
        m, width = x_MD.shape
        q_MHE = self.Wq(x_MD).view(m, self.heads, width // self.heads)
        kv_N2HE = self.Wkv(states_ND).view(-1, 2, self.heads, width // self.heads)
        return self.Wo(cross_attention(q_MHE, kv_N2HE, target, source).reshape(m, width))


class DecoderLayer(nn.Module):
    """One pre-norm block: causal self-attention, cross-attention, GeGLU. The first has no norm before its attention."""

    def __init__(self, spec: EncoderSpec, index: int) -> None:
        super().__init__()
        self.attn_norm = nn.Identity() if index == 0 else nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.attn = Attention(spec, spec.windows[index])
        self.cross_norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.cross = CrossAttention(spec)
        self.mlp_norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.mlp = GeGLU(spec)

    def forward(self, x_MD: Tensor, rope: Rope, target: Batch, states_ND: Tensor, source: Batch) -> Tensor:
        x_MD = x_MD + self.attn(self.attn_norm(x_MD), rope, target)
        x_MD = x_MD + self.cross(self.cross_norm(x_MD), target, states_ND, source)
        return x_MD + self.mlp(self.mlp_norm(x_MD))


class Decoder(nn.Module):
    """Target ids and the encoder's states to hidden states.

    Args:
        spec: the encoder's shapes; every layer sees the whole sequence to its left, whatever the encoder's windows.
        layers: its depth.
    """

    def __init__(self, spec: EncoderSpec, layers: int) -> None:
        super().__init__()
        self.spec = replace(spec, layers=layers, windows=(None,) * layers, thetas=spec.thetas[:1] * layers, causal=True)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.layers = nn.ModuleList(DecoderLayer(self.spec, index) for index in range(layers))
        self.final_norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the encoder's: the maps back into the residual stream, three a layer here, smaller by sqrt(3 L)."""
        out_std = self.spec.init_std / (3 * self.spec.layers) ** 0.5
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                nn.init.ones_(weight)
            else:
                std = out_std if name.endswith("Wo.weight") else self.spec.init_std
                nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, target: Batch, states_ND: Tensor, source: Batch, table_VD: Tensor) -> Tensor:
        """(M, D), after the final norm; position i knows the targets up to i and the whole source.

        Args:
            target: what it reads, as many sequences as ``source`` and in the same order.
            states_ND: the encoder's output on ``source``.
            table_VD: the encoder's embeddings.
        """
        x_MD = self.norm(F.embedding(target.values, table_VD, padding_idx=self.spec.pad))
        rope = rope_table(target.positions_N(), self.spec.width // self.spec.heads, self.spec.thetas[0])
        for layer in self.layers:
            x_MD = layer(x_MD, rope, target, states_ND, source)
        return self.final_norm(x_MD)


def decoder_flops(model: Mapping[str, Any], layers: int, target: Batch, source: Batch) -> float:
    """FLOPs of one forward pass of a decoder, without a head, over the data of two batches.

    Counted as in ``models.flops``: a layer's ``2 M (4 D^2 + 3 D W)`` for the targets (W the MLP's width) and
    ``4 D sum(t^2)`` for attention among them, both halves of the causal square; for cross-attention ``4 M D^2`` (Wq,
    Wo), ``4 N D^2`` (Wkv) and ``4 D sum(t s)`` over pairs of lengths.

    ``sum(t s)`` is taken as ``sqrt(sum(t^2) sum(s^2))``, which it equals where targets are proportional to their
    sources; a corruption at a fixed rate makes them so, but for rounding. (Which slots hold padding is known on the
    device only.)
    """
    width, mlp = model["width"], model["mlp_width"]
    dense = 2 * target.tokens * (4 * width**2 + 3 * width * mlp)
    maps = 4 * width**2 * (target.tokens + source.tokens)
    attended = target.squares + (target.squares * source.squares) ** 0.5
    return float(layers * (dense + maps + 4 * width * attended))
