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
        points: (our arm, task) -> points.
        named: (the arm's name there, task) -> points.
        data: task -> (our tasks on the same data, what the published number was measured on).
        others: further published numbers, on other data.
    """

    points: dict[tuple[str, str], float] = field(default_factory=dict)
    named: dict[tuple[str, str], float] = field(default_factory=dict)
    data: dict[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    others: list[Published] = field(default_factory=list)
    source: str = ""

    def difference(self, arms: list[str] | None, task: str) -> float | None:
        """Points by which the first of two published arms is above the second on a task."""
        found = [self.named.get((arm.lower(), task)) for arm in arms or ()]
        return found[0] - found[1] if len(found) == 2 and None not in found else None  # type: ignore[operator]

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
        points = float(entry["value_x100"])
        found.points[entry["beside"], entry["task"]] = points
        found.named[entry["arm"].lower(), entry["task"]] = points
        found.source = entry["source"]
    for entry in read("lecture_data"):
        found.data[entry["task"]] = tuple(entry["same_data"].split()), entry["lecture_data"]
    for entry in read("published"):
        points = float(entry.pop("value_x100"))
        found.others.append(Published(points=points, **entry))
    return found
