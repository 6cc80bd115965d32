"""Verification: what holds, what fails and under which name, what is marked."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import accuracy_score, matthews_corrcoef

from ssl_suite.evaluation import rows
from ssl_suite.leaderboard.verify import Finding, failing, score, verify
from tests.leaderboard import add, changed, classified, make_row, valued

BERT = "splice@kao100--BERT--finetune--small--1a2b3c4d"
RAND = "splice@kao100--rand--finetune--small--1a2b3c4d"


def fails(root: Path, benchmark: str | None = None) -> list[Finding]:
    return [finding for finding in verify(root, benchmark) if finding.level == "fail"]


def edit(path: Path, **changes: Any) -> None:
    """Change a row and forge the manifest, so that the other checks are seen alone."""
    path.write_text(json.dumps(changed(json.loads(path.read_text()), **changes)))
    root = path.parents[2]
    rows.write_manifest(root, [rows.entry(root, each, each.read_bytes()) for each in rows.row_files(root)])


def put(root: Path, arm: str, **changes: Any) -> Path:
    """A row of schema 2, with the configuration that it says."""
    row = make_row(made := classified(), arm=arm, encoder__ref="random:tiny", **changes)
    limits = {"train": 287, "dev": None, "test": None}
    row |= {"schema_version": 2, "protocol": {"name": "finetune", "head": {"name": "classification", "version": 2}}}
    row["task"]["n_test_full"], row["task"]["n_train_full"] = 60, 2871
    made = made._replace(items_I=made.items_I // 2)
    row["config"] = {
        "task": {"name": row["task"]["name"], "version": 1},
        "head_version": 2,
        "encoder": "random:tiny",
        "protocol": "finetune",
        "budget": {"limits": limits, "seeds": [100, 101, 102]},
        "arm": arm,
        "benchmark": "cross_domain",
    }
    row["config_sha256"] = rows.config_digest(row["config"])
    row["run_id"] = rows.make_run_id(row["task"]["name"], arm, "finetune", "small", row["config_sha256"])
    row["further"] = [{"part": "test_mm", "n": 60, "metrics": row["metrics"]}]
    return rows.write(root, row, {"test": made, "test_mm": made})


def test_score_against_scikit_learn_and_scipy() -> None:
    made = classified(right=0.7)
    found = score("accuracy", made)
    each = [accuracy_score(made.labels_I, x_I) for x_I in made.by_seed.values()]
    assert found["per_seed"] == pytest.approx(each)
    assert (found["value"], found["sd"]) == pytest.approx((np.mean(each), np.std(each, ddof=1)))
    one = score("accuracy", made._replace(by_seed={100: made.by_seed[100]}))
    right = int((made.by_seed[100] == made.labels_I).sum())
    assert one["ci95"] == pytest.approx(list(binomtest(right, len(made.items_I)).proportion_ci(method="wilson")))
    assert one["sd"] is None
    mcc = score("mcc", made)
    assert mcc["per_seed"] == pytest.approx([matthews_corrcoef(made.labels_I, x_I) for x_I in made.by_seed.values()])
    assert mcc["ci95"][0] < mcc["value"] < mcc["ci95"][1]
    values = valued()
    found = score("spearman", values)
    assert found["per_seed"] == pytest.approx([spearmanr(values.labels_I, x_I)[0] for x_I in values.by_seed.values()])
    assert not score("mae", values)["higher_is_better"]


def test_what_was_written_holds(tmp_path: Path) -> None:
    add(tmp_path, metrics=("accuracy", "mcc"))
    add(tmp_path, classified(draw=1, seeds=(100,)), arm="rand")
    add(tmp_path, valued(), task="stability@mutations", metrics=("spearman", "mae"))
    assert fails(tmp_path) == []
    # Rounding of another machine is no change, and a change ten times as large as is allowed is one.
    (path, *_) = rows.row_files(tmp_path)
    value = rows.read(path)["metrics"][0]["value"]
    for shift, count in ((1e-10, 0), (1e-8, 1)):
        metrics = json.loads(path.read_text())["metrics"]
        metrics[0]["value"] = value + shift
        edit(path, metrics=metrics)
        assert len(fails(tmp_path)) == count


def test_any_changed_byte_of_the_predictions_fails(tmp_path: Path) -> None:
    add(tmp_path)
    row = rows.read(add(tmp_path, arm="rand"))
    path = tmp_path / row["predictions"]["path"]
    whole = path.read_bytes()
    for position in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        (finding,) = fails(tmp_path)
        assert finding.row == RAND
        assert "not those it was written with" in finding.text
    path.write_bytes(whole)
    assert fails(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "change", "text"),
    [
        ("value", lambda x: x + 0.01, "accuracy value is"),
        ("ci95", lambda x: [x[0] + 0.01, x[1]], "accuracy ci95 is"),
        ("ci95", lambda x: [x[0], x[1] - 0.01], "accuracy ci95 is"),
        ("per_seed", lambda x: [x[1], x[0], x[2]], "accuracy per_seed is"),
        ("sd", lambda x: x / 2, "accuracy sd is"),
        ("sd", lambda x: None, "accuracy sd is None"),
        ("higher_is_better", lambda x: False, "accuracy higher_is_better is False"),
        ("name", lambda x: "uar", "uar value is"),
        ("name", lambda x: "accurcy", "Did you mean 'accuracy'"),
        ("name", lambda x: "f1", "f1 is for classes 0 and 1"),
    ],
)
def test_a_changed_number_fails(tmp_path: Path, key: str, change: Any, text: str) -> None:
    path = add(tmp_path)
    metrics = json.loads(path.read_text())["metrics"]
    metrics[0][key] = change(metrics[0][key])
    edit(path, metrics=metrics)
    found = fails(tmp_path)
    assert failing(found) == [BERT]
    assert any(text in finding.text for finding in found)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"task__n_test": 59}, "task.n_test is 59 and there are predictions of 60 items."),
        ({"task__n_test_full": 60}, "an item lies outside the 60 of task.n_test_full."),
        ({"task__n_classes": 2}, "task.n_classes is 2 and the predictions name 3."),
        ({"task__n_classes": None}, "task.n_classes is None and the predictions name 3."),
        ({"budget__name": "brief"}, "make the name splice@kao100--BERT--finetune--brief--1a2b3c4d."),
        ({"created": "2999-01-01T00:00:00Z"}, "created is 2999-01-01T00:00:00Z, which is in the future."),
        ({"seeds": [100, 101, 103]}, "seeds are [100, 101, 103] and there are predictions of [100, 101, 102]."),
        ({"predictions__path": "../x.parquet"}, "its predictions ../x.parquet lie outside"),
        ({"predictions__bytes": 1}, "not those it was written with"),
        ({"run_id": "other"}, "holds the row cross_domain/other"),
        ({"arm": None}, "arm=None should be a valid string."),
    ],
)
def test_a_changed_fact_fails(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    edit(add(tmp_path), **changes)
    (finding,) = fails(tmp_path)
    assert finding.row == BERT
    assert text in finding.text


def test_another_rows_predictions_fail(tmp_path: Path) -> None:
    other = rows.read(add(tmp_path, classified(draw=1), arm="rand"))
    edit(add(tmp_path), predictions=other["predictions"])
    found = fails(tmp_path)
    assert failing(found) == [BERT]
    said = {finding.text.split(" is ")[0] for finding in found}
    assert said >= {"accuracy value", "accuracy per_seed", "accuracy ci95"}
    assert any("its predictions of test should be its own" in finding.text for finding in found)


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"config__task__version": 2}, ["config_sha256 is not that of its config", "its config has version 2"]),
        ({"config__encoder": "random:mini"}, ["config_sha256", "its config has encoder random:mini"]),
        ({"config_sha256": "c" * 64}, ["make the name", "config_sha256 is not that of its config"]),
        ({"protocol__head__version": 3}, ["its config has head version 2, and the row says 3."]),
        ({"task__n_train": 286}, ["task.n_train is 286 of 2871, and the budget's limit is 287."]),
    ],
)
def test_a_row_that_contradicts_its_configuration_fails(
    tmp_path: Path, changes: dict[str, Any], texts: list[str]
) -> None:
    path = put(tmp_path, "mine")
    assert fails(tmp_path) == []
    edit(path, **changes)
    found = fails(tmp_path)
    assert len(found) == len(texts), found
    for finding, text in zip(found, texts, strict=True):
        assert text in finding.text


def test_further_parts_are_recomputed(tmp_path: Path) -> None:
    path = put(tmp_path, "mine")
    assert not [each for each in verify(tmp_path) if each.level == "warning"]  # their file is known
    further = json.loads(path.read_text())["further"]
    further[0]["metrics"][0]["value"] += 0.01
    edit(path, further=further)
    (finding,) = fails(tmp_path)
    assert finding.text.startswith("test_mm: accuracy value is ")


def test_the_manifest_finds_what_was_taken_out_changed_or_slipped_in(tmp_path: Path) -> None:
    first, second, third = (add(tmp_path, arm=arm) for arm in ("BERT", "rand", "specific-CNN"))
    first.write_text(first.read_text().replace('"params": 1000', '"params": 1001'))
    (finding,) = fails(tmp_path)
    assert (finding.row, finding.text) == (BERT, "it was changed after it was added: restore it from git.")
    first.write_text(first.read_text().replace('"params": 1001', '"params": 1000'))
    content = second.read_bytes()
    second.unlink()
    (finding,) = fails(tmp_path)
    assert (finding.row, "was taken out" in finding.text) == (RAND, True)
    assert fails(tmp_path, "cross_domain") == [finding]
    second.write_bytes(content)
    manifest = tmp_path / rows.MANIFEST
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:2]))  # the end alone can be taken off: the row is then not in it
    (mark,) = [each for each in verify(tmp_path) if "not in the manifest" in each.text]
    assert (mark.level, mark.row) == ("mark", third.stem)
    manifest.write_text("".join(lines[1:]))
    (finding,) = fails(tmp_path)
    assert (finding.row, "line 1 is not what was written there" in finding.text) == (rows.MANIFEST, True)


def test_a_broken_file_is_one_finding_and_the_rest_is_checked(tmp_path: Path) -> None:
    path = add(tmp_path)
    add(tmp_path, arm="rand", benchmark="other")
    path.write_text(path.read_text()[:-20])
    finding, changed_after = fails(tmp_path)
    assert (finding.row, changed_after.row) == (BERT, BERT)
    assert f"{path}: is not JSON" in finding.text
    assert "\n" not in finding.text
    assert fails(tmp_path, "other") == []


def test_marks(tmp_path: Path) -> None:
    """In a repository that knows one of the commits. A mark is no failure."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    tree = subprocess.run([*git, "rev-parse", "HEAD^{tree}"], check=True, capture_output=True, text=True).stdout.strip()
    root, plain = tmp_path / "leaderboards", {"protocol__name": "linear"}
    add(root, arm="known", git_commit=head, **plain)
    add(root, arm="no_commit", git_commit=tree, **plain)
    add(root, arm="unknown", git_commit="1" * 40, **plain)
    add(root, arm="unrecorded", git_commit=None, git_dirty=None, **plain)
    add(root, arm="dirty", git_commit=head, git_dirty=True, **plain)
    add(root, arm="on_dev", git_commit=head, split="dev", **plain)
    add(root, arm="trained", git_commit=head)
    found = verify(root)
    assert {finding.level for finding in found} == {"mark"}
    assert [(finding.row.split("--")[1], finding.text) for finding in found] == [
        ("dirty", "it comes from a dirty tree: the commit alone does not make it again."),
        ("no_commit", f"its commit {tree[:12]} is not known to git here."),
        ("on_dev", "it is scored on dev, where it was also chosen."),
        ("trained", "it was measured with an earlier version of the heads, and shares no column with newer rows."),
        ("unknown", "its commit 111111111111 is not known to git here."),
        ("unrecorded", "its commit is not recorded: it was made by an installed package."),
    ]


def test_rows_of_one_column_agree(tmp_path: Path) -> None:
    made = classified()
    add(tmp_path, made)
    labels_I = made.labels_I.copy()
    labels_I[:2] = (labels_I[:2] + 1) % 3
    other = made._replace(labels_I=labels_I)
    rows.write(tmp_path, make_row(other, arm="rand"), {"test": other})
    rows.write(tmp_path, make_row(other, arm="rand", task="splice@other"), {"test": other})
    add(tmp_path, arm="specific-CNN", task__split_sha256="c" * 64)
    (finding,) = fails(tmp_path)
    assert (finding.row, finding.text) == (RAND, f"2 items have other labels than in {BERT}.")
    edit(rows.row_files(tmp_path)[0], task__leakage={"test_in_train": 11})
    assert any("leakage of its task differ" in finding.text for finding in fails(tmp_path))
    (mark,) = [each for each in verify(tmp_path) if "compared" in each.text]
    assert (mark.level, mark.text) == ("mark", f"split_sha256 is not that of {BERT}: the two must not be compared.")


def test_warnings_of_the_folder(tmp_path: Path) -> None:
    assert verify(tmp_path / "not there") == []
    add(tmp_path)
    orphan, left = tmp_path / "predictions/cross_domain/gone.parquet", tmp_path / "rows/cross_domain/.x.json.7.writing"
    orphan.write_bytes(b"x")
    left.write_bytes(b"x")
    with open(tmp_path / "page.html", "wb") as file:
        os.truncate(file.fileno(), 10_000_000)
    warnings = [finding for finding in verify(tmp_path) if finding.level == "warning"]
    assert {finding.row for finding in warnings} == {""}
    assert [finding.text for finding in warnings] == [
        f"{tmp_path} has grown to 10.0 MB, more than 10 MB.",
        "predictions/cross_domain/gone.parquet belongs to no row and counts for nothing: remove it.",
        "rows/cross_domain/.x.json.7.writing is unfinished and counts for nothing; the next row clears it.",
    ]
