"""Moving averages of networks, against plain arithmetic and lightly's schedule."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from lightly.utils.scheduler import cosine_schedule
from torch import nn

from ssl_suite.objectives import ema
from tests.training.children import run_group


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def test_follows_parameters_and_buffers_but_not_statistics():
    target, online = ema.make_teacher(network(0)), network(1)
    for module, value in ((target, 1.0), (online, 2.0)):
        module.register_buffer("scale", torch.full((3,), value))
        module.register_buffer("counter", torch.tensor(int(value)))
    for _ in range(3):
        online(torch.randn(10, 6))
    before = copy.deepcopy(target.state_dict())
    ema.update_ema(target, online, 0.9)
    for name, now in target.state_dict().items():
        new = online.state_dict()[name]
        if name == "counter":
            assert now == 2
        elif "running" in name or "tracked" in name:
            assert torch.equal(now, before[name])
        else:
            torch.testing.assert_close(now, 0.9 * before[name] + 0.1 * new)


def test_a_copy_takes_no_gradient():
    online = network()
    online.shared = shared = object()
    target = ema.make_teacher(online, shared)
    assert target.shared is shared and not any(p.requires_grad for p in target.parameters())
    assert all(p.requires_grad for p in online.parameters())
    x = torch.randn(10, 6)
    assert torch.equal(target(x), online(x))
    assert torch.equal(target[1].running_mean, online[1].running_mean)  # each tracks its own
    online[3].weight.data.add_(1)
    assert not torch.equal(target[3].weight, online[3].weight)


def test_the_gap_is_relative():
    target, online = ema.make_teacher(network(0)), network(0)
    assert ema.ema_distance(target, online) == 0
    for p in target.parameters():
        p.data.mul_(0.75)
    torch.testing.assert_close(ema.ema_distance(target, online), torch.tensor(0.25))


def test_cosine_is_lightlys():
    for done in range(1, 100):
        expected = cosine_schedule(done - 1, 101, 0.996, 1.0)  # its last value is at step max_steps - 1
        assert math.isclose(ema.cosine_tau(0.996, done, 100), expected, abs_tol=1e-12)
    assert ema.cosine_tau(0.996, 1, 100) == 0.996


def test_a_half_life_is_a_share_of_the_run():
    """By the weights themselves: after its share of the steps, half of the start is left."""
    target, online = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(target.weight), nn.init.zeros_(online.weight)
    for done in range(1, 401):
        ema.update_ema(target, online, ema.lasting_tau(0.25, 800))
        if done in (200, 400):
            torch.testing.assert_close(target.weight.item(), 0.5 ** (done / 200), rtol=1e-4, atol=0)
    assert ema.lasting_tau(0.02, 10) == 0.5  # of one update at least


def test_linear_rises_and_stays():
    assert ema.linear_tau(0.9, 0.99, 0, 10) == 0.9
    assert math.isclose(ema.linear_tau(0.9, 0.99, 5, 10), 0.945)
    assert (
        ema.linear_tau(0.9, 0.99, 10, 10)
        == ema.linear_tau(0.9, 0.99, 70, 10)
        == ema.linear_tau(0.9, 0.99, 1, 0)
        == 0.99
    )


def _sharded(folder: Path) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    from ssl_suite.training.distributed import processes

    with processes({"threads": 1, "precision": "fp32"}) as group:
        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        both = nn.Sequential(network(1), ema.make_teacher(network(0)))
        fully_shard(both[0][0], mesh=mesh)  # as the trainer does: a layer of the network has a group of its own
        fully_shard(both, mesh=mesh)
        assert all(isinstance(p, DTensor) for p in both.parameters())
        ema.update_ema(both[1], both[0], 0.9)
        found = {name: p.full_tensor() for name, p in both[1].named_parameters()}
        torch.save(found | {"gap": ema.ema_distance(both[1], both[0])}, folder / f"{group.rank}.pt")


def test_shards_follow_as_the_whole_does(tmp_path):
    run_group(_sharded, tmp_path, folder=tmp_path, world=2)
    target, online = ema.make_teacher(network(0)), network(1)
    ema.update_ema(target, online, 0.9)
    expected = dict(target.named_parameters()) | {"gap": ema.ema_distance(target, online)}
    for rank in (0, 1):
        for name, x in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            torch.testing.assert_close(x, expected[name].detach())


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_ends(tau):
    target, online = ema.make_teacher(network(0)), network(1)
    before = copy.deepcopy(target)
    ema.update_ema(target, online, tau)
    for now, old, new in zip(target.parameters(), before.parameters(), online.parameters(), strict=True):
        assert torch.equal(now, old if tau else new)
