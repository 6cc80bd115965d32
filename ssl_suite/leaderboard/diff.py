"""Two rows of one task: do they differ, by how much, and how sure is that. Shapes: I items, S seeds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError, nearest
from ssl_suite.evaluation.predictions import Predictions
from ssl_suite.evaluation.rows import FEWEST, Row, benchmarks, default_root, read, read_predictions, row_files

SAME = ("name", "version", "data_sha256", "split_sha256")  # of the tasks of two rows that may be compared
SHOWN = 5  # names in the error of a prefix that several rows share


@dataclass(frozen=True)
class SeedTest:
    """Exact McNemar of one seed: items that only A, only B gets right, and the two-sided p."""

    seed: int
    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """A minus B.

    Attributes:
        task: name, split included.
        value_a, value_b: means over seeds.
        difference: their difference, with its 95 % interval ``low`` to ``high`` and ``p`` of the paired bootstrap, in
            which items are resampled and each side's seeds too.
        n: items of the test set.
        mcnemar: for accuracy, one test a seed that both have.
        notes: in what else than the arm the two differ, a line each.
    """

    a: str
    b: str
    task: str
    metric: str
    higher_is_better: bool
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    seeds_a: tuple[int, ...]
    seeds_b: tuple[int, ...]
    mcnemar: tuple[SeedTest, ...]
    notes: tuple[str, ...]


def find(root: Path, word: str) -> tuple[Path, Row]:
    """The row that ``word`` means: a run_id, the beginning of only one, or the path of a row's file. Returns the
    leaderboards folder that it lies in, and the row. Raises SuiteError: no row or several, or one that is not valid."""
    path = Path(word).expanduser()
    if path.suffix == ".json" and (path.is_file() or "/" in word):
        path = path.absolute()
        if path.parent.parent.name != "rows":
            raise SuiteError(f"{word}: a row lies in rows/BENCHMARK/ of a leaderboards folder, its predictions beside.")
        return path.parents[2], read(path)
    files = row_files(root)
    found = [file for file in files if file.stem == word] or [file for file in files if file.stem.startswith(word)]
    if len(found) == 1:
        return Path(root), read(found[0])
    if found:
        names = [f"{file.parent.name}/{file.stem}" for file in found]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise SuiteError(f"'{word}' begins {len(names)} rows: {', '.join(names[:SHOWN])}{more}. Write more of it.")
    if not files:
        raise SuiteError(f"There is no row '{word}': {root} has no rows.")
    # A prefix with a typo is far from whole names in length: it is held against their beginnings too.
    starts = {start: file.stem for file in reversed(files) for start in (file.stem[: len(word)], file.stem)}
    close = difflib.get_close_matches(word, starts, n=1)
    hint = f"Did you mean '{starts[close[0]]}'?" if close else "`ssl_suite board show --json` lists them"
    raise SuiteError(f"There is no row '{word}'. {hint}" + ("" if close else f" ({', '.join(benchmarks(root))})."))


def compare(
    row_a: Mapping[str, Any],
    row_b: Mapping[str, Any],
    root: Path | None = None,
    root_b: Path | None = None,
    metric: str | None = None,
) -> Comparison:
    """Compare two rows on the same items.

    Args:
        root: the leaderboards folder of ``row_a``; default: the checkout's own.
        root_b: that of ``row_b``, where it is another.
        metric: one that both rows have; default: the first of ``row_a``, which is the main one.

    Raises SuiteError: the rows are not of the same task, version, data, split and items; one of them lacks the metric;
    or predictions are not those of the row.
    """
    from ssl_suite.evaluation.significance import mcnemar, paired_bootstrap

    for key in SAME:
        of_a, of_b = row_a["task"][key], row_b["task"][key]
        if of_a != of_b:
            names = f"{row_a['run_id']} and {row_b['run_id']}"
            raise SuiteError(f"{names} cannot be compared: their task's {key} differs ({of_a} and {of_b}).")
    metric, said = metric or row_a["metrics"][0]["name"], []
    for row in (row_a, row_b):
        of_row = {each["name"]: each for each in row["metrics"]}
        if metric not in of_row:
            raise SuiteError(f"row {row['run_id']} has no metric '{metric}'.{nearest(metric, of_row)}")
        said.append(of_row[metric])
    root = root or default_root()
    a, b = (read_predictions(*where).by_item() for where in ((root, row_a), (root_b or root, row_b)))
    _same_items(row_a, row_b, a, b)
    shared = [seed for seed in a.by_seed if seed in b.by_seed and metric == "accuracy"]
    result = paired_bootstrap(metric, a.labels_I, a.stacked(), b.stacked(), clusters_I=a.clusters_I)
    return Comparison(
        a=row_a["run_id"],
        b=row_b["run_id"],
        task=row_a["task"]["name"],
        metric=metric,
        higher_is_better=said[0]["higher_is_better"],
        value_a=said[0]["value"],
        value_b=said[1]["value"],
        difference=result.difference,
        low=result.low,
        high=result.high,
        p=result.p,
        n=len(a.items_I),
        seeds_a=tuple(a.by_seed),
        seeds_b=tuple(b.by_seed),
        mcnemar=tuple(SeedTest(seed, *mcnemar(a.labels_I, a.by_seed[seed], b.by_seed[seed])) for seed in shared),
        notes=tuple(_notes(row_a, row_b)),
    )


def _same_items(row_a: Mapping[str, Any], row_b: Mapping[str, Any], a: Predictions, b: Predictions) -> None:
    """Both in the order of their items."""
    names = f"{row_a['run_id']} and {row_b['run_id']} cannot be compared:"
    if not np.array_equal(a.items_I, b.items_I):
        shared = len(np.intersect1d(a.items_I, b.items_I))
        counts = f"{len(a.items_I)} and {len(b.items_I)}, {shared} of them shared"
        raise SuiteError(f"{names} they were scored on different test items ({counts}). Use the same limit for both.")
    if a.classes != b.classes:
        raise SuiteError(f"{names} their classes differ ({len(a.classes)} and {len(b.classes)}, or other names).")
    # One by one: a label may be a list of its own.
    if wrong := sum(not np.array_equal(*both) for both in zip(a.labels_I, b.labels_I, strict=True)):
        raise SuiteError(f"{names} {wrong} test items have other labels in the one than in the other.")


def _notes(row_a: Mapping[str, Any], row_b: Mapping[str, Any]) -> list[str]:
    notes = []
    for group, key, words in (
        ("budget", "trials", "trials of the learning rate and the like"),
        ("budget", "steps", "training steps"),
        ("task", "n_train", "training items"),
        ("protocol", "name", "protocols"),
    ):
        of_a, of_b = row_a[group].get(key), row_b[group].get(key)
        if of_a != of_b:
            notes.append(f"different {words}: {of_a} and {of_b}.")
    few = row_a["task"]["n_test"]
    if few < FEWEST:
        notes.append(f"{few} test items are few: look at the interval, not at the difference.")
    for row in (row_a, row_b):
        if row.get("git_dirty"):
            notes.append(f"{row['run_id']} comes from a dirty tree.")
        if len(row["seeds"]) == 1:
            notes.append(f"{row['run_id']} has one seed: how much its seeds vary is not in the interval.")
    return notes
