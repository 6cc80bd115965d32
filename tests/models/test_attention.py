import pytest
import torch

from ssl_suite.models.attention import attention
from tests.conftest import ragged


def naive(q, k, v, ids, positions, window):
    """A softmax over the whole row with a block-diagonal mask, in float64."""
    q, k, v = (x.double().transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    seen = ids[:, None] == ids[None, :]
    if window is not None:
        seen &= (positions[:, None] - positions[None, :]).abs() <= window
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1)


@pytest.mark.parametrize("window", [None, 0, 3, 64])
@pytest.mark.parametrize("lengths", [[7, 7, 7], [1, 20, 20, 5, 0, 0], [33], [0, 4, 4, 0, 9]])
def test_equals_block_diagonal_softmax(lengths, window):
    batch = ragged(lengths, max_length=40)
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), 2, 16, requires_grad=True) for _ in range(3))
    expected = naive(q, k, v, batch.sequence_ids_N(), batch.positions_N(), window)
    got = attention(q, k, v, batch, window)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), (q, k, v))
    for grad, other in zip(torch.autograd.grad((got * weights).sum(), (q, k, v)), wanted, strict=True):
        torch.testing.assert_close(grad, other, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen_attn runs on CUDA only")
@pytest.mark.parametrize("window", [None, 3])
def test_varlen_path_equals_the_cpu_path(window):
    batch = ragged([1, 20, 20, 5, 0, 0], max_length=40)
    q, k, v = (torch.randn(46, 2, 64) for _ in range(3))
    expected = attention(q, k, v, batch, window)
    half = [x.cuda().bfloat16() for x in (q, k, v)]
    got = attention(*half, batch.to(torch.device("cuda")), window)
    torch.testing.assert_close(got.float().cpu(), expected, atol=2e-2, rtol=2e-2)
