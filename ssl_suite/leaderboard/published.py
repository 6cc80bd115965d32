"""Numbers that others have published, to stand beside ours: ``leaderboards/references/BENCHMARK_*.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ssl_suite.core import resources


class Published(NamedTuple):
    """A number of another paper, in points (x 100), with where it comes from."""

    task: str
    model: str
    metric: str
    points: float
    data: str
    citation: str
    status: str


@dataclass
class References:
    """Published numbers of a benchmark.

    Attributes:
        lecture: (our arm, task) -> (points, the arm's name there).
        order: the tasks of the lecture's table, in its order.
        data: task -> (our tasks on the same data, what the published number was measured on).
        others: further published numbers, on other data.
    """

    lecture: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    data: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    others: list[Published] = field(default_factory=list)
    source: str = ""

    def likeness(self, task: Mapping[str, Any]) -> str:
        """How a row's data are to those of the number published for its task, in words."""
        names, _ = self.data.get(task.get("reference") or "", ((), ""))
        if task["name"] not in names:
            return "other data"
        whole = all(task[f"n_{part}"] == task[f"n_{part}_full"] for part in ("train", "test"))
        return "same split" if whole else "same split, in part"


def references(root: Path, benchmark: str) -> References:
    """The files ``references/BENCHMARK_*.csv`` of ``root``, else those that travel with the package."""
    found = References()

    def read(kind: str) -> list[dict[str, str]]:
        for folder in (Path(root), resources.folder("leaderboards")):
            path = folder / "references" / f"{benchmark}_{kind}.csv"
            if path.is_file():
                with path.open(newline="", encoding="utf-8") as file:
                    return list(csv.DictReader(file))
        return []

    for entry in read("lecture_table"):
        found.lecture[entry["beside"], entry["task"]] = float(entry["value_x100"]), entry["arm"]
        found.source = entry["source"]
        if entry["task"] not in found.order:
            found.order.append(entry["task"])
    for entry in read("lecture_data"):
        found.data[entry["task"]] = tuple(entry["same_data"].split()), entry["lecture_data"]
    for entry in read("published"):
        points = float(entry.pop("value_x100"))
        found.others.append(Published(points=points, **entry))
    return found
