"""The whole matrix trains: each pair that is offered learns something, resumes to the bit, and is exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ssl_suite.core.errors import SuiteError
from ssl_suite.settings import config
from ssl_suite.training.restore import load_run
from ssl_suite.training.trainer import train
from tests.objectives.pairs_offered import offered, settings


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store a modality for all pairs."""
    return tmp_path_factory.getbasetemp() / "matrix-cache"


@pytest.mark.parametrize(("modality", "objective"), offered())
def test_a_pair_learns_resumes_and_is_exported(modality, objective, cache, tmp_path, monkeypatch):
    from transformers import AutoModel

    monkeypatch.setenv("SSL_CACHE_DIR", str(cache))
    if objective != "mlm":  # pictures are a third of a pair's time, and drawn alike whatever the objective
        for name in ("report", "filled"):
            monkeypatch.setattr(f"ssl_suite.training.{name}.draw", lambda *parts: None)
    out = tmp_path / "run"
    out.mkdir()
    config.write(out / "config.yaml", cfg := settings(modality, objective))
    train(cfg, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 30 and np.isfinite(losses).all()
    assert np.mean(losses[-8:]) < np.mean(losses[:8])

    last = out / "checkpoints" / "step_00000030"
    expected = load_file(last / "model.safetensors")
    shutil.rmtree(last)
    monkeypatch.setattr("ssl_suite.training.trainer.finish", lambda *parts: None)  # the export is there already
    train(cfg, out)
    for name, x in load_file(last / "model.safetensors").items():
        assert torch.equal(x, expected[name]), name

    model = AutoModel.from_pretrained(out / "encoder")
    loaded = load_run(str(out), "best")
    table = loaded.encoder.embeddings.tok_embeddings.weight
    assert torch.equal(model.get_input_embeddings().weight, table)


@pytest.mark.parametrize(("modality", "objective"), [("speech", "nsp"), ("dna", "frames"), ("image", "electra")])
def test_a_pair_without_sense_is_refused_before_any_work(modality, objective, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(SuiteError, match=f"objective={objective} with modality={modality}: .*objective=") as caught:
        train(settings(modality, objective), tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "cache").exists()
