"""Recompute every number of the leaderboard from the stored predictions, and say what does not hold.

What is proved: the numbers follow from the predictions, the predictions and the configuration are those the row was
written with, rows of one column agree, and no row was changed or taken out since it came into the manifest. What is
not: that the predictions are those of the encoder that the row names. Measuring it again shows that.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_suite.core import resources
from ssl_suite.core.atomic import UNFINISHED
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count
from ssl_suite.evaluation import budget as budgets
from ssl_suite.evaluation import rows
from ssl_suite.evaluation.predictions import Predictions
from ssl_suite.evaluation.rows import Row, read, read_predictions, row_files
from ssl_suite.evaluation.significance import score
from ssl_suite.leaderboard import plans

CLOSE = 1e-9  # of a stored number to the recomputed one, relative above 1: it is the rounding of another machine
LARGEST = 10 * 10**6  # bytes of the whole folder, before it weighs on everybody who clones the repository
SKEW = timedelta(hours=1)  # of two machines' clocks
TRAINED = ("finetune", "scratch", "probe")
EARLIER = "it was measured with an earlier version of the heads, and shares no column with newer rows."
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

    A row fails when its file is no row or not the one that the manifest names, its predictions are not those it was
    written with, a count, value, value of a seed, deviation or interval is not what follows from them, its name,
    configuration, protocol and budget contradict each other, it keeps silent about a departure from its benchmark's
    plan, or its data differ from those of its column. It is marked when it comes from a commit that git does not know,
    from a dirty tree, from the dev split or from an earlier version of the head, or is not in the manifest.

    Raises SuiteError: no row is of this benchmark.
    """
    findings: list[Finding] = []
    good: list[tuple[Row, Predictions]] = []
    sound: list[Row] = []
    for path in row_files(root, benchmark):
        try:
            row = read(path)
            sound.append(row)
            predictions = read_predictions(root, row)
            further = [(part, read_predictions(root, row, part["predictions"])) for part in row.get("further", ())]
        except SuiteError as error:
            findings.append(Finding(path.stem, "fail", str(error).removeprefix(f"row {path.stem}: ")))
            continue
        faults = origin(row) + check(row, predictions)
        for part, made in further:
            same = (part["n"], row["seeds"]) == (len(made.items_I), list(made.by_seed))
            found = _scores(part["metrics"], made) if same else ["its items or seeds are not those of its predictions."]
            faults += [f"{part['part']}: {fault}" for fault in found]
        findings += [Finding(row["run_id"], "fail", fault) for fault in faults]
        if not faults:
            good.append((row, predictions))
    for row in sound:
        findings += [Finding(row["run_id"], level, text) for level, text in plans.departures(row, root)]
    known = _known_commits([row.get("git_commit") for row in sound], root)
    findings += [Finding(row["run_id"], "mark", text) for row in sound for text in _marks(row, known)]
    return findings + _columns(good) + _manifest(root, benchmark) + _folder(root)


def failing(findings: Sequence[Finding]) -> list[str]:
    """The names of the rows that fail, each once, in order."""
    return list(dict.fromkeys(finding.row for finding in findings if finding.level == "fail"))


def check(row: Mapping[str, Any], predictions: Predictions) -> list[str]:
    """What in a valid row does not follow from its predictions; empty when all of it does."""
    faults = _counts(row, predictions)
    if faults:  # the numbers would differ for that reason
        return faults
    return _scores(row["metrics"], predictions)


def _scores(metrics: Sequence[Mapping[str, Any]], predictions: Predictions) -> list[str]:
    faults = []
    for said in metrics:
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


def origin(row: Mapping[str, Any]) -> list[str]:
    """What in a row contradicts its name, its configuration, its budget, or the clock."""
    faults, task, name, config = [], row["task"], row["run_id"], row.get("config")
    named = row["arm"], row["protocol"]["name"], row["budget"]["name"]
    wanted = rows.make_run_id(task["name"], *named, row["config_sha256"])
    if name != wanted:
        faults.append(f"its task, arm, protocol, budget and configuration make the name {wanted}.")
    parts = {"test": row, **{part["part"]: part for part in row.get("further", ())}}
    for part, block in parts.items():
        path = f"predictions/{row['benchmark']}/{name}{'' if part == 'test' else f'.{part}'}.parquet"
        if block["predictions"]["path"] != path:
            faults.append(f"its predictions of {part} should be its own, {path}.")
    if config is not None:
        if rows.config_digest(config) != row["config_sha256"]:
            faults.append("config_sha256 is not that of its config.")
        for key, said, used in _chosen(row, config):
            if said != used:
                faults.append(f"its config has {key} {said}, and the row says {used}.")
    for part, limit in _limits(row).items():
        used, full = task.get(f"n_{part}"), task.get(f"n_{part}_full")
        if limit and used is not None and (used > limit or (config is not None and used < min(limit, full))):
            faults.append(f"task.n_{part} is {used} of {full}, and the budget's limit is {limit}.")
    if datetime.fromisoformat(row["created"]) > datetime.now(UTC) + SKEW:
        faults.append(f"created is {row['created']}, which is in the future.")
    return faults


def _chosen(row: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(what, as the configuration has it, as the row says)."""
    task, head = config.get("task", {}), row["protocol"].get("head")
    found = [(key, config.get(key), row[key]) for key in ("arm", "benchmark")]
    found += [("task", task.get("name"), row["task"]["name"]), ("version", task.get("version"), row["task"]["version"])]
    found += [("protocol", config.get("protocol"), row["protocol"]["name"])]
    found += [("encoder", config.get("encoder"), row["encoder"].get("ref"))]
    if isinstance(head, dict):
        found.append(("head version", config.get("head_version"), head.get("version")))
    seeds = config.get("budget", {}).get("seeds", [])
    return [*found, ("seeds", seeds[: len(row["seeds"])], row["seeds"])]


def _limits(row: Mapping[str, Any]) -> Mapping[str, int | None]:
    """Items of each part that the budget allows: as the configuration has it, else of the budget of that name."""
    if row.get("config") is not None:
        return row["config"].get("budget", {}).get("limits") or {}
    try:
        return {} if row["budget"].get("overrides") else budgets.load(row["budget"]["name"]).limits
    except SuiteError:  # a budget of the user's own
        return {}


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
    if row["schema_version"] < 2 and row["protocol"]["name"] in TRAINED:
        marks.append(EARLIER)
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


COUNTS = (*(f"n_{part}_full" for part in ("train", "dev", "test")), "n_skipped", "n_classes", "leakage", "modality")


def _columns(good: Sequence[tuple[Row, Predictions]]) -> list[Finding]:
    """Rows of one column (benchmark, task and version) against the first of it: split, data, counts, labels by item."""
    findings: list[Finding] = []
    first: dict[tuple, tuple[Row, dict[int, Any]]] = {}
    for row, predictions in good:
        task, name = row["task"], row["run_id"]
        labels = [_named(predictions, label) for label in predictions.labels_I.tolist()]
        truth = dict(zip(predictions.items_I.tolist(), labels, strict=True))
        other, truths = first.setdefault((row["benchmark"], task["name"], task["version"]), (row, {}))
        if differ := [key for key in ("data_sha256", "split_sha256") if task[key] != other["task"][key]]:
            text = f"{' and '.join(differ)} is not that of {other['run_id']}: the two must not be compared."
            findings.append(Finding(name, "mark", text))
        elif differ := [key for key in COUNTS if task.get(key) != other["task"].get(key)]:
            text = f"{', '.join(differ)} of its task differ from those of {other['run_id']}, on the same data."
            findings.append(Finding(name, "fail", text))
        elif wrong := sum(truths.get(item, label) != label for item, label in truth.items()):
            findings.append(Finding(name, "fail", f"{wrong} items have other labels than in {other['run_id']}."))
        else:
            truths.update(truth)
    return findings


def _named(predictions: Predictions, label: Any) -> Any:
    if predictions.kind == "classes":
        return predictions.classes[int(label)]
    return label.tolist() if isinstance(label, np.ndarray) else label


def _manifest(root: Path, benchmark: str | None) -> list[Finding]:
    """Rows that were taken out or changed since they came into the manifest, and those that never did."""
    inside = f"rows/{benchmark}/" if benchmark else "rows/"
    files = {path.relative_to(root).as_posix(): path for path in row_files(root, benchmark)}
    try:
        entries = [entry for entry in rows.read_manifest(root) if entry["row"].startswith(inside)]
    except SuiteError as error:
        return [Finding(rows.MANIFEST, "fail", str(error))]
    findings = []
    for entry in entries:
        path = files.pop(entry["row"], None)
        if path is None:
            findings.append(Finding(Path(entry["row"]).stem, "fail", f"{entry['row']} was taken out: restore it."))
        elif rows.entry(root, path, path.read_bytes()) != entry:
            findings.append(Finding(path.stem, "fail", "it was changed after it was added: restore it from git."))
    text = "it is not in the manifest: it was not added by `ssl_suite bench`, or the manifest's last lines are gone."
    return findings + [Finding(path.stem, "mark", text) for path in files.values()]


def _folder(root: Path) -> list[Finding]:
    findings = []
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    if (size := sum(path.stat().st_size for path in files)) > LARGEST:
        findings.append(
            Finding("", "warning", f"{root} has grown to {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f} MB.")
        )
    named = {f"predictions/{path.parent.name}/{path.stem}.parquet" for path in row_files(root)}
    for path in row_files(root):
        with contextlib.suppress(SuiteError, KeyError, TypeError):  # a damaged row is found elsewhere
            named |= {part["predictions"]["path"] for part in read(path).get("further") or ()}
    for path in sorted(files):
        place = path.relative_to(root)
        if path.name.endswith(UNFINISHED):
            findings.append(
                Finding("", "warning", f"{place} is unfinished and counts for nothing; the next row clears it.")
            )
        elif place.parts[0] == "predictions" and place.as_posix() not in named:
            findings.append(Finding("", "warning", f"{place} belongs to no row and counts for nothing: remove it."))
    return findings
