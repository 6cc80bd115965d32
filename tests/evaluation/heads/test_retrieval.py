"""Retrieval: warping equals a naive one, rankings have their candidates, and a motif is found where it stands."""

from __future__ import annotations

import math
import random
from typing import Any

import dtw
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import encode
from ssl_suite.evaluation.heads import retrieval
from ssl_suite.evaluation.metrics import METRICS, Undefined
from ssl_suite.evaluation.predictions import objects
from tests.evaluation.heads.planted import measured, task


def naive(query: np.ndarray, candidate: np.ndarray) -> float:
    """The least mean cost over all paths, by recursion over (row of the query, place in the candidate)."""
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in candidate] for a in query]
    costs = []
    for row in cosines:
        row = [1 - x for x in row]
        low, high = min(row), max(row)
        costs.append([(x - low) / (high - low) if high > low else 1.0 for x in row])
    table = [[math.inf] * len(candidate) for _ in query]
    for q in range(len(query)):
        for t in range(len(candidate)):
            before = 0.0 if q == 0 else min(table[q - 1][t - k] for k in range(3) if t - k >= 0)
            table[q][t] = costs[q][t] + before
    return -min(table[-1]) / len(query)


def test_warping_is_the_naive_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "AT_ONCE", 300)  # several groups of candidates
    draw = np.random.default_rng(0)
    candidates = [draw.normal(size=(n, 5)) for n in (9, 1, 30, 4, 17)]
    for size in (1, 6, 12):
        query = draw.normal(size=(size, 5))
        found = retrieval.warped(retrieval.unit(query), [retrieval.unit(x) for x in candidates])
        np.testing.assert_allclose(found, [naive(query, x) for x in candidates], rtol=1e-4, atol=1e-6)
    inside = candidates[2][8:20]
    found = retrieval.warped(retrieval.unit(inside), [retrieval.unit(x) for x in candidates])
    assert found.argmax() == 2 and found[2] == pytest.approx(0, abs=1e-6)


def test_the_area_is_that_over_all_pairs() -> None:
    draw = np.random.default_rng(1)
    labels = objects([draw.integers(0, 2, n) for n in (5, 0, 12, 7)])
    scores = objects([draw.normal(size=len(x)) + x for x in labels])
    expected = roc_auc_score(np.concatenate(list(labels)), np.concatenate(list(scores)))
    assert METRICS["pair_auc"].compute(labels, scores) == pytest.approx(expected)


MOTIFS = {"one": "ACCATGGACTTA", "two": "GTTGCACAGGAT", "three": "TTTCGGCGAATC"}
FACTS: dict[str, Any] = {
    "modality": {"name": "dna", "max_length": 64},
    "inputs": "sequence",
    "label": ["motifs", "role"],
    "metrics": ["map", "mrr", "pair_auc"],
    "select": "map",
}


def motif_rows() -> list[dict[str, Any]]:
    """Queries of one motif, and candidates of 60 letters that hold one or two."""
    draw, rows = random.Random(0), []
    for i in range(150):
        if i % 5 == 0:
            name = draw.choice(list(MOTIFS))
            rows.append({"sequence": MOTIFS[name], "motifs": [name], "role": "query"})
            continue
        names = draw.sample(list(MOTIFS), draw.randint(1, 2))
        parts = ["".join(draw.choice("ACGT") for _ in range(12)) for _ in range(5)]
        for place, name in zip(draw.sample(range(5), len(names)), names, strict=True):
            parts[place] = MOTIFS[name]
        rows.append({"sequence": "".join(parts), "motifs": names, "role": "candidate"})
    return rows


def test_queries_are_found_inside_longer_sequences(tmp_path) -> None:
    made = task(tmp_path, motif_rows(), head="retrieval", **FACTS)
    found, precision = measured(made, tmp_path / "out", "zero_shot")
    assert precision > 0.95
    part, answers = found.data.parts["test"], found.predictions["test"][1]
    assert [len(x) for x in answers] == [12, 0, 0, 0, 0] * 3 == [len(x) for x in part.labels_I]
    assert found.selection["split"] == "dev" and len(found.selection["per_layer"]) == 3
    assert found.protocol["head"] == {"name": "retrieval", "version": 2, "method": "dtw"}
    _, blurred = measured(
        task(tmp_path / "other", motif_rows(), head={"name": "retrieval", "method": "cosine"}, **FACTS),
        tmp_path / "out",
        "zero_shot",
    )
    assert blurred < precision


def test_every_row_is_the_candidate_of_the_others(tmp_path) -> None:
    draw = random.Random(1)
    rows = [{"sequence": "".join(draw.choices(s, k=30)), "kind": s} for _ in range(30) for s in ("AAC", "GGT")]
    facts = FACTS | {"label": "kind", "head": {"name": "retrieval", "method": "cosine"}}
    found, precision = measured(task(tmp_path, rows, **facts), tmp_path / "out", "zero_shot")
    assert precision > 0.95
    assert found.data.parts["test"].labels_I[1].tolist() == [0, 0, 1, 0, 1]


def test_what_nothing_answers_is_refused(tmp_path) -> None:
    rows = [{**row, "motifs": [str(i)]} for i, row in enumerate(motif_rows())]
    with pytest.raises(SuiteError, match="no query of dev has a candidate"):
        measured(task(tmp_path, rows, head="retrieval", **FACTS), tmp_path / "out", "zero_shot")
    rows[4]["role"] = "either"
    with pytest.raises(SuiteError, match="row 5 has the role 'either'"):
        measured(task(tmp_path, rows, head="retrieval", **FACTS), tmp_path / "out", "zero_shot")
    with pytest.raises(SuiteError, match=r"nothing to train; use protocol=zero_shot"):
        measured(task(tmp_path, motif_rows(), head="retrieval", **FACTS), tmp_path / "out")


def test_short_queries_are_left_out_and_counted(tmp_path) -> None:
    rows = motif_rows()
    rows[125]["sequence"] = "ACCA"  # of dev
    head = {"name": "retrieval", "method": "dtw"}
    whole, _ = measured(task(tmp_path, rows, head=head, **FACTS), tmp_path / "out", "zero_shot")
    made = task(tmp_path / "short", rows, head={**head, "shortest": 5}, **FACTS)
    found, _ = measured(made, tmp_path / "out", "zero_shot")
    assert found.protocol["head"]["queries_left_out"] == {"train": 0, "dev": 1, "test": 0}
    sizes = [[len(x) for x in each.data.parts["dev"].labels_I] for each in (whole, found)]
    assert sizes[0][5] == 12 and sizes[1][5] == 0 and sizes[0][10] == sizes[1][10] == 12
    assert [len(x) for x in found.predictions["test"][1]] == [12, 0, 0, 0, 0] * 3
    with pytest.raises(SuiteError, match=r"head\.shortest=-1 should be a whole number"):
        measured(task(tmp_path / "bad", rows, head={**head, "shortest": -1}, **FACTS), tmp_path / "out", "zero_shot")


def test_the_encoder_reads_a_part_once_and_layers_are_what_they_were(tmp_path, monkeypatch) -> None:
    """All layers at once, and one by one where there is no room: the same scores."""
    made, read, real = task(tmp_path, motif_rows(), head="retrieval", **FACTS), [], encode.states
    monkeypatch.setattr(encode, "states", lambda *parts, **more: read.append(1) or real(*parts, **more))
    first, _ = measured(made, tmp_path / "out", "zero_shot")
    assert len(read) == 3  # train, dev and test
    monkeypatch.setattr(retrieval.frozen, "CACHE", 0)
    second, _ = measured(made, tmp_path / "out", "zero_shot")
    assert len(read) == 3 + 2 * 3 + 2 and first.selection == second.selection
    answers = [found.predictions["test"][1] for found in (first, second)]
    assert all(np.array_equal(a, b) for a, b in zip(*answers, strict=True))


def value_of_a_loop(labels: list[np.ndarray], given: list[np.ndarray]) -> float:
    """The best of all thresholds, each query's two shares counted by hand."""
    kept = [(y, x) for y, x in zip(labels, given, strict=True) if 0 < y.sum() < len(y)]
    pairs = [(y, (x - x.mean()) / max(x.std(), 1e-9)) for y, x in kept]
    found = []
    for threshold in [*np.concatenate([x for _, x in pairs]), math.inf]:
        missed = np.mean([(x[y == 1] < threshold).mean() for y, x in pairs])
        alarms = np.mean([(x[y == 0] >= threshold).mean() for y, x in pairs])
        found.append(1 - missed - (1 / 0.0008 - 1) / 100 * alarms)
    return max(found)


def test_the_term_weighted_value_is_that_of_a_loop() -> None:
    draw = np.random.default_rng(2)
    for trial in range(10):
        labels = [draw.integers(0, 2, n) for n in (30, 1, 0, 12, 40, 25)]
        labels.append(np.ones(5, np.int64))  # a query without a wrong candidate counts for nothing, one of none too
        given = [draw.normal(size=len(x)) + 2 * x for x in labels]
        if trial % 2:
            given = [np.round(x) for x in given]
        found = METRICS["mtwv"].compute(objects(labels), objects(given))
        assert found == pytest.approx(value_of_a_loop(labels, given), abs=1e-9) and found >= 0
    perfect = [x.astype(float) for x in labels]
    assert METRICS["mtwv"].compute(objects(labels), objects(perfect)) == pytest.approx(1)
    for nothing in ([np.zeros(4, np.int64)], [np.ones(4, np.int64)], [np.zeros(0, np.int64)]):
        with pytest.raises(Undefined):
            METRICS["mtwv"].compute(objects(nothing), objects([np.arange(len(x)) * 1.0 for x in nothing]))


def test_warping_is_that_of_dtw_python() -> None:
    """s3prl's: step pattern ``asymmetric``, open at both ends, normalised by the query's length."""
    draw = np.random.default_rng(5)
    query, candidates = draw.normal(size=(7, 4)), [draw.normal(size=(n, 4)) for n in (9, 20, 33)]
    scores = retrieval.warped(retrieval.unit(query), [retrieval.unit(x) for x in candidates])
    for found, candidate in zip(scores, candidates, strict=True):
        cost = 1 - retrieval.unit(query) @ retrieval.unit(candidate).T
        low, high = cost.min(1, keepdims=True), cost.max(1, keepdims=True)
        made = dtw.dtw((cost - low) / (high - low), step_pattern="asymmetric", open_begin=True, open_end=True)
        assert found == pytest.approx(-made.normalizedDistance, abs=1e-5)
