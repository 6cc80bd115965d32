"""Predictions of items whose labels are not public, in the form that GLUE's site takes: ``submission=true``.

Of each arm a folder ``OUT/submission/ARM`` with a TSV a test set (columns ``index`` and ``prediction``), and
``OUT/submission/ARM.zip``. The system is the model of the first seed: no vote of several.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import rows
from ssl_suite.evaluation.protocols import Measurement
from ssl_suite.evaluation.tasks import Task

STAMP = (1980, 1, 1, 0, 0, 0)  # of a zip's members: the same predictions give the same bytes


def folder(out: Path, arm: str) -> Path:
    """Where the files of an arm are."""
    return out / "submission" / rows.slug(arm)


def write(task: Task, found: Measurement, place: Path) -> None:
    """Write a file for each part of a task that has no labels, as far as it is here."""
    for name in task.blind:
        if name not in found.data.parts:
            continue
        part = found.data.parts[name]
        answers_I = np.asarray(next(iter(found.predictions[name].values())))
        if found.data.classes:
            answers = [found.data.classes[answer] for answer in answers_I]
        else:  # a value outside of those that were taught is none that the site knows
            labels_I = found.data.parts["train"].labels_I
            answers = [f"{value:.3f}" for value in answers_I.clip(labels_I.min(), labels_I.max())]
        text = io.StringIO()
        table = csv.writer(text, delimiter="\t", lineterminator="\n")
        table.writerows([("index", "prediction"), *zip(part.rows_I.tolist(), answers, strict=True)])
        atomic.write(place / f"{name}.tsv", text.getvalue())


def check(task: Task, place: Path, row: Path) -> None:
    """Refuse a task that has a row, but no file for its items without labels. Raises SuiteError: that is so: its trials
    are gone."""
    if task.blind and not any((place / f"{name}.tsv").is_file() for name in task.blind):
        raise SuiteError(
            f"task {task.name}: {row.name} was measured without the items that have no labels, and its trials are "
            "gone; give submission=true an out= and a root= of its own."
        )


def pack(tasks: Sequence[Task], place: Path) -> tuple[Path, list[str]]:
    """The zip of an arm's files, and the names of those that it lacks."""
    names = [f"{name}.tsv" for task in tasks for name in task.blind]
    there = [name for name in names if (place / name).is_file()]
    path = place.with_name(f"{place.name}.zip")
    with atomic.replacing(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in there:
            packed.writestr(zipfile.ZipInfo(name, STAMP), (place / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return path, [name for name in names if name not in there]
