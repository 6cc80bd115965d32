"""Rows and their predictions: read back exactly, added whole or not at all, never overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ssl_suite.core import resources
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import rows
from ssl_suite.evaluation.predictions import Predictions, decode, encode, stored
from ssl_suite.evaluation.row_schema import validate
from tests.leaderboard import CLASSES, add, changed, classified, make_row, valued

ROOT = Path(__file__).resolve().parents[2]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def scored() -> Predictions:
    """Scores for class 1 of two classes: numbers, beside labels that are class numbers."""
    score_I = np.linspace(-3, 3, 60).astype(np.float32)
    return stored(np.arange(60) % 2, {100: score_I}, np.arange(60), ("no", "yes"))


def test_trials_keep_both_of_their_clusters() -> None:
    for clusters_I in (np.arange(12).reshape(6, 2) % 5, np.arange(6) % 4):
        made = stored(np.arange(6) % 2, {1: np.arange(6.0)}, np.arange(6), kind="scores", clusters_I=clusters_I)
        np.testing.assert_array_equal(decode(encode(made)).clusters_I, clusters_I)


@pytest.mark.parametrize(
    ("predictions", "label", "predicted"),
    [
        (classified(), "int16", "uint8"),
        (classified(items=400, classes=[f"c{i}" for i in range(300)]), "int16", "int16"),
        (valued(), "double", "float"),
        (scored(), "int16", "float"),
    ],
)
def test_predictions_are_read_back_exactly(
    tmp_path: Path, predictions: Predictions, label: str, predicted: str
) -> None:
    # What is stored does not depend on the metric; the interval of one that takes scores takes seconds.
    row = make_row(predictions if predictions.classes != ("no", "yes") else valued(seeds=(100,)))
    path = rows.write(tmp_path, row, {"test": predictions})
    row = rows.read(path)
    assert rows.read_all(tmp_path) == rows.read_all(tmp_path, "cross_domain") == [row]
    labels_I, by_seed, items_I, classes, *_ = rows.read_predictions(tmp_path, row)
    np.testing.assert_array_equal(labels_I, predictions.labels_I, strict=True)
    np.testing.assert_array_equal(items_I, predictions.items_I, strict=True)
    assert classes == predictions.classes
    assert list(by_seed) == list(predictions.by_seed)
    for seed, x_I in by_seed.items():
        np.testing.assert_array_equal(x_I, predictions.by_seed[seed], strict=True)
    file = pq.ParquetFile(tmp_path / row["predictions"]["path"])
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {"item": "int32", "label": label, **{f"seed_{seed}": predicted for seed in by_seed}}
    assert {file.metadata.row_group(0).column(k).compression for k in range(len(types))} == {"ZSTD"}


def test_the_same_row_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add(tmp_path / name)
        add(tmp_path / name, valued(), task="stability@mutations")
    assert len(files(tmp_path / "a")) == 5
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_row_is_never_overwritten(tmp_path: Path) -> None:
    add(tmp_path)
    before = files(tmp_path)
    with pytest.raises(SuiteError, match=r"row splice@kao100--BERT--finetune--small--1a2b3c4d is already there"):
        add(tmp_path, classified(draw=1))
    assert files(tmp_path) == before


def test_of_writers_at_once_one_wins(tmp_path: Path) -> None:
    def attempt(draw: int) -> bool:
        try:
            add(tmp_path, classified(draw=draw))
        except SuiteError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    (row,) = rows.read_all(tmp_path)
    rows.read_predictions(tmp_path, row)
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_leaves_nothing_that_counts(tmp_path: Path, call: int) -> None:
    """SIGKILL just before the rename of the predictions, and of the row."""
    code = f"""
import os, signal
from pathlib import Path
from ssl_suite.evaluation import rows
from ssl_suite.evaluation.predictions import Predictions, stored
from ssl_suite.evaluation.row_schema import validate
from tests.leaderboard import add
calls, rename = [], os.replace
def replace(*paths):
    calls.append(paths)
    os.kill(os.getpid(), signal.SIGKILL) if len(calls) == {call} else rename(*paths)
os.replace = replace
add(Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows.read_all(tmp_path) == []
    assert len(files(tmp_path)) == call
    add(tmp_path)
    (row,) = rows.read_all(tmp_path)
    assert set(files(tmp_path)) == {
        f"rows/cross_domain/{row['run_id']}.json",
        row["predictions"]["path"],
        rows.MANIFEST,
    }
    rows.read_predictions(tmp_path, row)


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("a file where a folder should be")
    with pytest.raises(SuiteError, match=r"row .* cannot be written below .*: no row was added"):
        add(tmp_path)
    assert rows.read_all(tmp_path) == []


@pytest.mark.parametrize(
    "place", ["../out.parquet", "/{root}/../out.parquet", "predictions/../../out.parquet", "link/out.parquet"]
)
def test_predictions_may_not_lie_outside(tmp_path: Path, place: str) -> None:
    root = tmp_path / "boards"
    row = rows.read(add(root))
    os.rename(root / row["predictions"]["path"], tmp_path / "out.parquet")
    (root / "link").symlink_to(tmp_path)
    row["predictions"]["path"] = place.format(root=root)
    with pytest.raises(SuiteError, match="lie outside"):
        rows.read_predictions(root, row)


def test_predictions_that_are_gone_changed_or_no_table(tmp_path: Path) -> None:
    row = rows.read(add(tmp_path))
    path = tmp_path / row["predictions"]["path"]
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(SuiteError, match="cannot be read"):
        rows.read_predictions(tmp_path, row)
    path.write_bytes(whole[:-1])
    with pytest.raises(SuiteError, match="not those it was written with"):
        rows.read_predictions(tmp_path, row)
    content = b"PAR1 and nothing of the kind PAR1"
    path.write_bytes(content)
    row["predictions"] |= {"bytes": len(content), "sha256": rows.hashlib.sha256(content).hexdigest()}
    with pytest.raises(SuiteError, match="not a table of predictions"):
        rows.read_predictions(tmp_path, row)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schema_version": 3}, "schema_version 3 is newer than this ssl_suite reads"),
        ({"run_id": "../x"}, "run_id=../x should match pattern"),
        ({"benchmark": "a/b"}, "benchmark=a/b should match pattern"),
        ({"arm": " "}, "arm=  should match pattern"),
        ({"git_commit": "--help"}, "git_commit=--help should match pattern"),
        ({"created": "2026-11-23T04:00:00"}, "created=.* should be a time with its zone"),
        ({"budget": None}, "budget=None should be a valid dictionary"),
        ({"task__n_test": 60.0}, "task.n_test=60.0 should be a valid integer"),
        ({"task__n_test": True}, "task.n_test=True should be a valid integer"),
        ({"task__n_train": 9999}, "task.n_train=9999 is more than n_train_full=2871"),
        (
            {"task__leakage": {"test_in_train": -1}},
            "task.leakage.test_in_train=-1 should be greater",
        ),
        ({"task__split_sha256": "b" * 63}, "task.split_sha256=b+… should match pattern"),
        ({"budget__seconds": float("nan")}, "budget.seconds=nan should be a finite number"),
        ({"seeds": []}, "seeds=.* should have at least 1 item"),
        ({"seeds": [100, 100, 102]}, "seeds are not different whole numbers"),
        ({"seeds": [100, 101]}, "per_seed of accuracy should be a number for each of the 2 seeds"),
        ({"selection__split": "test"}, "selection.split is 'test': choose on dev"),
    ],
)
def test_faults_of_a_row(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SuiteError, match=f"^row .*: {fault}"):
        add(tmp_path, **changes)
    assert files(tmp_path) == {}


def test_faults_of_a_metric_and_a_key_that_is_missing() -> None:
    row = make_row(classified(), schema_version=1, predictions={"path": "x", "sha256": "0" * 64, "bytes": 1})
    validate(row)
    for key, value, fault in (
        ("ci95", [0.9, 0.8], r"ci95 of accuracy is not \[low, high\]"),
        ("per_seed", [0.9, None, 0.9], "metrics.0.per_seed.1=None should be a valid number"),
        ("value", float("inf"), "metrics.0.value=inf should be a finite number"),
    ):
        with pytest.raises(SuiteError, match=fault):
            validate(changed(row, metrics=[{**row["metrics"][0], key: value}]))
    with pytest.raises(SuiteError, match=r"metrics=\[\] should have at least 1 item"):
        validate(changed(row, metrics=[]))
    with pytest.raises(SuiteError, match="metrics names one metric twice"):
        validate(changed(row, metrics=row["metrics"][:1] * 2))
    row["task"]["tilte"] = row["task"].pop("title")
    with pytest.raises(SuiteError, match=r"task\.title missing"):
        validate(row)
    for other in ([], "row", None):
        with pytest.raises(SuiteError, match="it should be an object"):
            validate(other)


@pytest.mark.parametrize("text", ["{", '{"a": ', "\udcff", "[" * 100_000, "[]", "1"])
def test_a_file_that_is_no_row_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows/b/x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SuiteError) as caught:
        rows.read_all(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_row_under_another_name(tmp_path: Path) -> None:
    path = add(tmp_path)
    path.rename(path.with_name("other.json"))
    with pytest.raises(SuiteError, match=r"other.json: holds the row cross_domain/splice@kao100--BERT"):
        rows.read_all(tmp_path)


def test_a_benchmark_without_rows(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="There are no rows below"):
        rows.read_all(tmp_path, "glue")
    add(tmp_path)
    with pytest.raises(SuiteError, match="Did you mean 'cross_domain'"):
        rows.read_all(tmp_path, "cross_domian")


def test_predictions_that_cannot_be_stored(tmp_path: Path) -> None:
    one = np.arange(3)
    with pytest.raises(SuiteError, match="1 of the 3 predictions of seed 5 are NaN or infinite"):
        stored(one, {5: np.array([0, np.nan, 1])}, one, ())
    with pytest.raises(SuiteError, match="predictions of seed 5 are NaN or infinite"):
        stored(one, {5: np.array([0, 1e39, 1])}, one, ())  # beyond float32
    with pytest.raises(SuiteError, match="1 of the 3 labels are NaN"):
        stored(np.array([0, np.nan, 1]), {5: one}, one, ())
    for labels_I, predicted_I, items_I in (
        (one, one + 1, one),
        (one - 1, one, one),
        (one, one, one * 0),
        (one, one[:2], one),
    ):
        with pytest.raises(ValueError, match=r"class number|two predictions|one shape"):
            stored(labels_I, {5: predicted_I}, items_I, CLASSES)
    for changes in ({"seeds": [1, 2, 3]}, {"task__n_test": 59}):
        with pytest.raises(ValueError, match="seeds or items of test are not those of its predictions"):
            add(tmp_path, **changes)
    assert files(tmp_path) == {}


def test_names_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        rows.make_run_id("a@b", "k-mer linear", "probe", "small", "12345678ff")
        == "a@b--k-mer-linear--probe--small--12345678"
    )
    assert rows.default_root() == ROOT / "leaderboards"
    monkeypatch.setattr(resources, "folder", lambda name: resources.PACKAGE / "_resources" / name)
    assert rows.default_root() == Path("leaderboards")


def test_the_manifest_is_a_chain(tmp_path: Path) -> None:
    add(tmp_path)
    add(tmp_path, valued(), task="stability@mutations")
    path = tmp_path / rows.MANIFEST
    lines = path.read_text().splitlines()
    assert [one["row"] for one in rows.read_manifest(tmp_path)] == [json.loads(line)["row"] for line in lines]
    for damaged in (lines[1:], lines[::-1], [lines[0].replace("splice", "splise"), lines[1]], [lines[0], "{"]):
        path.write_text("".join(line + "\n" for line in damaged))
        with pytest.raises(SuiteError, match="is not what was written there"):
            rows.read_manifest(tmp_path)
