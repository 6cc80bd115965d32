import pytest
import torch

from ssl_suite.models.attention import _per_group, attention, cross_attention, rope_table
from tests.conftest import ragged


def turned(x, positions):
    """Rotary positions as multiplication by complex numbers, theta 100."""
    half = x.shape[-1] // 2
    angles = positions[:, None].double() * 100.0 ** (-torch.arange(half).double() / half)
    z = (
        torch.complex(x[..., :half].double(), x[..., half:].double())
        * torch.polar(torch.ones_like(angles), angles)[:, None]
    )
    return torch.cat((z.real, z.imag), -1)


def naive(qkv, ids, positions, window, causal=False):
    """A softmax over the whole row with a block-diagonal mask, in float64."""
    q, k = turned(qkv[:, 0], positions).transpose(0, 1), turned(qkv[:, 1], positions).transpose(0, 1)
    v = qkv[:, 2].double().transpose(0, 1)
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    seen = ids[:, None] == ids[None, :]
    if window is not None:
        seen &= (positions[:, None] - positions[None, :]).abs() <= window
    if causal:
        seen &= positions[:, None] >= positions[None, :]
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 0, 3, 64])
@pytest.mark.parametrize("lengths", [[7, 7, 7], [1, 20, 20, 5, 0, 0], [33], [0, 4, 4, 0, 9]])
def test_equals_block_diagonal_softmax(lengths, window, causal):
    batch = ragged(lengths, max_length=40)
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, 2, 16, requires_grad=True)
    rope = rope_table(batch.positions_N(), 16, 100.0)
    expected = naive(qkv, batch.sequence_ids_N(), batch.positions_N(), window, causal)
    weights = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), qkv)
    for path in (attention, _per_group):
        got = path(qkv, rope, batch, window, causal)
        torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)
        (grad,) = torch.autograd.grad((got * weights).sum(), qkv)
        torch.testing.assert_close(grad, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("lengths", "others"), [([3, 3, 5], [7, 7, 7]), ([0, 4, 2], [3, 0, 6]), ([9], [1]), ([2, 2, 0, 0], [5, 5, 5, 0])]
)
def test_cross_attention_equals_a_masked_softmax(lengths, others):
    batch, source = ragged(lengths, max_length=40), ragged(others, max_length=40)
    torch.manual_seed(0)
    q, kv = torch.randn(sum(lengths), 2, 16, requires_grad=True), torch.randn(sum(others), 2, 2, 16, requires_grad=True)
    seen = batch.sequence_ids_N()[:, None] == source.sequence_ids_N()[None, :]
    scores = q.double().transpose(0, 1) @ kv[:, 0].double().permute(1, 2, 0) / 4
    expected = scores.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0) @ kv[:, 1].double().transpose(0, 1)
    expected = expected.transpose(0, 1)
    got = cross_attention(q, kv, batch, source)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(expected)
    if all(others[i] for i in batch.sequence_ids_N().tolist()):  # a softmax over nothing has no gradient to compare
        wanted = torch.autograd.grad((expected * weights).sum(), (q, kv))
        found = torch.autograd.grad((got * weights).sum(), (q, kv))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen_attn runs on CUDA only")
@pytest.mark.parametrize("window", [None, 3])
def test_varlen_path_equals_the_cpu_path(window):
    batch = ragged([1, 20, 20, 5, 0, 0], max_length=40)
    qkv = torch.randn(46, 3, 2, 64)
    expected = attention(qkv, rope_table(batch.positions_N(), 64, 100.0), batch, window)
    there = batch.to(torch.device("cuda"))
    got = attention(qkv.cuda().bfloat16(), rope_table(there.positions_N(), 64, 100.0), there, window)
    torch.testing.assert_close(got.float().cpu(), expected, atol=2e-2, rtol=2e-2)
