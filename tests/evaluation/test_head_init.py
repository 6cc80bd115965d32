"""A head that starts at a linear model: scikit-learn's answers, on the features of the encoder as it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_suite.evaluation import baselines, encode, head_init, metrics, tasks, trial
from ssl_suite.evaluation import budget as budgets
from ssl_suite.training.distributed import processes
from ssl_suite.training.learner import Learner
from ssl_suite.training.stopping import StopSignals

TRAIN = {"threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def plan() -> trial.Plan:
    limits = {"train": 48, "dev": 16, "test": 16}
    budget = replace(budgets.load("smoke"), limits=limits, head="linear", tokens=4000)
    return trial.Plan(tasks.find("sample", "voice"), "random:tiny", "finetune", budget, 100, 1e-5, {})


def test_the_start_is_scikit_learn_on_frozen_features(plan: trial.Plan, tmp_path: Path) -> None:
    with processes(TRAIN) as group:
        parts = trial.build(plan, group.device, tmp_path)
        learner = Learner(parts.encoder, parts.head)
        head_init.linear(learner, parts.data, parts.modality, "accuracy", group, StopSignals(), tmp_path / "start.npz")
        given = encode.sequences_of(parts.data, "dev")
        outputs = encode.run_batches(given, parts.modality, group.device, lambda b: parts.head.read(parts.encoder, b))
        found = np.stack([row for _, row in outputs]).argmax(1)
        vectors = {s: encode.pooled(parts.encoder, parts.data, parts.modality, s)[:, -1] for s in ("train", "dev")}
    normed = {s: (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5) for s, v in vectors.items()}
    train, dev = (
        part.labels_I[part.windows.records_S] for part in (parts.data.parts["train"], parts.data.parts["dev"])
    )
    best, score = None, -1.0
    for strength in baselines.PROBE_INVERSE_STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(
            normed["train"], train
        )
        if (now := metrics.METRICS["accuracy"].compute(dev, model.predict(normed["dev"]))) > score:
            best, score = model, now
    assert best is not None
    np.testing.assert_array_equal(found, best.predict(normed["dev"]))
    assert len(np.unique(found)) > 1


def test_a_start_that_is_asked_to_stop_stops_and_keeps_nothing(plan: trial.Plan, tmp_path: Path) -> None:
    stop = StopSignals()
    stop.asked = True
    with processes(TRAIN) as group:
        parts = trial.build(plan, group.device, tmp_path)
        learner = Learner(parts.encoder, parts.head)
        with pytest.raises(KeyboardInterrupt):
            head_init.linear(learner, parts.data, parts.modality, "accuracy", group, stop, tmp_path / "start.npz")
    assert not any(tmp_path.iterdir())


def test_the_trials_of_a_start_read_it_and_end_the_same(plan: trial.Plan, tmp_path: Path) -> None:
    results = [trial.run(plan, tmp_path / folder / "one", threads=1) for folder in ("a", "b")]
    assert results[0]["curve"] == results[1]["curve"]
    (kept,) = (tmp_path / "a").glob("start-*.npz")
    with np.load(kept) as arrays:
        wrong = {name: -array for name, array in arrays.items()}
    np.savez(kept, **wrong)
    other = replace(plan, lr=2e-5)
    assert trial.run(other, tmp_path / "a" / "two", threads=1)["curve"]["loss"][0] > results[0]["curve"]["loss"][0]
    assert len(list((tmp_path / "a").glob("start-*.npz"))) == 1
    trial.run(replace(plan, seed=101), tmp_path / "a" / "three", threads=1)
    assert len(list((tmp_path / "a").glob("start-*.npz"))) == 2


@pytest.mark.parametrize("classes", [2, 4])
def test_a_map_gives_the_models_shares(classes: int) -> None:
    draw = np.random.default_rng(classes)
    x_XD, dev_XD = draw.normal(3, 2, (300, 5)), draw.normal(3, 2, (50, 5))
    labels = x_XD[:, :classes].argmax(1)
    dev = dev_XD[:, :classes].argmax(1)
    weight_CD, bias_C = baselines.linear_map(x_XD, labels, dev_XD, dev, classes + 1)
    shares = torch.from_numpy(dev_XD @ weight_CD.T + bias_C).softmax(1).numpy()
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(x_XD, labels)
        for strength in baselines.PROBE_INVERSE_STRENGTHS
    ]
    right = [(model.predict(dev_XD) == dev).mean() for model in models]
    expected = models[int(np.argmax(right))].predict_proba(dev_XD)
    np.testing.assert_allclose(shares[:, :classes], expected, atol=1e-3)
    assert shares[:, classes].max() < 1e-3  # no label names it


def test_a_map_of_values_is_ridge_regression() -> None:
    draw = np.random.default_rng(0)
    x_XD, dev_XD, slopes_D = draw.normal(1, 3, (200, 4)), draw.normal(1, 3, (60, 4)), np.array([1.0, -2.0, 0.0, 0.5])
    values, dev = x_XD @ slopes_D + draw.normal(size=200), dev_XD @ slopes_D + draw.normal(size=60)
    weight_CD, bias_C = baselines.linear_map(x_XD, values, dev_XD, dev, 1)
    models = [make_pipeline(StandardScaler(), Ridge(a)).fit(x_XD, values) for a in reversed(baselines.PROBE_STRENGTHS)]
    scores = [metrics.METRICS["spearman"].compute(dev, model.predict(dev_XD)) for model in models]
    expected = models[int(np.argmax(scores))].predict(dev_XD)
    np.testing.assert_allclose(dev_XD @ weight_CD[0] + bias_C[0], expected, rtol=1e-4, atol=1e-4)
