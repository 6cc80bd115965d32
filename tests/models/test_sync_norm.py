"""Batch norm over real items and processes, against PyTorch's on the chosen rows of one process."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightly.models.modules.heads import BYOLProjectionHead
from torch import Tensor, nn

from ssl_suite.models.sync_norm import SyncNorm, convert, counting
from tests.training.children import run_group

SHAPES = [(12, 5), (12, 5, 4, 3)]


def made(shape: tuple[int, ...], far: float = 3.0) -> tuple[Tensor, Tensor, nn.Module]:
    """Items, which are real, and PyTorch's norm for them with weights of no special value; float64."""
    torch.manual_seed(0)
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1]).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    items = torch.randn(shape).double() * torch.rand(shape[1]).view(-1, *[1] * (len(shape) - 2)) + far
    return items, torch.tensor([True, True, False, True] * 3), norm


def run(norm: nn.Module, x: Tensor, real: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """One pass with a loss on the real rows of ``x``; everything that could differ."""
    x = x.clone().requires_grad_()
    out = norm(x)
    ((out**2 + out) * weights)[real].sum().backward()
    found = {"out": out[real], "x": x.grad[real], "weight": norm.weight.grad, "bias": norm.bias.grad}
    return found | {name: buffer.clone() for name, buffer in norm.named_buffers()}


def close(got: dict[str, Tensor], expected: dict[str, Tensor], within: float = 1e-9) -> None:
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(
            got[name], x, rtol=within, atol=within, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_pytorchs_on_the_real_rows(shape):
    x, real, norm = made(shape)
    weights, ours = torch.randn(shape), convert(copy.deepcopy(norm))
    assert isinstance(ours, SyncNorm)
    expected = run(norm, x[real], torch.ones(9, dtype=torch.bool), weights[real])
    with counting(real):
        got = run(ours, x, real, weights)
    close(got, expected)
    norm.eval(), ours.eval()
    with counting(real):
        torch.testing.assert_close(ours(x), norm(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_mask_and_a_group_it_is_pytorchs(shape):
    x, _, norm = made(shape)
    ours, everything = convert(copy.deepcopy(norm)), torch.ones(12, dtype=torch.bool)
    weights = torch.randn(shape)
    for name, value in run(norm, x, everything, weights).items():
        assert torch.equal(run(copy.deepcopy(ours), x, everything, weights)[name], value)


def test_a_mean_far_from_zero_costs_no_precision():
    """Sums of squares would lose the variance here."""
    x, real, _ = made((12, 5), far=1e3)
    with counting(real):
        out = convert(nn.BatchNorm1d(5))(x.float())
    expected = nn.BatchNorm1d(5).double()(x.float()[real].double()).float()
    torch.testing.assert_close(out[real], expected, rtol=0, atol=1e-3)


def test_half_precision_keeps_float32_statistics():
    x, real, norm = made((12, 5))
    with counting(real):
        out = convert(norm.float())(x.bfloat16())
    assert out.dtype == torch.bfloat16 and norm.running_var.dtype == torch.float32


def test_nothing_real_changes_nothing():
    x, _, norm = made((12, 5))
    ours, before = convert(norm), norm.running_var.clone()
    x.requires_grad_()
    with counting(torch.zeros(12, dtype=torch.bool)):
        out = ours(x)
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()
    assert torch.equal(ours.running_var, before) and not ours.running_mean.any()


def test_a_wrong_mask_is_named():
    with counting(torch.ones(3, dtype=torch.bool)), pytest.raises(ValueError, match="12 items, but the mask is of 3"):
        convert(made((12, 5))[2])(made((12, 5))[0])


def test_convert_keeps_names_and_parameters():
    head = BYOLProjectionHead(8, 16, 4)
    names, parameters = list(head.state_dict()), list(head.parameters())
    changed = convert(head)
    assert list(changed.state_dict()) == names
    assert all(a is b for a, b in zip(changed.parameters(), parameters, strict=True))
    assert [type(layer) for layer in changed.layers] == [nn.Linear, SyncNorm, nn.ReLU, nn.Linear]
    assert convert(changed) is changed and isinstance(changed.layers[1], SyncNorm)


def _half(folder: Path, shape: tuple[int, ...], masked: bool) -> None:
    """A process's rows: the first has 4, the second 8; without a mask the shares are uneven, too."""
    import torch.distributed as dist

    from ssl_suite.training.distributed import processes

    with processes({"threads": 1, "precision": "fp32"}) as group:
        x, real, norm = made(shape)
        mine = slice(0, 4) if group.rank == 0 else slice(4, 12)
        torch.manual_seed(1)
        weights = torch.randn(shape)
        ours = convert(norm)
        real = real[mine] if masked else torch.ones(12, dtype=torch.bool)[mine]
        if masked:
            with counting(real):
                found = run(ours, x[mine], real, weights[mine])
        else:
            found = run(ours, x[mine], real, weights[mine])
        for name in ("weight", "bias"):  # summed, as the trainer does
            dist.all_reduce(found[name])
        torch.save(found, folder / f"{group.rank}.pt")


@pytest.mark.parametrize(("shape", "masked"), [(SHAPES[0], True), (SHAPES[1], False)])
def test_two_processes_equal_one(shape, masked, tmp_path):
    run_group(_half, tmp_path, shape, masked, folder=tmp_path, world=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    x, real, norm = made(shape)
    real = real if masked else torch.ones(12, dtype=torch.bool)
    torch.manual_seed(1)
    weights = torch.randn(shape)
    expected = run(norm, x[real], torch.ones(int(real.sum()), dtype=torch.bool), weights[real])
    for part in parts:
        assert all(torch.equal(part[name], parts[0][name]) for name in expected if name not in ("out", "x"))
    joined = {name: torch.cat([part[name] for part in parts]) for name in ("out", "x")}
    close(parts[0] | joined, expected)
