"""One process, two and four take the same step, for every objective, under DDP and FSDP2: real gloo processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from ssl_suite.core import registry
from ssl_suite.core.rng import Rng
from ssl_suite.training import build
from ssl_suite.training.distributed import gradient_sync, processes, reduce_gradients, wrap_model
from ssl_suite.training.sums import COUNT, StepSums
from ssl_suite.training.trainer import batches, open_store, training_rows
from tests.objectives.pairs_offered import offered, settings
from tests.training import children

# Four rows a step, and sequences short enough that every process of four has some to contrast. Dropout draws by row,
# and activations are made twice: neither may depend on the processes.
ROWS = ["train.tokens_per_batch=1056", "train.tokens_per_row=264", "train.eval_tokens=264"]
ROWS += ["model.dropout=0.2", "model.checkpointing=true"]
MODALITIES = {"frames": ("image", "speech"), "apc": ("speech",), "mlm": ("image",), "simclr": ("image", "dna")}


def cases() -> list[tuple[str, str]]:
    """Each objective on DNA, or on the signals it is made for."""
    names = dict.fromkeys(name for _, name in offered())
    pairs = [(modality, name) for name in names for modality in MODALITIES.get(name, ("dna",))]
    return [("text" if name == "whole_word" else modality, name) for modality, name in pairs]


def gradients(cfg: dict[str, Any], group: Any, out: Path) -> dict[str, torch.Tensor]:
    """Of the first step, whole, by parameter; and the weights of any moving average after it."""
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    kind = build.objective_class(cfg["objective"])
    store = open_store(modality, cfg["data"], group, out, kind.predicts_ids)
    learner = build.learner(cfg, modality, cfg["seed"])
    collator, rows = training_rows(store, modality, cfg, group, learner.objective)
    model = wrap_model(learner, cfg["train"]["parallel"], group)
    parts, sums = next(batches(collator, rows, 0, 1)), StepSums(group.device)
    for i, (numbers, batch) in enumerate(parts):
        with gradient_sync(model, wanted=i == len(parts) - 1):
            loss, count, metrics = model(batch, Rng(cfg["seed"], 0, numbers))
            loss.backward()
        sums.add(loss, count, metrics, batch, 0.0)
    total = sums.over_processes(False, group)
    trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values()), [n for n, p in trained.items() if p.grad is None]
    reduce_gradients(list(trained.values()), total[COUNT], None, group)
    learner.objective.after_step(learner.encoder, 1, 10)
    found = {name: p.grad for name, p in trained.items()}
    found |= {f"fixed {name}": p.detach() for name, p in learner.named_parameters() if not p.requires_grad}
    found["loss"] = (total[0] / total[COUNT]).float()
    whole = {name: x.full_tensor() if isinstance(x, DTensor) else x for name, x in found.items()}
    return {name: x.clone().contiguous() for name, x in whole.items()}


def worker(out: str, parallel: str) -> None:
    with processes({"threads": 1, "precision": "fp32"}) as group:
        for modality, objective in cases():
            cfg = settings(modality, objective, *ROWS, f"train.parallel={parallel}")
            found = gradients(cfg, group, Path(out))
            if group.main:
                save_file(found, Path(out) / f"{modality}-{objective}.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The gradients of one process, and the cache of stores."""
    cache = tmp_path_factory.getbasetemp() / "matrix-cache"
    out = tmp_path_factory.mktemp("alone")
    os.environ["SSL_CACHE_DIR"] = str(cache)
    try:
        worker(str(out), "ddp")
    finally:
        del os.environ["SSL_CACHE_DIR"]
    return out, cache


@pytest.mark.parametrize(("world", "parallel"), [(2, "ddp"), (4, "ddp"), (2, "fsdp")])
def test_the_gradient_of_every_objective_is_the_same(world, parallel, alone, tmp_path, monkeypatch):
    expected, cache = alone
    monkeypatch.setenv("SSL_CACHE_DIR", str(cache))
    children.run_group(worker, str(tmp_path), parallel, folder=tmp_path / "errors", world=world)
    wrong = []
    for modality, objective in cases():
        name = f"{modality}-{objective}.safetensors"
        one, several = load_file(expected / name), load_file(tmp_path / name)
        assert one.keys() == several.keys()
        scale = max(float(x.abs().max()) for key, x in one.items() if not key.startswith("fixed") and key != "loss")
        for key, x in one.items():
            far = float((x - several[key]).abs().max())
            if far > 1e-5 * max(1.0, scale):
                wrong.append(f"{modality}-{objective} {key}: {far:.2e} of {scale:.2e}")
    assert not wrong, wrong
