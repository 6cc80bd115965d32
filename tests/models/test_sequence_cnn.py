"""The convolutional network for sequences against a loop over positions and taps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.core.records import SPECIAL_TOKENS, Vocabulary
from ssl_suite.models.flops import encoder_flops
from ssl_suite.models.sequence_cnn import SequenceCNN, SequenceCNNSpec
from tests.evaluation.text_models import batch, spans

V = Vocabulary((*SPECIAL_TOKENS, *"ACGT"), (5, 9))
LENGTHS = [3, 130, 64, 2, 65, 20]


def made(layers: int = 5, width: int = 8, kernel: int = 5) -> SequenceCNN:
    torch.manual_seed(0)
    model = SequenceCNN(SequenceCNNSpec(len(V), V.pad, layers=layers, width=width, kernel=kernel))
    with torch.no_grad():  # far from the start, so that norms and biases matter
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.embeddings.weight[V.pad] = 0.0
    return model.eval()


def looped(model: SequenceCNN, ids: list[int]) -> list[Tensor]:
    """All states of one sequence: zeros beyond its ends, block i with dilation 1, 2, 4, 8 and again from 1."""
    states = [model.embeddings.weight[ids]]
    for i, block in enumerate(model.layers):
        x, dilation = states[-1], (1, 2, 4, 8)[i % 4]
        normed = F.layer_norm(x, x.shape[1:], block.norm.weight, block.norm.bias)
        kernel = block.convolution.weight
        mixed = []
        for t in range(len(ids)):
            total = block.convolution.bias
            for tap in range(kernel.shape[2]):
                place = t + (tap - kernel.shape[2] // 2) * dilation
                if 0 <= place < len(ids):
                    total = total + kernel[:, :, tap] @ normed[place]
            mixed.append(total)
        states.append(x + F.gelu(torch.stack(mixed)) @ block.pointwise.weight.T + block.pointwise.bias)
    return states


def test_states_are_a_loops_whatever_stands_beside_a_sequence() -> None:
    model, given = made(), batch(LENGTHS, V, n=sum(LENGTHS) + 90, slots=2)
    with torch.no_grad():
        states, last, vectors = model.layer_states(given), model(given), model.pooled(given)
        for i, span in enumerate(spans(given)):
            expected = looped(model, given.values[span].tolist())
            assert len(states) == len(expected) == 6
            for state, reference in zip(states, expected, strict=True):
                torch.testing.assert_close(state[span], reference, atol=2e-5, rtol=0)
            final = model.final_norm(expected[-1])
            torch.testing.assert_close(last[span], final, atol=2e-5, rtol=0)
            mean = final[1:-1].mean(0) if len(final) > 2 else torch.zeros(8)
            torch.testing.assert_close(vectors[i], mean, atol=2e-5, rtol=0)


def test_what_is_trained_has_a_gradient() -> None:
    model = made().train()
    for given in (batch([12, 70], V, n=100), batch([], V, n=50)):
        model.zero_grad(set_to_none=True)
        model.pooled(given).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        assert any(bool(p.grad.any()) for p in model.parameters() if p.grad is not None) == bool(given.tokens)


def test_flops_are_those_of_the_maps() -> None:
    """The trainer reads the spec's attributes."""
    model, given = made(kernel=9), batch([64, 64], V)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(given)
    maps = encoder_flops(vars(model.spec), given)
    assert maps == pytest.approx(counter.get_total_flops())
