"""How each task stands to people on it, arm by arm, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ssl_suite.leaderboard import figures
from ssl_suite.leaderboard.table import Line, Section, Total

PLOT, HEIGHT, LEFT, TOP, RIGHT, APART = 600.0, 260.0, 40.0, 10.0, 110.0, 14.0  # pixels
LETTER = 7.0  # of an arm's name, which is written at an angle


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
    height: float
    left: float
    bottom: float = TOP + HEIGHT


def drawn(section: Section, total: Total) -> Relative | None:
    """The picture; None where fewer than two lines have a score."""
    lines = [line for line in section.lines if line in total.shares]
    if len(lines) < 2:
        return None
    values = [share for line in lines for share in total.shares[line].values()]
    low, high = min(0.0, *values), max(1.1, *values)
    step, names = PLOT / len(lines), [len(line.label) for line in lines]
    left = max(LEFT, LETTER * names[0] - step / 2)
    places = [round(left + step * (k + 0.5), 1) for k in range(len(lines))]

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (high - value) / (high - low), 1)

    def points(shares: Mapping[Line, float]) -> str:
        return " ".join(f"{x},{y(shares[line])}" for x, line in zip(places, lines, strict=True))

    tasks = sorted(total.shares[lines[0]], key=lambda task: -total.shares[lines[-1]][task])
    curves, before = [], TOP - APART
    for k, task in enumerate(tasks):
        shares = {line: total.shares[line][task] for line in lines}
        before = max(y(shares[lines[-1]]), before + APART)
        curves.append(Curve(task, points(shares), round(360 * k / len(tasks)), before))
    said = "; ".join(f"{line.label} {total.by_line[line]:.2f}" for line in lines)
    return Relative(
        tuple(curves),
        points(total.by_line),
        tuple(zip(places, (line.label for line in lines), strict=True)),
        tuple((y(value), f"{value:g}") for value in figures.ticks(low, high, 7)),
        y(1.0),
        left + PLOT,
        left + PLOT + RIGHT,
        f"scores as shares of those of people, in all {said}",
        TOP + HEIGHT + 24 + 0.6 * LETTER * max(names),
        left,
    )
