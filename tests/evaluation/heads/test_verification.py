"""Verification: the loss and the vectors against loops, both metrics against others, trials by name, a planted task."""

from __future__ import annotations

import csv
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import trial
from ssl_suite.evaluation.heads.verification import Verification
from ssl_suite.evaluation.metrics import METRICS
from tests.evaluation.heads.planted import budget, measured, task
from tests.evaluation.test_heads import ITEMS_S, KEYS, Table, data_of, rng, rows_of

LENGTHS = [7, 12, 3, 20]


def test_the_loss_is_a_loop_over_sequences() -> None:
    labels, encoder, given = np.array([2, 0, 1, 2]), Table(), rows_of(LENGTHS)
    head = Verification(encoder, data_of(labels, classes=3), hidden=7, dim=5, margin=0.3, scale=11.0)
    loss, count, metrics = head(encoder, given, rng())
    expected, right, begin = 0.0, 0, 0
    speakers = head.speakers_CE.detach().numpy().astype(np.float64)
    for key, length in zip(KEYS, LENGTHS, strict=True):
        states_TD = head.norm(encoder(given)[begin + 1 : begin + length - 1])
        x_TH = torch.relu(head.layer(states_TD)).detach().numpy().astype(np.float64)
        pooled = np.concatenate([x_TH.mean(0), np.sqrt(x_TH.var(0) + 1e-5)])
        vector = head.output.weight.detach().numpy() @ pooled + head.output.bias.detach().numpy()
        cosines = [vector @ s / np.linalg.norm(vector) / np.linalg.norm(s) for s in speakers]
        label = labels[ITEMS_S[key]]
        logits = [11.0 * (cosine - 0.3 * (c == label)) for c, cosine in enumerate(cosines)]
        expected += math.log(sum(map(math.exp, logits))) - logits[label]
        right += int(np.argmax(cosines)) == label
        begin += length
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert count.item() == 4 and metrics["accuracy"][0].item() == right
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    empty, nothing, _ = head(encoder, rows_of([]), rng())
    assert (empty.item(), nothing.item()) == (0.0, 0)


def trials(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, 300)
    scores = draw.normal(size=300) + labels
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_is_where_the_curve_of_scikit_learn_crosses(seed: int, ties: bool) -> None:
    labels, scores = trials(seed, ties)
    alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    crossing = brentq(lambda share: 1 - share - np.interp(share, alarms, hits), 0, 1)
    assert METRICS["eer"].compute(labels, scores) == pytest.approx(crossing, abs=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_the_detection_cost_is_the_least_over_all_thresholds(ties: bool) -> None:
    labels, scores = trials(9, ties)
    costs = []
    for threshold in [*scores, math.inf]:
        missed = sum(1 for y, x in zip(labels, scores, strict=True) if y == 1 and x < threshold) / (labels == 1).sum()
        alarms = sum(1 for y, x in zip(labels, scores, strict=True) if y == 0 and x >= threshold) / (labels == 0).sum()
        costs.append((0.01 * missed + 0.99 * alarms) / 0.01)
    assert METRICS["min_dcf"].compute(labels, scores) == pytest.approx(min(costs))


RICH = {"Ann": "AACG", "Bob": "CCGT", "Cid": "GGTA", "Dan": "TTAC", "Eva": "AAGT", "Fay": "CCAG"}


@pytest.fixture(scope="module")
def recordings() -> dict[str, tuple[str, str]]:
    """A speaker's sequences have their own shares of bases; by name, the speaker and the sequence."""
    draw, found = random.Random(2), {}
    for who, bases in RICH.items():
        for i in range(30):
            found[f"{who}{i}"] = who, "".join(draw.choice(bases) for _ in range(30))
    return found


def rows_by_name(recordings: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """200 rows: recordings of four speakers, and trials of two others, of whom train knows nothing."""
    draw, train = random.Random(1), [name for name in recordings if name[:3] not in ("Eva", "Fay")]
    rows = [{"label": recordings[name][0], "enrol": name, "test": ""} for name in (train * 2)[:160]]
    others = [name for name in recordings if name not in train]
    for i in range(40):
        first, second = draw.sample(others, 2)
        while (first[:3] == second[:3]) != bool(i % 2):
            first, second = draw.sample(others, 2)
        rows.append({"label": str(i % 2), "enrol": first, "test": second})
    return rows


FACTS: dict[str, Any] = {
    "modality": {"name": "dna", "max_length": 40},
    "inputs": ["enrol", "test"],
    "label": "label",
    "head": {"name": "verification", "hidden": 24, "dim": 16},
    "metrics": ["eer", "min_dcf"],
    "select": "eer",
}


def save(recordings: dict[str, tuple[str, str]], folder: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    with open(folder / "voices.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "sequence"), *((name, x) for name, (_, x) in recordings.items())])
    return {"lookup": {"data": "file:voices.csv", "key": "id", "column": "sequence"}}


def test_it_tells_speakers_apart_that_it_never_heard(tmp_path, recordings) -> None:
    """By name and with the sequences in the rows: the same items, each recording stored once."""
    rows = rows_by_name(recordings)
    named = task(tmp_path / "named", rows, **FACTS, **save(recordings, tmp_path / "named"))
    found, rate = measured(named, tmp_path / "out", epochs=4, lr=[1e-2])
    assert rate < 0.2
    data = found.data
    assert data.classes == ("Ann", "Bob", "Cid", "Dan")
    assert len(data.values) == 30 * len({name for row in rows for name in (row["enrol"], row["test"]) if name})
    assert len(data.parts["test"].windows) == 2 * len(data.parts["test"]) == 40
    assert data.leakage["test_in_train"] == 0 and data.leakage["test_in_dev"] > 0

    spelled = [{**row, **{k: recordings[row[k]][1] if row[k] else None for k in ("enrol", "test")}} for row in rows]
    whole = task(tmp_path / "whole", spelled, **FACTS)
    same = trial.load_data(trial.Plan(whole, "random:tiny", "finetune", budget(), 1, 0.0, {}))[1]
    assert np.array_equal(same.values, data.values)
    assert all(np.array_equal(same.split(p).starts_S, data.split(p).starts_S) for p in data.parts)
    found, _ = measured(named, tmp_path / "out", "probe", probe_steps=3)
    assert found.predictions["test"][1].shape == (20,)


def test_wrong_trials_are_refused(tmp_path, recordings) -> None:
    rows, place = rows_by_name(recordings), save(recordings, tmp_path)

    def refused(row: int, match: str, **change: str) -> None:
        wrong = [{**each, **(change if i == row else {})} for i, each in enumerate(rows)]
        with pytest.raises(SuiteError, match=match):
            measured(task(tmp_path, wrong, **FACTS, **place), tmp_path / "out", "majority", "none")

    refused(3, r"row 4: column 'enrol' names 'Ann99', which is no 'id' of .*voices.csv.* Did you mean", enrol="Ann99")
    refused(170, r"row 171 has no 'test'", test="")
    refused(170, r"row 171 has the label 'Ann', not 0 or 1", label="Ann")
