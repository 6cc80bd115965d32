"""Two rows against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import rows
from ssl_suite.evaluation.predictions import Predictions, stored
from ssl_suite.evaluation.significance import paired_bootstrap
from ssl_suite.leaderboard.diff import _same_items, compare, find
from tests.leaderboard import add, classified, make_row, valued


def pair(root: Path, a: Predictions, b: Predictions, **changes: Any) -> tuple[rows.Row, rows.Row]:
    """Rows of two arms; ``changes`` are those of the second."""
    return rows.read(add(root, a)), rows.read(rows.write(root, make_row(b, arm="rand", **changes), {"test": b}))


def test_golden_mcnemar_and_difference(tmp_path: Path) -> None:
    """8 items that only A gets right and 2 that only B does: p = .109375."""
    labels_I = np.arange(300) % 2
    wrong_a_I, wrong_b_I = np.zeros(300, int), np.zeros(300, int)
    wrong_b_I[:8], wrong_a_I[8:10], wrong_a_I[50:60], wrong_b_I[50:60] = 1, 1, 1, 1
    a, b = (
        stored(labels_I, {7: labels_I ^ wrong_I}, np.arange(300), ("no", "yes")) for wrong_I in (wrong_a_I, wrong_b_I)
    )
    result = compare(*pair(tmp_path, a, b), tmp_path)
    (test,) = result.mcnemar
    assert (test.seed, test.only_a, test.only_b, test.p) == (7, 8, 2, 0.109375)
    assert test.p == binomtest(2, 10).pvalue
    assert result.difference == pytest.approx(6 / 300)
    assert result.low < result.difference < result.high
    assert (result.value_a, result.value_b, result.n) == (pytest.approx(288 / 300), pytest.approx(282 / 300), 300)


def test_items_are_joined_by_name_not_by_place(tmp_path: Path) -> None:
    a, b = classified(right=0.9), classified(right=0.5, draw=1)
    order_I = np.random.default_rng(0).permutation(len(b.items_I))
    by_seed = {seed: x_I[order_I] for seed, x_I in b.by_seed.items()}
    mixed = stored(b.labels_I[order_I], by_seed, b.items_I[order_I], b.classes)
    results = [compare(*pair(tmp_path / str(k), a, other), tmp_path / str(k)) for k, other in enumerate((b, mixed))]
    assert results[0] == results[1]
    expected = paired_bootstrap("accuracy", a.labels_I, a.stacked(), b.stacked())
    found = results[0]
    assert (found.difference, found.low, found.high, found.p) == expected
    assert found.p < 0.01 and found.low > 0
    turned = compare(*reversed(rows.read_all(tmp_path / "0")), tmp_path / "0")
    assert turned.difference == -found.difference
    assert turned.high < 0


def test_seeds_of_either_side_may_differ(tmp_path: Path) -> None:
    result = compare(*pair(tmp_path, classified(), classified(seeds=(102, 200), draw=1)), tmp_path)
    assert (result.seeds_a, result.seeds_b) == ((100, 101, 102), (102, 200))
    assert [test.seed for test in result.mcnemar] == [102]


def test_values_and_another_metric(tmp_path: Path) -> None:
    a, b = valued(noise=0.3), valued(noise=2.0)
    row_a = make_row(a, metrics=("spearman", "mae"))
    row_b = make_row(b, metrics=("spearman", "mae"), arm="rand")
    row_a, row_b = (rows.read(rows.write(tmp_path, row, {"test": made})) for row, made in ((row_a, a), (row_b, b)))
    first, second = compare(row_a, row_b, tmp_path), compare(row_a, row_b, tmp_path, metric="mae")
    assert (first.metric, first.higher_is_better, first.mcnemar) == ("spearman", True, ())
    assert (second.metric, second.higher_is_better) == ("mae", False)
    assert first.difference > 0 > second.difference
    with pytest.raises(SuiteError, match=r"has no metric 'spearmn'. Did you mean 'spearman'\?"):
        compare(row_a, row_b, tmp_path, metric="spearmn")


def test_notes(tmp_path: Path) -> None:
    changes = {"budget__trials": 3, "task__n_train": 9, "protocol__name": "probe", "git_dirty": True}
    row_a, row_b = pair(tmp_path, classified(), classified(draw=1, seeds=(100,)), **changes)
    assert compare(row_a, row_b, tmp_path).notes == (
        "different trials of the learning rate and the like: 5 and 3.",
        "different training items: 287 and 9.",
        "different protocols: finetune and probe.",
        "60 test items are few: look at the interval, not at the difference.",
        f"{row_b['run_id']} comes from a dirty tree.",
        f"{row_b['run_id']} has one seed: how much its seeds vary is not in the interval.",
    )
    large = compare(*pair(tmp_path / "large", classified(items=300), classified(items=300)), tmp_path / "large")
    assert (large.notes, large.difference, large.p) == ((), 0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"task": "splice@other"}, "their task's name differs (splice@kao100 and splice@other)."),
        ({"task__version": 2}, "their task's version differs (1 and 2)."),
        ({"task__split_sha256": "c" * 64}, "their task's split_sha256 differs"),
        ({"task__data_sha256": "c" * 64}, "their task's data_sha256 differs"),
    ],
)
def test_other_tasks_are_refused(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SuiteError) as caught:
        compare(*pair(tmp_path, classified(), classified(), **changes), tmp_path)
    assert "cannot be compared: " in str(caught.value)
    assert fault in str(caught.value)


def test_labels_that_are_lists_are_compared_one_by_one() -> None:
    def lists(*labels: list[float]) -> Predictions:
        found = np.empty(len(labels), object)
        found[:] = [np.array(label) for label in labels]
        return Predictions(found, {0: found}, np.arange(len(labels)), kind="scores")

    row = {"run_id": "x"}
    _same_items(row, row, lists([1, 0], [0, 1]), lists([1, 0], [0, 1]))
    with pytest.raises(SuiteError, match="1 test items have other labels"):
        _same_items(row, row, lists([1, 0], [0, 1]), lists([1, 0], [1, 1]))


def test_other_items_labels_and_classes_are_refused(tmp_path: Path) -> None:
    a = classified()
    others = {
        "different test items (60 and 50, 50 of them shared)": classified(items=50),
        "60 test items have other labels": a._replace(labels_I=(a.labels_I + 1) % 3),
        "their classes differ": a._replace(classes=("EI", "IE", "none")),
    }
    for number, (fault, other) in enumerate(others.items()):
        root = tmp_path / str(number)
        with pytest.raises(SuiteError) as caught:
            compare(*pair(root, a, other, task__n_test_full=500), root)
        assert fault in str(caught.value)


def test_a_row_is_found_by_name_beginning_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, other = tmp_path / "here", tmp_path / "there"
    path = add(root)
    row = rows.read(path)
    add(root, arm="BERT2")
    far = add(other, arm="rand")
    assert find(root, row["run_id"]) == (root, row)
    assert find(root, "splice@kao100--BERT--") == (root, row)
    assert find(root, str(far)) == (other, rows.read(far))
    monkeypatch.chdir(far.parent)
    assert find(root, far.name) == (other, rows.read(far))
    far.write_text("{")
    with pytest.raises(SuiteError, match="is not JSON"):
        find(root, str(far))


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        (
            "splice@kao100--B",
            "begins 2 rows: cross_domain/splice@kao100--BERT--finetune--small--1a2b3c4d, cross_domain/s",
        ),
        (
            "splice@kao100--BRT--finetune--small--1a2b3c4d",
            "Did you mean 'splice@kao100--BERT--finetune--small--1a2b3c4d'?",
        ),
        ("splise@kao100--BERT2", "Did you mean 'splice@kao100--BERT2--finetune--small--1a2b3c4d'?"),
        ("xyz", "`ssl_suite board show --json` lists them (cross_domain)."),
        ("some/where.json", "a row lies in rows/BENCHMARK/ of a leaderboards folder"),
        ("rows/x/where.json", "rows/x/where.json: cannot be read (No such file or directory)."),
    ],
)
def test_a_row_that_is_not_found(tmp_path: Path, word: str, fault: str) -> None:
    add(tmp_path)
    add(tmp_path, arm="BERT2")
    with pytest.raises(SuiteError) as caught:
        find(tmp_path, word)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_board_and_a_file_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"There is no row 'x': .* has no rows"):
        find(tmp_path, "x")
    path = tmp_path / "row.json"
    path.write_text(json.dumps({}))
    with pytest.raises(SuiteError, match="a row lies in rows/BENCHMARK/ of a leaderboards folder"):
        find(tmp_path, str(path))
