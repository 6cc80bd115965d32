"""A small run folder, made of the real parts, that the commands under test open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_suite.core import registry
from ssl_suite.settings import config
from ssl_suite.training import build, checkpoint, restore
from ssl_suite.training.distributed import DistributedContext
from ssl_suite.training.optimiser import adamw

WORDS = ["modality.max_length=64", "model.layers=2", "model.width=32", "model.heads=2", "model.mlp_width=48"]


def make_run(out: Path, words: list[str], steps: tuple[int, ...] = (10, 20), sizes: list[str] = WORDS) -> Path:
    """A run with a checkpoint at each of ``steps``, of ever better validation loss but with untrained weights."""
    cfg = config.compose([*sizes, "train.tokens_per_batch=512", *words])
    modality = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    learner = build.learner(cfg, modality, seed=3)
    with torch.no_grad():  # far from the small start, so that layers, positions and neighbours matter
        for weight in learner.parameters():
            weight.mul_(8.0) if weight.dim() > 1 else None
    config.write(out / "config.yaml", cfg)
    restore.save_modality(learner, modality, out)
    group = DistributedContext()
    for step in steps:
        facts = {"seconds": 1.0, "tokens": 512 * step, "valid_loss": 2.0 - step / 100}
        checkpoint.save(out / "checkpoints", step, learner, adamw(learner, cfg["train"]), facts, group)
        with torch.no_grad():
            [*learner.encoder.parameters()][-1].mul_(1.25)  # the final norm of a transformer
    return out


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "base", [])


@pytest.fixture(scope="session")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of records from 1 to 400 bases (the window holds 62), and its content."""
    rng = np.random.default_rng(0)
    lengths = [30, 1, 400, 62, 63, 5, 5, 124, 17, 62, 200, 3]
    records = {f"r{i}": "".join(rng.choice(list("ACGT"), n)) for i, n in enumerate(lengths)}
    path = tmp_path_factory.mktemp("data") / "x.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in records.items()))
    return path, records
