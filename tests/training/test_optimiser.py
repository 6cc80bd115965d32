import itertools
import math
from pathlib import Path

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import get_cosine_schedule_with_warmup, get_wsd_schedule

from ssl_suite.core import registry
from ssl_suite.core.errors import SuiteError
from ssl_suite.settings import config
from ssl_suite.training import build, checkpoint
from ssl_suite.training.distributed import DistributedContext, processes, reduce_gradients
from ssl_suite.training.optimiser import (
    adamw,
    lars,
    learning_rate,
    make_optimiser,
    rate_scales,
    scaled,
)
from tests.training import children

TRAIN = {"lr": 1e-3, "steps": 200, "warmup": 0.1, "final_lr": 0.0, "schedule": "cosine"}
ALONE = DistributedContext()


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_schedules_follow_the_library(schedule):
    """From the end of the warm-up on; ours begins one step in, so that no step has rate 0.

    ``wsd``: a plateau to step 150 of 200, and a fall by the square root to a tenth of the rate.
    """
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    if schedule == "cosine":
        reference, settings = get_cosine_schedule_with_warmup(optimiser, 20, 200), TRAIN
    else:
        reference = get_wsd_schedule(optimiser, 20, 50, 200, decay_type="1-sqrt", min_lr_ratio=0.1)
        settings = TRAIN | {"schedule": "wsd", "decay_share": 0.25, "final_lr": 0.1}
    rates = []
    for _ in range(200):
        rates.append(reference.get_last_lr()[0])
        optimiser.step()
        reference.step()
    assert [learning_rate(s, settings) for s in range(20, 200)] == pytest.approx(rates[20:], abs=1e-12)


def test_warm_up_rises_evenly_to_the_peak():
    rates = [learning_rate(s, TRAIN) for s in range(21)]
    assert rates[0] > 0 and rates[20] == 1e-3
    assert all(b - a == pytest.approx(1e-3 / 21) for a, b in itertools.pairwise(rates))


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 1e-4), ("linear", 1e-4), ("constant", 1e-3)])
def test_schedules_end_where_they_should(schedule, last):
    settings = TRAIN | {"schedule": schedule, "final_lr": 0.1, "steps": 100_000}
    assert learning_rate(99_999, settings) == pytest.approx(last, rel=1e-3)
    middle = {"cosine": 5.5e-4, "linear": 5.5e-4, "constant": 1e-3}[schedule]
    assert learning_rate(55_000, settings) == pytest.approx(middle, rel=1e-3)


def test_decay_leaves_norms_biases_and_embeddings_alone():
    cfg = config.compose(["model=tiny"])
    learner = build.learner(cfg, registry.build(registry.MODALITIES, "modality", cfg["modality"]))
    names = {id(p): name for name, p in learner.named_parameters()}
    decayed, others = adamw(learner, cfg["train"]).param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert {names[id(p)].rsplit(".", 2)[-2] for p in decayed["params"]} == {"Wqkv", "Wo", "Wi", "dense"}
    assert {names[id(p)].rsplit(".", 2)[-2] for p in others["params"]} >= {"tok_embeddings", "final_norm", "mlp_norm"}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_rates_by_layer():
    """BEiT's rule by hand, on this suite's layout and on a torchvision network: 0.5 a layer, three layers."""
    cfg = config.compose(["model=tiny", "model.layers=3", "train.layer_decay=0.5"])
    learner = build.learner(cfg, registry.build(registry.MODALITIES, "modality", cfg["modality"]))
    found = adamw(learner, cfg["train"]).param_groups
    scales = {id(p): group["scale"] for group in found for p in group["params"]}
    rates = {name: scales[id(p)] for name, p in learner.named_parameters()}
    parts = {"encoder.embeddings.": 0.5**4, "encoder.final_norm.": 1.0, "objective.": 1.0}
    parts |= {f"encoder.layers.{i}.": 0.5 ** (3 - i) for i in range(3)}
    for name, rate in rates.items():
        assert rate == next(x for part, x in parts.items() if name.startswith(part)), name
    assert {(g["scale"], g["weight_decay"]) for g in found if g["scale"] < 1} == {
        (0.5**i, decay) for i in (1, 2, 3, 4) for decay in (0.0, 0.1) if (i, decay) != (4, 0.1)
    }
    names = ["conv1.weight", "layer1.0.conv1.weight", "layer2.0.bn1.weight", "norm.weight"]
    names = ["encoder.net." + name for name in names] + ["objective.target.encoder.layers.7.weight"]
    assert list(rate_scales(names, 0.5).values()) == [0.125, 0.25, 0.5, 1.0, 1.0]
    with pytest.raises(SuiteError, match=r"layer_decay=0\.5: this encoder has no numbered layers"):
        rate_scales(["encoder.weight", "objective.layers.0.weight"], 0.5)


@pytest.mark.parametrize("clip", [None, 0.5, 1e6])
def test_scaling_and_clipping_equal_torch(clip):
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(4, 5)), torch.nn.Parameter(torch.randn(7))]
    for p in ours:
        p.grad = torch.randn_like(p) * 100
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    for a, b in zip(ours, theirs, strict=True):
        b.grad = a.grad / 33
    norm = torch.nn.utils.clip_grad_norm_(theirs, clip or math.inf)
    assert reduce_gradients(ours, torch.tensor(33.0), clip, ALONE).item() == pytest.approx(norm.item(), rel=1e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


SECTION = {
    "lr": 0.05,
    "optimiser": "lars",
    "momentum": 0.9,
    "weight_decay": 1e-2,
    "betas": [0.9, 0.98],
    "eps": 1e-8,
    "threads": 1,
    "precision": "fp32",
}


def network() -> torch.nn.Module:
    """With a convolution, norms, biases and a table: whatever the groups tell apart."""
    torch.manual_seed(0)
    body = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.Flatten(), torch.nn.Linear(24, 5)
    )
    return torch.nn.ModuleDict({"table": torch.nn.Embedding(7, 48), "body": body})


def steps(module: torch.nn.Module, optimiser: torch.optim.Optimizer, seeds: range, rows: slice = slice(None)) -> None:
    """A step a seed, on the ``rows`` of its eight pictures; the loss is a mean over them."""
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        ids = torch.randint(7, (8,), generator=draw)[rows]
        module(ids).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


class Whole(torch.nn.Module):
    """The network as one forward, without the statistics of a batch norm, which would differ between processes."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = network()
        self.parts["body"][1].eval()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.parts["body"](self.parts["table"](ids).view(-1, 3, 4, 4))


def test_lars_is_the_formula_of_the_paper():
    """You et al. 2017, algorithm 1, with lightly's order: the momentum gathers adapted gradients, then comes the rate.

    What does not decay takes plain steps of SGD with momentum.
    """
    ours, theirs = Whole(), Whole()
    optimiser = lars(ours, SECTION)
    tables = {"parts.table.weight"}
    velocity = {name: torch.zeros_like(p) for name, p in theirs.named_parameters()}
    for seed in range(4):
        steps(ours, optimiser, range(seed, seed + 1))
        draw = torch.Generator().manual_seed(seed)
        theirs(torch.randint(7, (8,), generator=draw)).square().mean().backward()
        with torch.no_grad():
            for name, p in theirs.named_parameters():
                change = p.grad
                if p.dim() >= 2 and name not in tables:
                    decay = SECTION["weight_decay"]
                    trust = 0.001 * p.norm() / (p.grad.norm() + decay * p.norm())
                    change = trust * (p.grad + decay * p)
                velocity[name] = 0.9 * velocity[name] + change
                p -= SECTION["lr"] * velocity[name]
                p.grad = None
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_lars_takes_a_gradient_as_it_is_where_a_norm_is_zero():
    module = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.zeros_(module.weight)
    module.weight.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    lars(module, SECTION | {"lr": 0.5}).step()
    assert module.weight.tolist() == [[-0.5, -1.0], [-1.5, -2.0]]


def test_an_older_run_has_adamw_and_its_rate():
    old = {key: x for key, x in SECTION.items() if key not in ("optimiser", "momentum")} | {"tokens_per_batch": 8192}
    assert isinstance(make_optimiser(network(), old), torch.optim.AdamW)
    assert scaled(old, 66) == old


@pytest.mark.parametrize(
    ("rule", "sequences", "rate"),
    [("none", 4096, 0.1), ("linear", 256, 0.1), ("linear", 4096, 1.6), ("sqrt", 256, 1.6), ("sqrt", 4096, 6.4)],
)
def test_rates_that_grow_with_the_batch(rule, sequences, rate):
    """Goyal et al. 2017: 0.1 at 256 is 1.6 at 4,096. SimCLR, appendix B.1: base * sqrt(4096) is 64 times the base."""
    train = {"lr": 0.1, "lr_scaling": rule, "tokens_per_batch": sequences * 66}
    assert scaled(train, 66)["lr"] == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.optimiser=adam"], "train.optimiser=adam should be 'adamw', 'sgd' or 'lars'."),
        (["train.lr_scaling=root"], "train.lr_scaling=root should be 'none', 'linear' or 'sqrt'."),
        (["train.decay_share=0"], "train.decay_share=0 should be greater than 0."),
        (["train.layer_decay=1.5"], "train.layer_decay=1.5 should be less than or equal to 1."),
        (["model.dropout=1"], "model.dropout=1 should be less than 1."),
        (["train.momentum=1"], "train.momentum=1 should be less than 1."),
        (["train=lars", "train.weight_decay=0"], "train.weight_decay=0 must be above 0 with train.optimiser=lars"),
    ],
)
def test_faults_of_the_settings(words, message):
    with pytest.raises(SuiteError) as caught:
        config.compose(words)
    assert message in str(caught.value)


@pytest.mark.parametrize(("name", "momentum"), [("adamw", 0.9), ("sgd", 0.9), ("sgd", 0.0), ("lars", 0.9)])
def test_state_survives_a_checkpoint_to_the_bit(tmp_path, name, momentum):
    settings = SECTION | {"optimiser": name, "momentum": momentum}
    straight, first, other = Whole(), Whole(), Whole()
    steps(straight, make_optimiser(straight, settings), range(6))
    optimiser = make_optimiser(first, settings)
    steps(first, optimiser, range(3))
    checkpoint.save(tmp_path, 3, first, optimiser, {}, ALONE)
    optimiser = make_optimiser(other, settings)
    checkpoint.load(tmp_path / "step_00000003", other, optimiser, ALONE)
    steps(other, optimiser, range(3, 6))
    for a, b in zip(straight.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def _on_two(name: str, parallel: str, root: Path) -> None:
    """Three steps and a checkpoint, resumed by a fresh module for three more; each process has half of a batch."""
    settings = SECTION | {"optimiser": name}
    with processes(settings) as group:

        def wrapped() -> torch.nn.Module:
            module = Whole()
            if parallel == "ddp":
                return DistributedDataParallel(module)
            mesh = torch.distributed.init_device_mesh("cpu", (group.world,))
            return fully_shard(module, mesh=mesh)

        half = slice(4 * group.rank, 4 * group.rank + 4)
        module = wrapped()
        optimiser = make_optimiser(module, settings)
        assert isinstance(next(module.parameters()), DTensor) == (parallel == "fsdp")
        steps(module, optimiser, range(3), half)
        checkpoint.save(root, 3, module, optimiser, {}, group)
        module = wrapped()
        optimiser = make_optimiser(module, settings)
        checkpoint.load(root / "step_00000003", module, optimiser, group)
        steps(module, optimiser, range(3, 6), half)
        checkpoint.save(root, 6, module, optimiser, {}, group)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_two_processes_take_the_steps_of_one(tmp_path, name, parallel):
    """Norms of a layer are those of all its shards."""
    alone = Whole()
    steps(alone, make_optimiser(alone, SECTION | {"optimiser": name}), range(6))
    children.run_group(_on_two, name, parallel, tmp_path / "root", folder=tmp_path / "logs", world=2)
    other, start = Whole(), Whole()
    checkpoint.load(tmp_path / "root" / "step_00000006", other, make_optimiser(other, SECTION), ALONE)
    for (key, a), b, c in zip(alone.named_parameters(), other.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(b, a, atol=1e-6, rtol=1e-5, msg=key)
        assert not torch.equal(b, c), key
