"""Forest plots: the main contrast task by task, and each arm's score in a task, with 95 % intervals.

Geometry for the SVG that the page's template writes, and one PNG. Both give the same output for the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_suite.core import atomic
from ssl_suite.evaluation.benchmark import Benchmark
from ssl_suite.leaderboard import words
from ssl_suite.leaderboard.published import References
from ssl_suite.leaderboard.table import Column, Contrast, Section

COLOURS = {"pretrained": "#0060a8", "random": "#b85400", "specific": "#00765a", "control": "#5f6670"}
# Okabe & Ito (2008), darkened to 3:1 on white.
INK, SOFT, FAINT = "#1c2330", "#4d5666", "#d5d9e0"
FAR = 0.35  # of the others' range: a control further below is named at the edge instead of drawn
LETTER, PLOT, ROW, TOP, BOTTOM, RIGHT = 7.4, 330.0, 26.0, 4.0, 24.0, 12.0  # of an SVG, in its own pixels
DPI = 150


@dataclass(frozen=True)
class Bar:
    """One line of a plot. Positions in pixels, None where nothing is drawn; ``note`` says why there is no bar."""

    label: str
    role: str
    y: float
    low: float | None = None
    high: float | None = None
    middle: float | None = None
    published: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Forest:
    """``ticks``: (position, text). ``description``: the plot in words. ``zero``: of a dashed line, if there is one."""

    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    description: str
    width: float
    left: float
    zero: float | None = None


@dataclass(frozen=True)
class Entry:
    """What a line of a plot shows, in points; ``low`` None: nothing, for the reason in ``note``."""

    label: str
    role: str
    low: float | None = None
    high: float | None = None
    middle: float | None = None
    published: float | None = None
    note: str = ""
    weak: bool = False


def role(found: Benchmark, arm: str) -> str:
    """What an arm stands for, which gives its colour."""
    return found.arms[arm].role if arm in found.arms else "pretrained"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between the two, at most ``most``, at least two."""
    span = max(high - low, 1e-9)
    for step in (s * 10.0**power for power in range(-6, 12) for s in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most and step >= span / most:
            return [round(k * step, 9) for k in range(first, last + 1)] or [round(low, 3), round(high, 3)]
    return [low, high]


def reach(entries: Sequence[Entry], zero: float | None) -> tuple[float, float]:
    """The scale: intervals, published numbers and a margin. A control far below all else would press them together."""
    strong = [entry for entry in entries if entry.low is not None and not entry.weak]
    strong = strong or [entry for entry in entries if entry.low is not None]
    values = [bound for entry in strong for bound in (entry.low, entry.high) if bound is not None]
    values += [entry.high for entry in entries if entry.weak and entry.high is not None and entry.high > max(values)]
    values += [entry.published for entry in entries if entry.published is not None]
    values = values or [0.0, 100.0]
    low, high = min(values), max(values)
    for extra in [zero, *(entry.low for entry in entries if entry.weak)]:
        if extra is not None and extra > min(values) - FAR * (high - min(values)):
            low, high = min(low, extra), max(high, extra)
    margin = max(1.0, 0.06 * (high - low))
    return low - margin, high + margin


def forest(entries: Sequence[Entry], zero: float | None, signed: bool = False) -> Forest:
    """The geometry of one plot, a line an entry."""
    low, high = reach(entries, zero)
    left = round(max([90.0, *(LETTER * len(entry.label) + 14 for entry in entries)]), 1)

    def x(value: float | None) -> float | None:
        return None if value is None else round(left + (value - low) / (high - low) * (PLOT - RIGHT), 1)

    bars, told = [], []
    for k, entry in enumerate(entries):
        far = entry.low is not None and entry.low < low
        note = f"◂ {_point(entry.middle if entry.middle is not None else entry.high)}" if far else entry.note
        shown = (None, None, None) if far else (x(entry.low), x(entry.high), x(entry.middle))
        bars.append(Bar(entry.label, entry.role, TOP + ROW * (k + 0.5), *shown, x(entry.published), note))
        if entry.low is not None:
            mean = "" if entry.middle is None else f"{_point(entry.middle, signed)}, "
            told.append(f"{entry.label} {mean}{_point(entry.low, signed)} to {_point(entry.high, signed)}")
    marks = tuple((x(value) or 0.0, f"{value:g}".replace("-", words.MINUS)) for value in ticks(low, high))
    inside = zero is not None and low <= zero <= high
    height = TOP + ROW * len(bars) + BOTTOM
    return Forest(
        height, tuple(bars), marks, "; ".join(told) or "nothing", left + PLOT, left, x(zero) if inside else None
    )


def _point(value: float | None, sign: bool = False) -> str:
    return "" if value is None else words.points(value / 100, sign)


def of_contrast(found: Sequence[Contrast], board: Benchmark) -> list[Entry]:
    """A line a task: by how many points the first arm is above the second."""
    return [
        Entry(
            each.column.task["title"],
            role(board, each.first.arm),
            100 * each.low,
            100 * each.high,
            None if each.column.small else 100 * each.gain,
            each.published,
        )
        for each in found
    ]


def of_column(section: Section, column: Column, found: Benchmark, refs: References) -> tuple[list[Entry], float | None]:
    """A line an arm, and the score of the majority."""
    entries, floor, before = [], None, set()
    for line in section.lines:
        cell = section.cells.get((line, column))
        published = None if line.arm in before else refs.points.get((line.arm, column.reference))
        before.add(line.arm)
        kind = role(found, line.arm)
        if cell is None:
            entries.append(Entry(line.label, kind, published=published, note=words.missing(line, column)))
            continue
        if cell.row["protocol"]["name"] == "majority":
            floor = 100 * cell.value
        middle = None if column.small else 100 * cell.value
        bounds = 100 * cell.low, 100 * cell.high
        entries.append(Entry(line.label, kind, *bounds, middle, published, weak=kind == "control"))
    return entries, floor


def picture(found: Sequence[Contrast], board: Benchmark, budget: str, path: Path) -> None:
    """Draw the main contrast into one PNG (written beside, then renamed); without one a line that says so."""
    # The object interface: pyplot would keep global state and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.36 * max(1, len(found))), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    entries = of_contrast(found, board)
    for k, entry in enumerate(entries):
        colour = COLOURS[entry.role]
        thick = 6 if entry.middle is None else 2
        axes.plot([entry.low, entry.high], [k, k], color=colour, linewidth=thick, solid_capstyle="butt")  # type: ignore[arg-type]
        if entry.middle is not None:
            axes.plot([entry.middle], [k], "o", color=colour, markersize=7)
        if entry.published is not None:
            axes.plot([entry.published], [k + 0.3], "D", markersize=6, markerfacecolor="white", markeredgecolor=INK)
    low, high = reach(entries, 0.0)
    axes.set_xlim(low, high)
    axes.axvline(0, color=SOFT, linestyle="--", linewidth=1)
    axes.set_ylim(max(1, len(entries)) - 0.4, -0.6)
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries])
    axes.tick_params(length=0, labelsize=10, colors=INK)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    pair = f"{found[0].first.label} {words.MINUS} {found[0].second.arm}, points" if found else "no contrast measured"
    marks = ", diamonds: published" if any(entry.published is not None for entry in entries) else ""
    axes.set_xlabel(f"{pair}, 95 % intervals over items and seeds; budget {budget}{marks}", fontsize=9, color=SOFT)
    figure.suptitle(board.title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    with atomic.replacing(path) as unfinished:
        # Without metadata the same numbers give the same bytes (matplotlib would add its version).
        figure.savefig(unfinished, format="png", metadata={"Software": None})
