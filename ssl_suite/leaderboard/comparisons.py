"""Comparisons within a section: intervals over items and seeds, ranks, evidence, contrasts, scores over columns.

Shapes: I items of the test set, S seeds, D draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import rows as row_files
from ssl_suite.evaluation import significance
from ssl_suite.evaluation.benchmark import Aggregate, Benchmark
from ssl_suite.evaluation.rows import Row
from ssl_suite.evaluation.significance import Draws
from ssl_suite.leaderboard import aggregates, matrix, plans
from ssl_suite.leaderboard.plans import NORMAL
from ssl_suite.leaderboard.table import (
    CORRELATIONS,
    LEVEL,
    Board,
    Cell,
    Column,
    Contrast,
    LeftOut,
    Line,
    Section,
    Total,
    metrics_of,
    signature,
)

DRAWS = 2000  # of the paired bootstrap, as in `board diff`
DrawsByLine = dict[Line, Draws]


def compare(root: Path, section: Section, board: Board) -> LeftOut:
    """Fill in intervals, ranks, evidence and contrasts; returns rows whose test items are not those beside them."""
    left_out: LeftOut = []
    draws: dict[Column, DrawsByLine] = {}
    for i, column in enumerate(section.columns):
        by_line = {line: section.cells[line, column].row for line in section.lines if (line, column) in section.cells}
        draws[column], strange, clustered = _draws(root, by_line, column.metric)
        for line in strange:
            row = section.cells.pop((line, column)).row
            left_out.append((row, "its test items are not those of the rows beside it"))
        if clustered:
            section.columns[i] = made = replace(column, clustered=True)
            draws[made] = draws.pop(column)
            for line in draws[made]:
                section.cells[line, made] = section.cells.pop((line, column))
        _intervals(section, section.columns[i], draws[section.columns[i]])
    section.lines = [line for line in section.lines if any(line == found for found, _ in section.cells)]
    for asked in board.benchmark.contrasts:
        found = _contrasts(section, asked.a, asked.b, draws)
        said = board.references.difference
        found = [replace(each, published=said(asked.published, each.column.reference)) for each in found]
        plan = board.benchmark.plan
        if asked.main and found and plan is not None and section.budget == plan.budget:
            mine = [each for each in found if each.first == found[0].first]
            found = plans.judge(mine, section, plan, len(board.benchmark.tasks)) + found[len(mine) :]
        section.contrasts.append(found)
    if board.benchmark.matrix is not None:
        section.matrix = matrix.build(board.benchmark.matrix, lambda a, b: _contrasts(section, a, b, draws, None))
    return left_out


def _draws(root: Path, by_line: Mapping[Line, Row], metric: str) -> tuple[DrawsByLine, list[Line], bool]:
    """Each line's scores on the same resamples of the items, or of their clusters where the rows have them; the lines
    whose items are not those of the first."""
    stacks: dict[Line, np.ndarray] = {}
    strange: list[Line] = []
    first: tuple[list[Any], list[Any]] | None = None
    clusters_I, labels_I = None, np.empty(0)
    for line, row in by_line.items():
        found = row_files.read_predictions(root, row).by_item()
        items_and_labels = found.items_I.tolist(), [_plain(label) for label in found.labels_I]
        if first is None:
            first, labels_I = items_and_labels, found.labels_I
        clusters_I = found.clusters_I if clusters_I is None else clusters_I
        if items_and_labels == first:
            stacks[line] = found.stacked()
        else:
            strange.append(line)
    if first is None:
        return {}, strange, False
    # p is at least 2 / (draws + 1). Holm multiplies the smallest by the number of pairs, and must be able to reach 5 %.
    count = max(DRAWS, 60 * len(stacks) * (len(stacks) - 1) // 2)
    # All lines together, so that the resamples and the labels' ranks are made once.
    made = significance.draw(metric, labels_I, np.concatenate(list(stacks.values())), count, clusters_I=clusters_I)
    draws, start = {}, 0
    for line, stack_SI in stacks.items():
        part = slice(start, start := start + len(stack_SI))
        draws[line] = significance.Draws(metric, made.observed_S[part], made.values_DS[:, part])
    return draws, strange, clusters_I is not None


def _plain(label: Any) -> Any:
    return label.tolist() if isinstance(label, np.ndarray | np.generic) else label


def _intervals(section: Section, column: Column, draws: DrawsByLine) -> None:
    """Intervals over items and seeds, ranks by tests over all pairs (Holm-corrected), and evidence of anything."""
    both = [] if column.small else list(itertools.combinations(draws, 2))
    found = [significance.paired(draws[a], draws[b], len(draws[a].values_DS)) for a, b in both]
    ahead: dict[Line, int] = dict.fromkeys(draws, 0)
    for (a, b), pair, p in zip(both, found, significance.holm([pair.p for pair in found]), strict=True):
        if p < LEVEL:
            ahead[b if (pair.difference > 0) == column.higher_is_better else a] += 1
    floor = next((x for x in draws if section.cells[x, column].row["protocol"]["name"] == "majority"), None)
    for line, of_line in draws.items():
        cell = section.cells[line, column]
        if len(cell.row["seeds"]) > 1 or column.clustered:
            found_interval = significance.interval_over_seeds(of_line)
            cell = replace(cell, low=found_interval.low, high=found_interval.high)
        if not column.small:
            shared = sum(count == ahead[line] for count in ahead.values()) > 1
            cell = replace(cell, rank=1 + ahead[line], shared=shared)
        if floor is not None and line != floor:
            pair = significance.paired(of_line, draws[floor], DRAWS)
            cell = replace(cell, evidence=(pair.low > 0) if column.higher_is_better else (pair.high < 0))
        elif floor is None and column.metric in CORRELATIONS:
            cell = replace(cell, evidence=cell.low > 0)
        section.cells[line, column] = cell


def _partner(section: Section, first: Line, arm: str, column: Column) -> Line | None:
    """The line of ``arm`` that is made from the same weights, with the same mapping if possible; else its first."""
    there = [line for line in section.lines if line.arm == arm and (line, column) in section.cells]
    own = signature(section.cells[first, column].row)

    def likeness(line: Line) -> tuple[bool, bool]:
        other = signature(section.cells[line, column].row)
        return other[0] == own[0], other[2] == own[2]

    return max(there, key=likeness, default=None)  # the first of the best


def _contrasts(
    section: Section, first: str, second: str, draws: Mapping[Column, DrawsByLine], most: int | None = DRAWS
) -> list[Contrast]:
    """``first`` against ``second`` in every column that has both, with Holm's correction over these columns.

    The difference, interval and p before the correction are those of ``board diff``: same draws, same number. A larger
    family takes all draws (``most`` None), for a p that its correction leaves below 5 %.
    """
    found: list[Contrast] = []
    for line in (line for line in section.lines if line.arm == first):
        places = []
        for column in section.columns:
            partner = _partner(section, line, second, column) if (line, column) in section.cells else None
            if partner is not None:
                mine, other = draws[column][line], draws[column][partner]
                pair = significance.paired(mine, other, most or len(mine.values_DS))
                places.append((column, partner, pair))
        adjusted = significance.holm([pair.p for _, _, pair in places])
        for (column, partner, pair), holm in zip(places, adjusted, strict=True):
            gain, low, high, p = pair
            if not column.higher_is_better:
                gain, low, high = -gain, -high, -low
            found.append(Contrast(column, line, partner, gain, low, high, p, holm))
    return found


def aggregates_of(section: Section, found: Benchmark) -> list[Total]:
    """The benchmark's scores over columns, of the lines that were measured in all of them once."""
    made = []
    for asked in found.aggregates:
        wanted = asked.tasks or found.tasks
        if asked.kind == aggregates.LOCAL:
            made.append(_between_arms(section, asked, wanted))
            continue
        made += _over_tasks(section, asked, wanted)
    return made


def _over_tasks(section: Section, asked: Aggregate, wanted: Sequence[str]) -> list[Total]:
    """The score of each line that was measured in all columns; where some are of another split than the aggregate's,
    under its other name."""
    totals: dict[str, Total] = {}
    of_split = [f"{_base(word)}@{asked.split}" for word in wanted if asked.split]
    for line in section.lines:
        cells = _cells_of(section, line, wanted) | _cells_of(section, line, of_split)
        if set(cells) != {_base(word) for word in wanted}:
            continue
        pure = all(not asked.split or column.task["name"] in of_split for column, _ in cells.values())
        name = asked.name if pure else asked.otherwise
        total = totals.setdefault(name, Total(name, asked.kind, {}, asked.text, {}))
        scores = {task: {k: x["value"] for k, x in metrics_of(cell.row).items()} for task, (_, cell) in cells.items()}
        total.by_line[line] = aggregates.AGGREGATES[asked.kind](scores, **asked.settings)
        if asked.kind in aggregates.PER_TASK:
            shares = aggregates.PER_TASK[asked.kind](scores, **asked.settings)
            total.shares[line] = {cells[task][0].task["title"]: share for task, share in shares.items()}
    return list(totals.values()) or [Total(asked.name, asked.kind, {}, asked.text)]


def _base(word: str) -> str:
    return word.rpartition("/")[2].partition("@")[0]


def _cells_of(section: Section, line: Line, wanted: Sequence[str]) -> dict[str, tuple[Column, Cell]]:
    """By the tasks' bases the cells of a line; a task that is wanted with its split is that one alone."""
    names = {word.rpartition("/")[2] for word in wanted}
    return {
        _base(name): (column, section.cells[line, column])
        for column in section.columns
        if (line, column) in section.cells and {name := column.task["name"], _base(name)} & names
    }


def _between_arms(section: Section, asked: Aggregate, wanted: Sequence[str]) -> Total:
    """How far each line is from one arm to another, over the tasks on which these two are told apart. There is no score
    before both are measured on all tasks: which of them enter is not known until then.

    The standard error of their difference is that of two independent cells, from their intervals: items that both are
    right on make the true one smaller.
    """
    if set(asked.settings) != {"zero", "whole"}:
        raise SuiteError(f"aggregates: {asked.name}: its settings should be the arms 'zero' and 'whole'.")
    ends = [next((x for x in section.lines if x.arm == asked.settings[key]), None) for key in ("zero", "whole")]
    zero, whole = ({} if line is None else _cells_of(section, line, wanted) for line in ends)

    def gain(task: str, cell: Cell) -> aggregates.Gain:
        column, floor = zero[task]
        errors = [(each.high - each.low) / (2 * NORMAL.inv_cdf(0.975)) for each in (cell, floor)]
        difference = cell.value - floor.value
        return aggregates.Gain(difference if column.higher_is_better else -difference, math.hypot(*errors))

    of_whole = {task: gain(task, cell) for task, (column, cell) in whole.items() if zero.get(task, (0,))[0] is column}
    if {_base(word) for word in wanted} - set(of_whole):
        return Total(asked.name, asked.kind, {}, asked.text)
    kept, by_line = aggregates.told_apart(of_whole), {}
    for line in section.lines if kept else ():
        cells = _cells_of(section, line, wanted)
        if all(task in cells and cells[task][0] is zero[task][0] for task in kept):
            gains = {task: gain(task, cells[task][1]).gain for task in kept}
            by_line[line] = aggregates.superb_s_local(gains, {task: of_whole[task] for task in kept})
    titles = {task: column.task["title"] for task, (column, _) in zero.items()}
    left_out = [titles[_base(word)] for word in wanted if _base(word) not in kept]
    note = f"Over {', '.join(titles[task] for task in kept)}." if kept else ""
    if left_out:
        arms = f"{asked.settings['whole']} is not above {asked.settings['zero']} by two standard errors"
        note += f" Left out, because {arms}: {', '.join(left_out)}."
    return Total(asked.name, asked.kind, by_line, " ".join([asked.text, note]).strip())
