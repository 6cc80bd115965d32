import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssl_suite.models.attention import _per_group
from ssl_suite.models.decoder import Decoder, decoder_flops
from ssl_suite.models.encoder import EncoderSpec
from tests.conftest import ragged

SPEC = EncoderSpec(2, 32, 2, 48, 12, windows=(None, 4), thetas=(100.0, 7.0), init_std=0.2)
TARGETS, SOURCES = [7, 3, 3, 1, 0, 9], [4, 11, 11, 2, 5, 0]  # the fifth has no target, the sixth no source


def decoder(layers: int = 3) -> Decoder:
    torch.manual_seed(0)
    return Decoder(SPEC, layers)


def inputs(targets: list[int] = TARGETS, sources: list[int] = SOURCES):
    torch.manual_seed(1)
    states, table = torch.randn(sum(sources), 32), torch.randn(12, 32)
    return ragged(targets), states.requires_grad_(), ragged(sources), table.requires_grad_()


def norm(x, layer):
    return F.layer_norm(x, (x.shape[-1],), layer.weight, None, 1e-5)


def turned(x_HTE):
    """Rotary positions as multiplication by complex numbers."""
    half = x_HTE.shape[-1] // 2
    angles = torch.arange(x_HTE.shape[1])[:, None] * 100.0 ** (-torch.arange(half) / half)
    z = torch.complex(x_HTE[..., :half], x_HTE[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((z.real, z.imag), -1)


def softmax_attention(q_TD, k_SD, v_SD, rotary, causal):
    q, k, v = (x.view(len(x), 2, 16).transpose(0, 1) for x in (q_TD, k_SD, v_SD))
    if rotary:
        q, k = turned(q), turned(k)
    scores = q @ k.transpose(1, 2) / 4
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(q_TD), 32)


def naive(model: Decoder, ids, states, table):
    """One sequence, by dense matrices: the embedding, three branches a layer, the final norm."""
    x = norm(table[ids], model.norm)
    for i, layer in enumerate(model.layers):
        q, k, v = (layer.attn.Wqkv.weight @ (norm(x, layer.attn_norm) if i else x).T).T.chunk(3, -1)
        x = x + softmax_attention(q, k, v, True, True) @ layer.attn.Wo.weight.T
        if len(states):
            q = norm(x, layer.cross_norm) @ layer.cross.Wq.weight.T
            k, v = (states @ layer.cross.Wkv.weight.T).chunk(2, -1)
            x = x + softmax_attention(q, k, v, False, False) @ layer.cross.Wo.weight.T
        value, gate = (norm(x, layer.mlp_norm) @ layer.mlp.Wi.weight.T).chunk(2, -1)
        x = x + (F.gelu(value) * gate) @ layer.mlp.Wo.weight.T
    return norm(x, model.final_norm)


def test_equals_a_dense_computation_of_each_sequence():
    model = decoder()
    target, states, source, table = inputs()
    parameters = [states, table, *model.parameters()]
    got = model(target, states, source, table)
    parts = zip(target.values.split(TARGETS), states.split(SOURCES), strict=True)
    expected = torch.cat([naive(model, ids, seen, table) for ids, seen in parts])
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for grad, other in zip(torch.autograd.grad((got * weights).sum(), parameters), wanted, strict=True):
        torch.testing.assert_close(grad, other, atol=1e-4, rtol=1e-3)


def test_sees_what_is_to_its_left_and_its_own_source_alone():
    model = decoder()
    target, states, source, table = inputs([6, 6], [5, 5])
    before = model(target, states, source, table)
    values = target.values.clone()
    values[3] = (values[3] + 1) % 12
    changed = model(target.with_values(values), states, source, table)
    assert torch.equal(changed[:3], before[:3]) and torch.equal(changed[6:], before[6:])
    assert (changed[3:6] != before[3:6]).any(-1).all()
    moved = states.detach().clone()
    moved[9] += 1  # the last state of the second source
    changed = model(target, moved, source, table)
    assert torch.equal(changed[:6], before[:6]) and (changed[6:] != before[6:]).any(-1).all()


def test_depth_and_windows_are_its_own():
    model = decoder(layers=3)
    assert len(model.layers) == 3 and all(layer.attn.window is None for layer in model.layers)
    assert all(layer.attn.causal for layer in model.layers)


def test_every_parameter_gets_a_gradient():
    model = decoder()
    target, states, source, table = inputs()
    model(target, states, source, table).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [states, table, *model.parameters()])


def test_starts_from_small_maps_into_the_residual_stream():
    model = Decoder(dataclasses.replace(SPEC, width=256, heads=4, mlp_width=704, init_std=0.04), 4)
    for name, weight in model.named_parameters():
        expected = 0.0 if weight.dim() == 1 else 0.04 / 12**0.5 if name.endswith("Wo.weight") else 0.04
        assert weight.std(unbiased=False).item() == pytest.approx(0.88 * expected, rel=0.02)  # cut at two deviations


@pytest.mark.parametrize("targets", [[6, 8, 2], [9, 9, 9]])
def test_flops_equal_the_counter(monkeypatch, targets):
    """By way of SDPA's math backend, because the counter does not know the CPU's fused attention."""
    monkeypatch.setattr("ssl_suite.models.encoder.attention", _per_group)
    model = decoder()
    target, states, source, table = inputs(targets, [2 * length for length in targets])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(target, states, source, table)
    assert decoder_flops(vars(SPEC), 3, target, source) == pytest.approx(counter.get_total_flops(), rel=1e-12)
