import torch
import torch.nn.functional as F

from ssl_suite.models.gated import gelu_gate


def test_equals_plain_autograd():
    torch.manual_seed(0)
    x = torch.randn(33, 14, requires_grad=True)
    value, gate = x.chunk(2, dim=-1)
    expected = F.gelu(value) * gate
    got = gelu_gate(x)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(torch.autograd.grad((got * weights).sum(), x), wanted)


def test_gradient_by_finite_differences():
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gelu_gate, x)
