"""Every modality through the same door: prepare the built-in sample, train, resume, embed, open in transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from ssl_suite.commands import embed
from ssl_suite.core import registry, resources
from ssl_suite.core.wording import count
from ssl_suite.settings import config
from ssl_suite.training.restore import load_run
from ssl_suite.training.trainer import train

SMALL = [
    "objective=mlm",
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "model.mlp_width=48",
    "train.steps=6",
    "train.tokens_per_batch=2048",
    "train.tokens_per_row=1024",
    "train.eval_tokens=2048",
    "train.eval_every=100",
    "train.checkpoint_every=3",
    "train.lr=1e-2",
    "train.threads=1",
]
# Smaller codebooks and vocabularies than the defaults, so that fitting takes a second.
OWN = {"text": ["modality.vocab_size=512"], "image": ["modality.codes=16"], "speech": ["modality.codes=16"]}
SIGNALS = ("image", "speech")


def settings(modality: str, *words: str) -> dict:
    return config.compose([f"modality={modality}", *SMALL, *OWN.get(modality, []), *words])


@pytest.fixture(scope="module", params=list(registry.MODALITIES))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A finished run on the built-in sample."""
    out = tmp_path_factory.mktemp("six") / request.param
    patch = pytest.MonkeyPatch()
    patch.setenv("SSL_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "six-cache"))
    try:
        out.mkdir()
        config.write(out / "config.yaml", cfg := settings(request.param))
        train(cfg, out)
    finally:
        patch.undo()
    return request.param, out


def test_the_loss_falls_and_guesses_stand_beside_it(run: tuple[str, Path]) -> None:
    _, out = run
    summary = json.loads((out / "summary.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    size = summary["baselines"]["unigram"]
    assert summary["steps"] == 6 and np.isfinite(summary["valid_loss"]) and size > 0
    assert 0 < summary["guesses"]["constant"] < 1
    assert lines[-1]["valid_loss"] == summary["valid_loss"]


def test_the_built_in_sample_is_small_and_its_source_is_stated(run: tuple[str, Path]) -> None:
    modality, _ = run
    folder = resources.folder("samples")
    files = [path for path in (folder / modality).rglob("*") if path.is_file()]
    assert files
    text = (folder / "README.md").read_text("utf-8")
    assert all(path.name in text for path in files)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4e6


def test_resuming_ends_in_the_same_weights(run: tuple[str, Path], tmp_path: Path, monkeypatch) -> None:
    modality, out = run
    monkeypatch.setenv("SSL_CACHE_DIR", str(out.parents[1] / "six-cache"))
    again = tmp_path / "again"
    again.mkdir()
    config.write(again / "config.yaml", cfg := settings(modality))
    train(cfg, again)
    for step in (again / "checkpoints").glob("step_*6"):
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    train(cfg, again)
    one, two = (load_file(next((x / "checkpoints").glob("step_*6")) / "model.safetensors") for x in (out, again))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_export_opens_in_transformers(run: tuple[str, Path]) -> None:
    from transformers import AutoModel, AutoTokenizer

    modality, out = run
    loaded = load_run(str(out), "last")
    model = AutoModel.from_pretrained(out / "encoder")
    assert model.config.vocab_size == len(loaded.modality.vocabulary)
    if modality in SIGNALS:
        facts = json.loads((out / "encoder" / "preprocessor_config.json").read_text())
        assert facts["modality"] == modality
    else:
        assert len(AutoTokenizer.from_pretrained(out / "encoder")) == model.config.vocab_size


def test_records_become_vectors(run: tuple[str, Path], tmp_path: Path) -> None:
    modality, out = run
    source = resources.folder("samples") / modality
    words = [f"encoder={out}", f"input={source}", f"output={tmp_path}/e.parquet", "on_error=skip"]
    text = embed.run(embed.parse_words(words, embed.KEYS))
    vectors = np.array(pq.read_table(tmp_path / "e.parquet")["embedding"].to_pylist())
    assert vectors.shape[1] == 32 and len(vectors) >= 1 and np.isfinite(vectors).all()
    assert f"{count(len(vectors), 'record')}, " in text


def test_a_view_keeps_the_layout(run: tuple[str, Path], monkeypatch) -> None:
    from ssl_suite.core.rng import Rng
    from ssl_suite.data.loader import FRAME, Collator, RowOrder
    from ssl_suite.data.prepare import prepare
    from ssl_suite.training import units

    modality, out = run
    monkeypatch.setenv("SSL_CACHE_DIR", str(out.parents[1] / "six-cache"))
    cfg = settings(modality)
    adapter = registry.build(registry.MODALITIES, "modality", cfg["modality"])
    store = prepare(adapter, cfg["data"], report=lambda line: None)
    units.ensure_units(adapter, store, report=lambda line: None)
    order = RowOrder(store.split("train").lengths_S + FRAME, 1024, seed=0)
    collator = Collator(store, "train", adapter.vocabulary, 1024, order.slots, adapter.max_length)
    batch = collator.rows([order.items(0), order.items(1)])
    one, two = (adapter.augment(batch, Rng(0, step, torch.arange(2))) for step in (0, 1))
    for view in (one, two):
        assert view.values.shape == batch.values.shape and torch.equal(view.offsets_B1, batch.offsets_B1)
        pad_only = ~batch.real_B[batch.sequence_ids_N()]
        assert torch.equal(view.values[pad_only], batch.values[pad_only])
    changed = "frames_NF" if modality in SIGNALS else "values"
    assert not torch.equal(getattr(one, changed), getattr(two, changed))
    again = adapter.augment(batch, Rng(0, 0, torch.arange(2)))
    assert torch.equal(getattr(one, changed), getattr(again, changed))
    # Two rows and each alone get the same view: draws belong to rows.
    alone = adapter.augment(collator.rows([order.items(1)]), Rng(0, 0, torch.tensor([1])))
    assert torch.equal(getattr(one, changed)[1024:], getattr(alone, changed))
