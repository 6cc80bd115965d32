"""Forest plots: each arm's score with its 95 % interval, task by task, beside the published number.

``forest`` gives the geometry of one plot, which the page's template writes as SVG; ``picture`` draws all of them into
one PNG. Both give the same output for the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_suite.core import atomic
from ssl_suite.evaluation.rows import FEWEST
from ssl_suite.leaderboard import words
from ssl_suite.leaderboard.published import References
from ssl_suite.leaderboard.table import Cell, Column, Line, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Gap = Callable[[Line, Column], str]  # what an empty cell says

# What an arm is, for its colour; colours are those of Okabe & Ito (2008), darkened to 3:1 on white.
ROLES = {"BERT": "bert", "re-emb": "reemb", "rand": "rand"}
COLOURS = {"bert": "#0060a8", "reemb": "#8a4f9e", "rand": "#b85400", "specific": "#00765a", "control": "#5f6670"}
INK, SOFT, FAINT = "#1c2330", "#4d5666", "#d5d9e0"
WEAK = ("probe-random", "majority")  # controls that may lie far below everything else
FAR = 0.35  # of the others' range: a control further below is named at the edge instead of drawn
LABELS, LETTER, PLOT, ROW, TOP, BOTTOM, RIGHT = 132.0, 7.4, 288.0, 26.0, 4.0, 24.0, 12.0  # of an SVG, in its own pixels
DPI = 150


def role(arm: str) -> str:
    """The colour's name: each of the lecture's three arms its own, networks made for the domain one, controls grey."""
    return ROLES.get(arm) or ("specific" if arm.startswith("specific") else "control")


@dataclass(frozen=True)
class Bar:
    """One arm's line in a plot. Positions in pixels; None where there is nothing to draw.

    ``note``: why there is no bar, or where a control lies that is left of the scale.
    """

    label: str
    role: str
    y: float
    low: float | None = None
    high: float | None = None
    middle: float | None = None
    lecture: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Forest:
    """``ticks``: (position, text). ``told``: the plot in words, for those who cannot see it."""

    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    told: str
    width: float
    left: float


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between the two, at most ``most``, at least two."""
    span = max(high - low, 1e-9)
    for step in (s * 10.0**power for power in range(-6, 12) for s in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most and step >= span / most:
            return [round(k * step, 9) for k in range(first, last + 1)] or [round(low, 3), round(high, 3)]
    return [low, high]


def reach(table: Table, refs: References, column: Column) -> tuple[float, float]:
    """The scale of a plot, in points: intervals and published numbers, and a margin.

    A control that is far below all else is left out: it would press the others together.
    """
    found = {line: cell for (line, where), cell in table.cells.items() if where is column}
    values = [100 * bound for line, cell in found.items() if line.arm not in WEAK for bound in (cell.low, cell.high)]
    values += [points for (_, task), (points, _) in refs.lecture.items() if task == column.reference]
    values = values or [100 * bound for cell in found.values() for bound in (cell.low, cell.high)] or [0.0, 100.0]
    low, high = min(values), max(values)
    for line, cell in found.items():
        if line.arm in WEAK and 100 * cell.low > min(values) - FAR * (high - min(values)):
            low = min(low, 100 * cell.low)
    margin = max(1.0, 0.06 * (high - low))
    return low - margin, high + margin


def published(table: Table, refs: References, line: Line, column: Column) -> float | None:
    """Published points, once an arm: on the first of its variants."""
    if next(other for other in table.lines if other.arm == line.arm) != line:
        return None
    return refs.lecture.get((line.arm, column.reference), (None, ""))[0]


def _note(cell: Cell | None, column: Column, low: float, gap: str) -> str:
    """What stands in the place of a bar; "" where the bar is drawn."""
    if cell is None:
        return gap
    if 100 * cell.low >= low:
        return ""
    return "◂ " + (words.points(cell.value) if not column.small else words.span(cell.low, cell.high))


def forest(table: Table, refs: References, column: Column, gap: Gap) -> Forest:
    """The geometry of one column's plot; all plots of a table have the same lines."""
    low, high = reach(table, refs, column)
    left = round(max([LABELS, *(LETTER * len(line.label) + 14 for line in table.lines)]), 1)

    def x(points: float) -> float:
        return round(left + (points - low) / (high - low) * (PLOT - RIGHT), 1)

    bars, told = [], []
    for k, line in enumerate(table.lines):
        cell, lecture = table.cells.get((line, column)), published(table, refs, line, column)
        bar = Bar(line.label, role(line.arm), TOP + ROW * (k + 0.5), note=_note(cell, column, low, gap(line, column)))
        if lecture is not None:
            bar = replace(bar, lecture=x(lecture))
        if cell is not None:
            mean = "" if column.small else f"{words.points(cell.value)}, "
            told.append(f"{line.label} {mean}{words.span(cell.low, cell.high)}")
            if not bar.note:
                middle = None if column.small else x(100 * cell.value)
                bar = replace(bar, low=x(100 * cell.low), high=x(100 * cell.high), middle=middle)
        bars.append(bar)
    marks = tuple((x(value), f"{value:g}".replace("-", words.MINUS)) for value in ticks(low, high))
    height = TOP + ROW * len(bars) + BOTTOM
    return Forest(height, tuple(bars), marks, "; ".join(told) or "nothing measured", left + PLOT, left)


def picture(table: Table, refs: References, path: Path, gap: Gap, title: str, lecture: str) -> None:
    """Draw all columns into one PNG (written beside, then renamed).

    Args:
        gap: see ``words.missing``. title: the line on top. lecture: what the published numbers are called.
    """
    # The object interface: pyplot would keep global state and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = max(1, len(table.columns))
    across = min(4, count) if count != 5 else 3
    down = math.ceil(count / across)
    size = (3.0 * across + 1.4, (0.27 * max(1, len(table.lines)) + 1.0) * down + 0.8)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < len(table.columns):
            _panel(axes, table, refs, table.columns[place], gap, labelled=place % across == 0)
        else:
            axes.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    _key(figure, lecture if any(column.reference in refs.order for column in table.columns) else "")
    with atomic.replacing(path) as unfinished:
        # Without metadata the same numbers give the same bytes (matplotlib would add its version).
        figure.savefig(unfinished, format="png", metadata={"Software": None})


def _panel(axes: Axes, table: Table, refs: References, column: Column, gap: Gap, labelled: bool) -> None:
    """All panels of a picture have the same lines, so that the labels stand once a row."""
    low, high = reach(table, refs, column)
    for k, line in enumerate(table.lines):
        colour = COLOURS[role(line.arm)]
        cell, lecture = table.cells.get((line, column)), published(table, refs, line, column)
        if note := _note(cell, column, low, gap(line, column)):
            place = axes.get_yaxis_transform()
            axes.text(0.015, k, note, transform=place, fontsize=8, color=SOFT, va="center")
        elif cell is not None:
            thick = 5 if column.small else 2
            axes.plot([100 * cell.low, 100 * cell.high], [k, k], color=colour, linewidth=thick, solid_capstyle="butt")
            if not column.small:
                axes.plot([100 * cell.value], [k], "o", color=colour, markersize=6)
        if lecture is not None:
            axes.plot([lecture], [k + 0.27], "D", markersize=5, markerfacecolor="white", markeredgecolor=INK, zorder=3)
    axes.set_xlim(low, high)
    axes.set_xticks(ticks(low, high))
    axes.set_ylim(len(table.lines) - 0.4, -0.6)
    axes.set_yticks(range(len(table.lines)), [line.label for line in table.lines] if labelled else [])
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    task = column.task
    counts = " · ".join(
        f"{part} {words.counted(task[f'n_{part}'], task[f'n_{part}_full'])}" for part in ("train", "test")
    )
    axes.set_title(task["title"], loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=18)
    axes.set_title(words.unit(column.metric), loc="right", fontsize=9, color=SOFT, pad=18)
    axes.text(0, 1.02, counts, transform=axes.transAxes, fontsize=8, color=SOFT, va="bottom")


def _key(figure: Figure, lecture: str) -> None:
    """``lecture``: what the published numbers are called; "" where there are none."""
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=INK, marker="o", linewidth=2, label="mean and 95 % interval, measured here"),
        Line2D([], [], color=INK, linewidth=5, label=f"fewer than {FEWEST} test items: interval only"),
        Line2D([], [], color=SOFT, marker=8, linestyle="", label="left of the scale"),
    ]
    if lecture:
        name = f"{lecture}, mostly on other data"
        marks.append(Line2D([], [], color=INK, marker="D", markerfacecolor="white", linestyle="", label=name))
    figure.legend(handles=marks, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
