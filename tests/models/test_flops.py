"""The FLOP formula against PyTorch's own counter, on matrix products written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core.batch import ragged
from ssl_suite.core.records import Vocabulary
from ssl_suite.models.attention import _per_group
from ssl_suite.models.encoder import Encoder, EncoderSpec
from ssl_suite.models.flops import forward_flops, training_flops
from ssl_suite.objectives.heads import PredictionHead

MODEL = {"layers": 3, "width": 32, "heads": 2, "mlp_width": 40}
LENGTHS = (7, 1, 20, 12)
PREDICTED, VOCABULARY = 6, 9


def products(layers: int, width: int, heads: int, mlp_width: int) -> torch.Tensor:
    """The encoder's matrix products and nothing else; every parameter and activation needs a gradient."""

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, requires_grad=True)

    x_ND = weight(sum(LENGTHS), width)
    for _ in range(layers):
        qkv_N3D = x_ND @ weight(width, 3 * width)
        mixed = []
        for part in qkv_N3D.split(LENGTHS):
            q, k, v = part.view(len(part), 3, heads, width // heads).permute(1, 2, 0, 3)
            mixed.append((torch.softmax(q @ k.transpose(1, 2), -1) @ v).transpose(0, 1).reshape(len(part), width))
        x_ND = torch.cat(mixed) @ weight(width, width)
        gate_NM, value_NM = (x_ND @ weight(width, 2 * mlp_width)).chunk(2, -1)
        x_ND = (gate_NM * value_NM) @ weight(mlp_width, width)
    return (x_ND[:PREDICTED] @ weight(width, width)) @ weight(width, VOCABULARY)


def arguments(predicted: int) -> dict:
    squares = sum(length**2 for length in LENGTHS)
    return {
        "lengths_squared_sum": squares,
        "positions": sum(LENGTHS),
        "predicted": predicted,
        "vocabulary": VOCABULARY,
    }


def test_forward_equals_the_counter() -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        products(**MODEL)
    assert forward_flops(MODEL, **arguments(PREDICTED)) == counter.get_total_flops()


def test_training_equals_the_counter() -> None:
    with FlopCounterMode(display=False) as counter:
        products(**MODEL).sum().backward()
    assert training_flops(MODEL, **arguments(PREDICTED)) == counter.get_total_flops()


def test_training_the_real_encoder_equals_the_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """By way of SDPA's math backend, because the counter does not know the CPU's fused attention."""
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    spec = EncoderSpec(**MODEL, vocabulary=VOCABULARY, windows=(None,) * 3, thetas=(100.0,) * 3)
    encoder, head = Encoder(spec), PredictionHead(spec)
    batch = ragged([np.zeros(length, np.int64) for length in (5, 1, 18, 10)], Vocabulary((), (5, 9)), max_length=64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        head(encoder(batch)[:PREDICTED], encoder.embeddings.tok_embeddings.weight).sum().backward()
    expected = training_flops(
        MODEL,
        lengths_squared_sum=batch.squares,
        positions=batch.tokens,
        predicted=PREDICTED,
        vocabulary=VOCABULARY,
    )
    assert expected == counter.get_total_flops()


@pytest.mark.parametrize("name", ["layers", "width", "mlp_width"])
def test_every_size_matters(name: str) -> None:
    larger = {**MODEL, name: 2 * MODEL[name]}
    assert training_flops(larger, **arguments(PREDICTED)) > training_flops(MODEL, **arguments(PREDICTED))
