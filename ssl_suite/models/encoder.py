"""The encoder shared by all modalities: ModernBERT's layout over a ragged batch.

Pre-norm, rotary positions, GeGLU, no biases (Warner et al. 2024, arXiv:2412.13663). Parameters carry the names they
have in ``transformers.ModernBertModel``, so a state dict maps both ways by a prefix (see ``models.hub``).
The encoder knows nothing of distribution, of objectives or of modalities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_suite.core.batch import Batch
from ssl_suite.core.records import Frame
from ssl_suite.core.wording import count
from ssl_suite.models.attention import Rope, attention, rope_table
from ssl_suite.models.dropout import Dropout
from ssl_suite.models.pooling import mean_pool

HEAD_WIDTH = 64  # the width flash kernels are tuned for
Change = Callable[[Tensor], Tensor]
"""Of (N, D): dropout, or nothing."""


@dataclass(frozen=True)
class EncoderSpec:
    """What determines the encoder's shapes.

    Attributes:
        layers, width, heads, mlp_width: depth, D, H, and the inner width of the GeGLU (its first map has twice that).
        vocabulary: V.
        pad: the id whose embedding takes no gradient.
        windows: for each layer, how far a position sees, None for the whole sequence.
        thetas: for each layer, the base of the rotary frequencies.
        eps: of the layer norms.
        init_std: standard deviation of the truncated normal that weights start from.
        features, grid: of signal modalities: numbers a frame gives to its linear map, and a picture's rows and columns.
        causal: a position sees none after it.
        dropout: share of the embedder's output and of each branch that is dropped in training. The weights of attention
            are not dropped: ``varlen_attn`` cannot.
        checkpointing: a layer's activations are computed again in the backward pass instead of kept.
    """

    kind: ClassVar[str] = "transformer"

    layers: int
    width: int
    heads: int
    mlp_width: int
    vocabulary: int
    pad: int = 0
    windows: tuple[int | None, ...] = ()
    thetas: tuple[float, ...] = ()
    eps: float = 1e-5
    init_std: float = 0.02
    features: int = 0
    grid: tuple[int, int] | None = None
    causal: bool = False
    dropout: float = 0.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where the numbers, which may come from a damaged file, are of no encoder."""
        reaches = [reach for reach in self.windows if reach is not None]
        for least, numbers in (
            (1, (self.layers, self.width, self.heads, self.mlp_width, self.vocabulary)),
            (0, (self.pad, self.features, *(self.grid or ()), *reaches)),
        ):
            if not all(type(x) is int and x >= least for x in numbers):
                raise ValueError(f"sizes {numbers}")
        if self.width % (2 * self.heads) or self.pad >= self.vocabulary:
            raise ValueError(f"heads={self.heads} of width={self.width}, pad={self.pad} of {self.vocabulary}")
        if not len(self.windows) == len(self.thetas) == self.layers:
            raise ValueError(f"windows={self.windows} and thetas={self.thetas} of layers={self.layers}")
        if not all(0 < x < math.inf for x in (*self.thetas, self.eps, self.init_std)) or not 0 <= self.dropout < 1:
            raise ValueError(f"thetas={self.thetas}, eps={self.eps}, init_std={self.init_std}, dropout={self.dropout}")

    @property
    def words(self) -> str:
        """The shapes for a reader."""
        seen = ", causal" if self.causal else ""
        return f"{count(self.layers, 'layer')}, {self.width} wide, ModernBERT layout{seen}"

    @classmethod
    def from_section(
        cls,
        section: Mapping[str, Any],
        vocabulary: int,
        max_length: int,
        pad: int = 0,
        frame: Frame | None = None,
        causal: bool = False,
    ) -> EncoderSpec:
        """From the ``model`` section of a run's configuration: global attention in every layer.

        ``rope_theta: null`` becomes ``max_length``: the slowest of the rotary pairs then turns about once over the
        longest sequence. ModernBERT's 10,000 is made for 8,192 positions; on 128 bases it leaves two thirds of the
        pairs standing still, and learning which neighbour is which takes several times as many steps
        (benchmarks/LOG.md).
        ``init_std: null`` becomes ``0.02 * sqrt(768 / width)``: ModernBERT's 0.02 at its own width, and the same
        size of activations at any other.
        """
        layers, width = section["layers"], section["width"]
        return cls(
            layers=layers,
            width=width,
            heads=section["heads"],
            mlp_width=section["mlp_width"],
            vocabulary=vocabulary,
            pad=pad,
            windows=(None,) * layers,
            thetas=(float(section["rope_theta"] or max_length),) * layers,
            init_std=section["init_std"] or 0.02 * (768 / width) ** 0.5,
            features=frame.features if frame is not None else 0,
            grid=frame.grid if frame is not None else None,
            causal=causal,
        )


class TokenEmbedder(nn.Module):
    """ids (N,) -> (N, D): a table and a layer norm."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(spec.vocabulary, spec.width, padding_idx=spec.pad)
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)

    @property
    def table_VD(self) -> Tensor:
        """The embedding table, which a head may share."""
        return self.tok_embeddings.weight

    def forward(self, batch: Batch) -> Tensor:
        return self.norm(self.tok_embeddings(batch.values))


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, spec: EncoderSpec, window: int | None) -> None:
        super().__init__()
        self.heads, self.window, self.causal = spec.heads, window, spec.causal
        self.Wqkv = nn.Linear(spec.width, 3 * spec.width, bias=False)
        self.Wo = nn.Linear(spec.width, spec.width, bias=False)

    def forward(self, x_ND: Tensor, rope: Rope, batch: Batch) -> Tensor:
        n, width = x_ND.shape
        qkv_N3HE = self.Wqkv(x_ND).view(n, 3, self.heads, width // self.heads)
        return self.Wo(attention(qkv_N3HE, rope, batch, self.window, self.causal).reshape(n, width))


class GeGLU(nn.Module):
    """gelu(x W1) * (x W2), then back to D (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.Wi = nn.Linear(spec.width, 2 * spec.mlp_width, bias=False)
        self.Wo = nn.Linear(spec.mlp_width, spec.width, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        value, gate = self.Wi(x_ND).chunk(2, dim=-1)
        return self.Wo(F.gelu(value) * gate)


class Layer(nn.Module):
    """One pre-norm block. The first has no norm before its attention: the embedder's norm stands there."""

    def __init__(self, spec: EncoderSpec, index: int) -> None:
        super().__init__()
        self.attn_norm = nn.Identity() if index == 0 else nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.attn = Attention(spec, spec.windows[index])
        self.mlp_norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.mlp = GeGLU(spec)

    def forward(self, x_ND: Tensor, rope: Rope, batch: Batch, drops: tuple[Change, Change] | None = None) -> Tensor:
        first, second = drops or (_unchanged, _unchanged)
        x_ND = x_ND + first(self.attn(self.attn_norm(x_ND), rope, batch))
        return x_ND + second(self.mlp(self.mlp_norm(x_ND)))


def _unchanged(x: Tensor) -> Tensor:
    return x


class Encoder(nn.Module):
    """Token ids to hidden states.

    Args:
        spec: the shapes.
        embedder: maps a batch to (N, D), see ``models.embedders``; the token table by default.
    """

    def __init__(self, spec: EncoderSpec, embedder: nn.Module | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.dropout: Dropout | None = None  # of the pass at hand, see ``Learner``
        self.embeddings: Any = embedder or TokenEmbedder(spec)
        self.layers = nn.ModuleList(Layer(spec, index) for index in range(spec.layers))
        self.final_norm = nn.LayerNorm(spec.width, eps=spec.eps, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """ModernBERT's start: truncated normal, the maps back into the residual stream smaller by sqrt(2 L)."""
        out_std = self.spec.init_std / max(1, 2 * self.spec.layers) ** 0.5
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                nn.init.ones_(weight)
            else:
                std = out_std if name.endswith("Wo.weight") else self.spec.init_std
                nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    @property
    def width(self) -> int:
        """D, of the states and of the pooled vectors."""
        return self.spec.width

    def forward(self, batch: Batch, dropout: Dropout | None = None) -> Tensor:
        """(N, D): the last layer's states after the final norm."""
        return self.final_norm(self.layer_states(batch, dropout)[-1])

    def pooled(self, batch: Batch, dropout: Dropout | None = None) -> Tensor:
        """(B, D): each sequence's mean state, without its [CLS], [SEP] and [PAD]; zeros where nothing is left."""
        return mean_pool(self(batch, dropout), batch, self.spec.pad)

    def layer_states(self, batch: Batch, dropout: Dropout | None = None) -> list[Tensor]:
        """The embedder's output and every layer's, L + 1 tensors of (N, D), before the final norm.

        Args:
            dropout: of the embedder's output and of each branch before it is added; None is the learner's.
        """
        dropout = dropout or self.dropout
        drops: list[Change] = [_unchanged] * (2 * len(self.layers) + 1)
        if dropout is not None:
            drops = dropout.places(batch.rows, len(drops))
        x_ND = drops[0](self.embeddings(batch))
        positions_N = batch.positions_N()
        tables = {theta: rope_table(positions_N, x_ND.shape[1] // self.spec.heads, theta) for theta in self.spec.thetas}
        states = [x_ND]
        recompute = self.spec.checkpointing and torch.is_grad_enabled()
        branches = zip(drops[1::2], drops[2::2], strict=True)
        for layer, theta, own in zip(self.layers, self.spec.thetas, branches, strict=True):
            given = (x_ND, tables[theta], batch, own)
            if recompute:  # without a state of torch's generators: ``own`` makes its draws by their numbers
                x_ND = checkpoint(layer, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x_ND = layer(*given)
            states.append(x_ND)
        return states
