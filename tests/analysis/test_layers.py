"""Layers of frozen encoders: one alone is its columns of all, shares and scores are the trials', test is shut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_suite import cli
from ssl_suite.analysis import layers
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import budget as budgets
from ssl_suite.evaluation import encode, frozen, tasks, trial
from ssl_suite.training.distributed import processes
from tests.evaluation.heads.planted import task
from tests.evaluation.heads.test_retrieval import FACTS, motif_rows

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plan() -> trial.Plan:
    limits = {"train": 24, "dev": 16, "test": 16}
    budget = replace(budgets.load("smoke"), limits=limits, probe_steps=10, lr=[1e-3, 1e-2], seeds=[100, 101])
    return trial.Plan(tasks.find("sample", "voice"), "random:tiny", "probe", budget, 100, 1e-3, {})


def test_one_layer_is_its_columns_and_its_statistics(plan: trial.Plan, tmp_path: Path) -> None:
    whole = trial.build(plan, CPU, tmp_path / "t")
    width = whole.encoder.width
    for layer in range(3):
        one = trial.build(replace(plan, layer=layer), CPU, tmp_path / "t")
        columns = slice(layer * width, (layer + 1) * width)
        np.testing.assert_array_equal(one.data.values, whole.data.values[:, columns])
        torch.testing.assert_close(one.encoder.mean_LD[0], whole.encoder.mean_LD[layer])
        assert one.encoder.weights_L.shape == (1,)
    with pytest.raises(SuiteError, match=r"layer=3 should be from 0 \(the embedder's output\) to 2"):
        trial.build(replace(plan, layer=3), CPU, tmp_path / "t")
    assert len({plan.key, *(replace(plan, layer=k).key for k in range(3))}) == 4


def test_one_layer_of_positions_is_the_same_from_a_file_and_in_each_step(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"modality": {"name": "dna", "max_length": 40}, "inputs": "sequence", "label": "text"}
    rows = [{"sequence": "ACGT" * (2 + i % 5), "text": "ab"[i % 2]} for i in range(20)]
    made = task(tmp_path, rows, head={"name": "ctc", "projection": 4}, metrics=["cer"], select="cer", **facts)
    of = trial.Plan(made, "random:tiny", "probe", budgets.load("smoke"), 100, 1e-3, {}, layer=1)
    kept = trial.build(of, CPU, tmp_path / "a" / "t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen, "CACHE", 0)
        running = trial.build(of, CPU, tmp_path / "b" / "t")
    assert kept.data.values.dtype == np.float16 and running.data.values.dtype == np.uint8
    states = []
    with processes({"threads": 1, "precision": "fp32"}) as group:
        for parts in (kept, running):
            sequences = encode.sequences_of(parts.data, "dev", once=True)
            some = encode.run_batches(sequences, parts.modality, group.device, parts.encoder, "position")
            states.append(np.concatenate([x for _, x in some]))
    np.testing.assert_allclose(states[0], states[1], rtol=0.02, atol=0.02)
    assert states[0].std() > 0.5  # a layer norm's


def test_shares_and_scores_are_those_of_the_trials(
    plan: trial.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, real = [], encode.pooled
    monkeypatch.setattr(encode, "pooled", lambda *parts: read.append(parts[3]) or real(*parts))
    found = layers.measure(plan, tmp_path, lambda line: None, 1)
    assert sorted(read) == ["dev", "dev", "train", "train"]  # of two random encoders, once each; never test
    results = [json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")]
    assert len(results) == 4 * (2 + 1)
    for seed, shares in found.weights.items():
        assert shares in [each.get("layer_weights") for each in results] and sum(shares) == pytest.approx(1, abs=1e-3)
        assert seed in (100, 101) and len(set(shares)) > 1
    scores = {each["dev"]["accuracy"] for each in results}
    means = [(a + b) / 2 for a in scores for b in scores]
    assert all(any(score == pytest.approx(mean) for mean in means) for score in (*found.alone.values(), found.mixed))
    assert not list(tmp_path.glob("features-*")) and not list(tmp_path.glob("*/checkpoints"))
    assert layers.measure(plan, tmp_path, lambda line: None, 1) == found and len(read) <= 8


def test_a_head_without_training_has_the_scores_it_chooses_by(tmp_path: Path) -> None:
    made = task(tmp_path, motif_rows(), head="retrieval", **FACTS)
    of = trial.Plan(made, "random:tiny", "probe", budgets.load("smoke"), 100, 1e-3, {})
    found = layers.measure(of, tmp_path / "out", lambda line: None, 1)
    assert list(found.alone) == [0, 1, 2] and not found.weights and found.mixed is None
    layers.draw(found, tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size[0] > 500


def test_the_command_draws_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["task=sample/voice", "encoder=random:tiny", "budget=smoke", f"out={tmp_path}", "threads=1"]
    assert cli.main(["analyse", "layers", *words]) == 0
    printed = capsys.readouterr().out
    numbers = json.loads((tmp_path / "layers-voice-random-tiny.json").read_text())
    assert (
        f"layer 2: accuracy {numbers['alone']['2']:.4f}" in printed
        and f"all: accuracy {numbers['mixed']:.4f}" in printed
    )
    assert Image.open(tmp_path / "layers-voice-random-tiny.png").size[1] > 400
    assert cli.main(["analyse", "layers", "task=sample/voise", "encoder=random:tiny"]) == 2
    assert "Did you mean 'voice'" in capsys.readouterr().err
