"""How each task stands to people on it, arm by arm, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssl_suite.leaderboard import figures
from ssl_suite.leaderboard.table import Line, Section, Total

STEP, LEFT, TOP, RIGHT, BOTTOM, HEIGHT, APART = 76.0, 40.0, 10.0, 110.0, 78.0, 330.0, 14.0


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


def drawn(section: Section, total: Total) -> Relative | None:
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

    titles = {column.task["name"].partition("@")[0]: column.task["title"] for column in section.columns}
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
