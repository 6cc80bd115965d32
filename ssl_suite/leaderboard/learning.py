"""Loss over steps of the arms that a benchmark contrasts, as inline SVG: who learns faster.

Positions in pixels of a plot of ``WIDTH`` x ``HEIGHT``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_suite.analysis import curves
from ssl_suite.evaluation.benchmark import Benchmark
from ssl_suite.leaderboard import figures
from ssl_suite.leaderboard.table import Column, Section

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 380.0, 220.0, 44.0, 8.0, 64.0, 36.0


@dataclass(frozen=True)
class Drawn:
    """One arm: ``line`` is the mean over seeds, ``band`` from the lowest to the highest; points as SVG writes them."""

    arm: str
    role: str
    line: str
    band: str
    end: float


@dataclass(frozen=True)
class Panel:
    """``ticks_x``, ``ticks_y``: (position, text). ``description``: the plot in words, for those who cannot see it."""

    arms: tuple[Drawn, ...]
    ticks_x: tuple[tuple[float, str], ...]
    ticks_y: tuple[tuple[float, str], ...]
    description: str
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM


def arms_of(found: Benchmark) -> list[str]:
    """The arms of the main contrast, and those that are contrasted with either of them."""
    main = next((pair for pair in found.contrasts if pair.main), None)
    pairs = [pair for pair in found.contrasts if main and {pair.a, pair.b} & {main.a, main.b}]
    return [arm for arm in found.arms if any(arm in (pair.a, pair.b) for pair in pairs)]


def panel(section: Section, column: Column, benchmark: Benchmark) -> Panel | None:
    """The plot of one column; None where fewer than two of the arms were measured."""
    arms = arms_of(benchmark)
    measured: dict[str, Mapping[str, Any]] = {}
    for (line, where), cell in section.cells.items():
        if where is column and line.arm in arms and cell.row.get("curves"):
            measured.setdefault(line.arm, cell.row)
    if len(measured) < 2:
        return None
    found = curves.of_rows(list(measured.values()), column.task["name"])
    found = sorted(found, key=lambda curve: arms.index(curve.arm))
    longest = max(int(curve.steps_P[-1]) for curve in found)
    high = max(float(np.quantile(curve.losses_SP, 0.99)) for curve in found)  # a first step may tower above the rest
    low = min(0.0, *(float(curve.losses_SP.min()) for curve in found))

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / longest, 1)

    def y(loss: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - min(loss, high)) / max(high - low, 1e-9), 1)

    drawn = []
    for curve in found:
        steps, mean_P = curve.steps_P.tolist(), curve.losses_SP.mean(0)
        upper = [f"{x(s)},{y(v)}" for s, v in zip(steps, curve.losses_SP.max(0), strict=True)]
        lower = [f"{x(s)},{y(v)}" for s, v in zip(steps, curve.losses_SP.min(0), strict=True)]
        middle = " ".join(f"{x(s)},{y(v)}" for s, v in zip(steps, mean_P, strict=True))
        band, kind = " ".join([*upper, *lower[::-1]]), figures.role(benchmark, curve.arm)
        drawn.append(Drawn(curve.arm, kind, middle, band, y(mean_P[-5:].mean())))
    said = ", ".join(f"{curve.arm} ends at {curve.end:.3g}" for curve in found)
    return Panel(
        tuple(separate_labels(drawn)),
        tuple((x(value), f"{value:,.0f}") for value in figures.ticks(0, longest, 5)),
        tuple((y(value), f"{value:g}") for value in figures.ticks(low, high, 5)),
        f"training loss over {longest:,} steps, {said}",
    )


def separate_labels(drawn: list[Drawn], apart: float = 14.0) -> list[Drawn]:
    """The same with names at least ``apart`` pixels from each other, in the order in which the curves end."""
    placed: list[Drawn] = []
    for one in sorted(drawn, key=lambda one: one.end):
        least = placed[-1].end + apart if placed else TOP + 4
        placed.append(Drawn(one.arm, one.role, one.line, one.band, max(one.end, least)))
    over = placed[-1].end - (HEIGHT - BOTTOM)
    return placed if over <= 0 else [Drawn(o.arm, o.role, o.line, o.band, o.end - over) for o in placed]
