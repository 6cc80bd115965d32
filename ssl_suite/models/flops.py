"""Matrix-product FLOPs of the encoder, as plain arithmetic: what MFU, ``plan`` and the benchmarks divide by.

Counted as Kaplan et al. 2020 ("Scaling laws for neural language models", appendix A) and Chowdhery et al. 2022
("PaLM", appendix B) do: a multiplication and an addition are two operations, a backward pass costs twice its forward
pass, and whatever is not a matrix product (norms, softmax, rotary embedding, GELU, the embedding look-up) counts
nothing. Nothing is counted for recomputation, so this is model FLOPs, not hardware FLOPs.

Legend: D width, M width of the MLP, L layers, N positions, K predicted positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_suite.core.batch import Batch


def forward_flops(
    model: Mapping[str, Any], *, lengths_squared_sum: float, positions: float, predicted: float, vocabulary: float
) -> float:
    """FLOPs of one forward pass over a ragged batch.

    Args:
        model: ``layers``, ``width`` and ``mlp_width``; ``features`` where positions are frames of a signal.
        lengths_squared_sum: the sum over sequences of length squared; attention stays inside a sequence.
        positions: N, of all sequences together.
        predicted: K, the positions that enter the head; 0 for an encoder without one.
        vocabulary: V, the classes of the head.

    Returns:
        Operations: ``2 N (4 D^2 + 3 D M)`` a layer (Wqkv D x 3D, Wo D x D, GeGLU Wi D x 2M and Wo M x D), attention
        ``4 D sum(len^2)`` a layer (scores and weighted values), head ``2 K (D^2 + D V)`` (dense, then decoder), and the
        map of G features ``2 N G D``.
    """
    width, mlp = model["width"], model["mlp_width"]
    dense = 2 * positions * (4 * width**2 + 3 * width * mlp)
    attention = 4 * width * lengths_squared_sum
    frames = 2 * positions * width * model.get("features", 0)
    head = 2 * predicted * (width**2 + width * vocabulary)
    return float(model["layers"] * (dense + attention) + frames + head)


def encoder_flops(model: Mapping[str, Any], batch: Batch) -> float:
    """FLOPs of one forward pass of an encoder, without a head, over the data of a batch.

    Args:
        model: the attributes of the encoder's spec. A convnet's has ``flops_per_picture``, and a sequence is a picture;
            ``attends`` is False where positions meet in convolutions alone.
    """
    if "flops_per_picture" in model:
        return float(model["flops_per_picture"]) * sum(1 for length in batch.lengths if length == batch.max_length)
    squares = batch.squares if model.get("attends", True) else 0
    return forward_flops(model, lengths_squared_sum=squares, positions=batch.tokens, predicted=0, vocabulary=0)


def training_flops(model: Mapping[str, Any], **shapes: float) -> float:
    """FLOPs of one forward and backward pass: three times ``forward_flops``, whose arguments it takes."""
    return 3 * forward_flops(model, **shapes)
