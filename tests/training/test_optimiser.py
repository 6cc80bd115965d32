import itertools
import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from ssl_suite import config, registry
from ssl_suite.models import hub
from ssl_suite.training.distributed import Processes, reduce_gradients
from ssl_suite.training.optimiser import adamw, learning_rate

TRAIN = {"lr": 1e-3, "steps": 200, "warmup": 0.1, "final_lr": 0.0, "schedule": "cosine"}
ALONE = Processes(0, 1, 0, torch.device("cpu"), False)


def test_cosine_follows_the_library():
    """From the end of the warm-up on; ours begins one step in, so that no step has rate 0."""
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    reference = get_cosine_schedule_with_warmup(optimiser, 20, 200)
    rates = []
    for _ in range(200):
        rates.append(reference.get_last_lr()[0])
        optimiser.step()
        reference.step()
    assert [learning_rate(s, TRAIN) for s in range(20, 200)] == pytest.approx(rates[20:], abs=1e-12)


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
    learner = hub.build(cfg, registry.build(registry.MODALITIES, "modality", cfg["modality"]))
    names = {id(p): name for name, p in learner.named_parameters()}
    decayed, others = adamw(learner, cfg["train"]).param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert {names[id(p)].rsplit(".", 2)[-2] for p in decayed["params"]} == {"Wqkv", "Wo", "Wi", "dense"}
    assert {names[id(p)].rsplit(".", 2)[-2] for p in others["params"]} >= {"tok_embeddings", "final_norm", "mlp_norm"}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


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
