"""Recompute every number of the leaderboard from the stored predictions, and say what does not hold.

``score`` makes the entry of a metric, both when a row is written and here, so that the two have one definition.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_suite import resources
from ssl_suite.core.atomic import UNFINISHED
from ssl_suite.core.wording import count
from ssl_suite.errors import SuiteError
from ssl_suite.evaluation.predictions import Predictions
from ssl_suite.evaluation.rows import Row, read, read_predictions, row_files
from ssl_suite.evaluation.scoring import score

CLOSE = 1e-9  # of a stored number to the recomputed one, relative above 1: it is the rounding of another machine
LARGEST = 10 * 10**6  # bytes of the whole folder, before it weighs on everybody who clones the repository
Level = Literal["fail", "mark", "warning"]


@dataclass(frozen=True)
class Finding:
    """What verification has to say.

    Attributes:
        row: the run_id; the file's name without its ending where there is no telling; "" for the folder as a whole.
        level: "fail": a number cannot be trusted. "mark": it can, and the reader should know this. "warning": of the
            folder.
        text: one line, without the row's name.
    """

    row: str
    level: Level
    text: str


def verify(root: Path, benchmark: str | None = None) -> list[Finding]:
    """Check all rows below ``root``, or those of one benchmark, in the order of their files.

    A row fails when its file is no row, its predictions are not those it was written with, or a count, value, value of
    a seed, deviation or interval is not what follows from them. It is marked when it comes from a commit that git does
    not know, from a dirty tree, or from the dev split.

    Raises:
        SuiteError: no row is of this benchmark.
    """
    findings: list[Finding] = []
    good: list[tuple[Row, Predictions]] = []
    sound: list[Row] = []
    for path in row_files(root, benchmark):
        try:
            row = read(path)
            sound.append(row)
            predictions = read_predictions(root, row)
        except SuiteError as error:
            findings.append(Finding(path.stem, "fail", str(error).removeprefix(f"row {path.stem}: ")))
            continue
        faults = check(row, predictions)
        findings += [Finding(row["run_id"], "fail", fault) for fault in faults]
        if not faults:
            good.append((row, predictions))
    known = _known_commits([row.get("git_commit") for row in sound], root)
    findings += [Finding(row["run_id"], "mark", text) for row in sound for text in _marks(row, known)]
    return findings + _columns(good) + _folder(root)


def failing(findings: Sequence[Finding]) -> list[str]:
    """The names of the rows that fail, each once, in order."""
    return list(dict.fromkeys(finding.row for finding in findings if finding.level == "fail"))


def check(row: Mapping[str, Any], predictions: Predictions) -> list[str]:
    """What in a valid row does not follow from its predictions; empty when all of it does."""
    faults = _counts(row, predictions)
    if faults:  # the numbers would differ for that reason
        return faults
    for said in row["metrics"]:
        name = said["name"]
        try:
            found = score(name, predictions)
        except SuiteError as error:
            faults.append(str(error))
            continue
        for key in ("value", "per_seed", "sd", "ci95"):
            if not _equal(said.get(key), found[key]):
                faults.append(f"{name} {key} is {said.get(key)} and the predictions give {found[key]}.")
        if said["higher_is_better"] != found["higher_is_better"]:
            faults.append(f"{name} higher_is_better is {said['higher_is_better']}, which it is not.")
    return faults


def _counts(row: Mapping[str, Any], predictions: Predictions) -> list[str]:
    task, items = row["task"], len(predictions.items_I)
    faults = []
    if task["n_test"] != items:
        faults.append(f"task.n_test is {task['n_test']} and there are predictions of {count(items, 'item')}.")
    elif not (predictions.items_I.min() >= 0 and predictions.items_I.max() < task["n_test_full"] + task["n_skipped"]):
        faults.append(f"an item lies outside the {task['n_test_full']} of task.n_test_full.")
    if (task.get("n_classes") or 0) != len(predictions.classes):
        faults.append(f"task.n_classes is {task.get('n_classes')} and the predictions name {len(predictions.classes)}.")
    if row["seeds"] != list(predictions.by_seed):
        faults.append(f"seeds are {row['seeds']} and there are predictions of {list(predictions.by_seed)}.")
    return faults


def _equal(said: Any, found: Any) -> bool:
    if said is None or found is None:
        return said is found
    said, found = np.asarray(said, dtype=np.float64), np.asarray(found, dtype=np.float64)
    return said.shape == found.shape and bool((np.abs(said - found) <= CLOSE * np.maximum(1.0, np.abs(found))).all())


def _marks(row: Mapping[str, Any], known: Mapping[str, bool]) -> list[str]:
    commit = row.get("git_commit")
    marks = []
    if commit is None:
        marks.append("its commit is not recorded: it was made by an installed package.")
    elif not known.get(commit):
        marks.append(f"its commit {commit[:12]} is not known to git here.")
    if row.get("git_dirty"):
        marks.append("it comes from a dirty tree: the commit alone does not make it again.")
    if row.get("split", "test") == "dev":
        marks.append("it is scored on dev, where it was also chosen.")
    return marks


def _known_commits(commits: Sequence[str | None], root: Path) -> dict[str, bool]:
    """Whether the checkout, or the repository that holds ``root``, has each commit; False where there is no git."""
    asked = sorted({commit for commit in commits if commit})
    known = dict.fromkeys(asked, False)
    for folder in (resources.PACKAGE.parent, Path(root)) if asked else ():
        command = ["git", "-C", str(folder), "cat-file", "--batch-check=%(objectname) %(objecttype)"]
        try:
            done = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            continue
        known |= {line.split()[0]: True for line in done.stdout.splitlines() if line.endswith(" commit")}
    return known


def _columns(good: Sequence[tuple[Row, Predictions]]) -> list[Finding]:
    """Rows of one column (benchmark, task and version) against the first of it: split, data, and labels by item."""
    findings: list[Finding] = []
    first: dict[tuple, tuple[Row, dict[int, Any]]] = {}
    for row, predictions in good:
        task, name = row["task"], row["run_id"]
        labels = predictions.labels_I.tolist()
        truth = dict(zip(predictions.items_I.tolist(), [_named(predictions, x) for x in labels], strict=True))
        other, truths = first.setdefault((row["benchmark"], task["name"], task["version"]), (row, {}))
        if differ := [key for key in ("data_sha256", "split_sha256") if task[key] != other["task"][key]]:
            text = f"{' and '.join(differ)} is not that of {other['run_id']}: the two must not be compared."
            findings.append(Finding(name, "mark", text))
        elif wrong := sum(truths.get(item, label) != label for item, label in truth.items()):
            findings.append(Finding(name, "fail", f"{wrong} items have other labels than in {other['run_id']}."))
        else:
            truths.update(truth)
    return findings


def _named(predictions: Predictions, label: float) -> str | float:
    return predictions.classes[int(label)] if predictions.classes else label


def _folder(root: Path) -> list[Finding]:
    findings = []
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    if (size := sum(path.stat().st_size for path in files)) > LARGEST:
        findings.append(
            Finding("", "warning", f"{root} has grown to {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f} MB.")
        )
    named = {(path.parent.name, path.stem) for path in row_files(root)}
    for path in sorted(files):
        place = path.relative_to(root)
        if path.name.endswith(UNFINISHED):
            findings.append(
                Finding("", "warning", f"{place} is unfinished and counts for nothing; the next row clears it.")
            )
        elif place.parts[0] == "predictions" and (path.parent.name, path.stem) not in named:
            findings.append(Finding("", "warning", f"{place} belongs to no row and counts for nothing: remove it."))
    return findings
