"""Scores over the columns of a section, and how each task stands to people on it, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ssl_suite.evaluation.benchmark import Aggregate, Benchmark
from ssl_suite.leaderboard import figures
from ssl_suite.leaderboard.aggregates import AGGREGATES, PER_TASK
from ssl_suite.leaderboard.table import Column, Line, Section, metrics_of

STEP, LEFT, TOP, RIGHT, BOTTOM, HEIGHT, APART = 76.0, 40.0, 10.0, 110.0, 78.0, 330.0, 14.0


class Total(NamedTuple):
    """A score over columns: by line its value and, where its kind has them, the shares of the tasks by their base."""

    name: str
    by_line: dict[Line, float]
    asked: Aggregate
    shares: dict[Line, dict[str, float]]


def of_section(section: Section, found: Benchmark) -> list[Total]:
    """The benchmark's scores over columns, of the lines that were measured in all of them."""
    made: list[Total] = []
    for asked in found.aggregates:
        names = {asked.name: Total(asked.name, {}, asked, {})}
        for line in section.lines:
            chosen = _columns(section, line, found, asked)
            if chosen is None:
                continue
            pure = not asked.split or all(_parts(column)[1] == asked.split for column in chosen.values())
            name = asked.name if pure else asked.otherwise
            total = names.setdefault(name, Total(name, {}, asked, {}))
            rows = {base: metrics_of(section.cells[line, column].row) for base, column in chosen.items()}
            scores = {base: {key: metric["value"] for key, metric in found.items()} for base, found in rows.items()}
            total.by_line[line] = AGGREGATES[asked.kind](scores, **asked.settings)
            if asked.kind in PER_TASK:
                total.shares[line] = PER_TASK[asked.kind](scores, **asked.settings)
        made += names.values()
    return made


def _parts(column: Column) -> tuple[str, str]:
    base, _, split = column.task["name"].partition("@")
    return base, split


def _columns(section: Section, line: Line, found: Benchmark, asked: Aggregate) -> dict[str, Column] | None:
    """By base the column that enters: the benchmark's, or before it that of the aggregate's split; None without all."""
    words = [word.rpartition("/")[2] for word in found.tasks]
    wanted = {word.rpartition("/")[2].partition("@")[0] for word in asked.tasks or words}
    chosen: dict[str, Column] = {}
    for column in section.columns:
        base, split = _parts(column)
        official = bool(asked.split) and split == asked.split
        its_own = column.task["name"] in words or base in words
        if base in wanted and (line, column) in section.cells and (official or (its_own and base not in chosen)):
            chosen[base] = column
    return chosen if set(chosen) == wanted else None


@dataclass(frozen=True)
class Curve:
    """One task over the arms: ``points`` as SVG writes them, ``hue`` in degrees, ``end`` of its name."""

    title: str
    points: str
    hue: int
    end: float


@dataclass(frozen=True)
class Relative:
    """A line a task over arms, each score as a share of that of people; ``mean`` is the aggregate's."""

    curves: tuple[Curve, ...]
    mean: str
    arms: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    one: float
    right: float
    width: float
    description: str
    height: float = HEIGHT
    left: float = LEFT
    bottom: float = HEIGHT - BOTTOM


def relative(section: Section, total: Total) -> Relative | None:
    """The picture; None where fewer than two lines have a score."""
    lines = [line for line in section.lines if line in total.shares]
    if len(lines) < 2:
        return None
    values = [share for line in lines for share in total.shares[line].values()]
    low, high = min(0.0, *values), max(1.1, *values)
    right = LEFT + STEP * len(lines)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    def points(shares: Mapping[Line, float]) -> str:
        return " ".join(f"{LEFT + STEP * (k + 0.5):.1f},{y(shares[line])}" for k, line in enumerate(lines))

    titles = {_parts(column)[0]: column.task["title"] for column in section.columns}
    tasks = sorted(total.shares[lines[0]], key=lambda task: -total.shares[lines[-1]][task])
    curves, before = [], TOP - APART
    for k, task in enumerate(tasks):
        shares = {line: total.shares[line][task] for line in lines}
        before = max(y(shares[lines[-1]]), before + APART)
        curves.append(Curve(titles[task], points(shares), round(360 * k / len(tasks)), before))
    said = "; ".join(f"{line.label} {total.by_line[line]:.2f}" for line in lines)
    return Relative(
        tuple(curves),
        points(total.by_line),
        tuple((LEFT + STEP * (k + 0.5), line.label) for k, line in enumerate(lines)),
        tuple((y(value), f"{value:g}") for value in figures.ticks(low, high, 7)),
        y(1.0),
        right,
        right + RIGHT,
        f"scores as shares of those of people, in all {said}",
    )
