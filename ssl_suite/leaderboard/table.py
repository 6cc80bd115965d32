"""The numbers behind a page: which rows stand in which cell, who is ahead of whom, and what can be told apart.

Rows are compared only within a *setting*: one task and version, the same split, the same numbers of training, dev and
test items, the same budget. A column of the table is a setting. No choice below looks at a score.

Shapes: I items of the test set, S seeds.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssl_suite.evaluation import rows as row_files
from ssl_suite.evaluation.rows import FEWEST, Row
from ssl_suite.leaderboard.published import References, references

if TYPE_CHECKING:
    from ssl_suite.evaluation.significance import Draws

    DrawsByLine = dict["Line", Draws]

ARMS = (  # in the order of a table; others go last
    *("specific-SSL", "specific-scratch", "specific-CNN", "BERT", "re-emb", "rand"),
    *("probe-random", "k-mer linear", "majority"),
)
LEVEL = 0.05
BUDGETS = ("smoke", "own", "brief", "warm", "small", "long", "warm_long", "paper")  # by size; "own" is any other name
# The contrasts that a page speaks of. The first is the lecture's finding, the next two are "re-emb lies between".
CONTRASTS = (("BERT", "rand"), ("re-emb", "rand"), ("BERT", "re-emb"), ("specific-SSL", "specific-scratch"))


DRAWS = 2000  # of the paired bootstrap, as in `board diff`

LeftOut = list[tuple[Row, str]]  # a row, and why it stands in no table


class Line(NamedTuple):
    """A line of a table: an arm, and what tells it from others of the same arm in the same column ("" when alone)."""

    arm: str
    variant: str = ""

    @property
    def label(self) -> str:
        return f"{self.arm} ({self.variant})" if self.variant else self.arm


@dataclass(frozen=True, eq=False)
class Column:
    """One setting of one task. ``task`` and ``budget`` are those blocks of its first row."""

    key: tuple[Any, ...]
    metric: str
    higher_is_better: bool
    task: Mapping[str, Any]
    budget: str

    @property
    def small(self) -> bool:
        """Too few test items for a mean and a rank."""
        return bool(self.task["n_test"] < FEWEST)

    @property
    def reference(self) -> str:
        """The task's name in the published table; "" without one."""
        return self.task.get("reference") or ""


@dataclass(frozen=True)
class Cell:
    """A measured score: mean over seeds and 95 % interval, in the metric's own unit.

    Attributes:
        rank: 1 + the lines that are better by a test (paired bootstrap, Holm over all pairs of the column): the best
            lines share the first rank when they cannot be told apart. None where the test set is small.
        marks: doubts about the row's origin that are no failure, such as a dirty tree.
    """

    row: Row
    value: float
    low: float
    high: float
    rank: int | None = None
    shared: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """How much ``first`` is better than ``second`` in one column (positive: better), with interval and p-values.

    Attributes:
        holm: p after Holm's correction over the columns of the table.
    """

    column: Column
    first: Line
    second: Line
    gain: float
    low: float
    high: float
    p: float
    holm: float

    @property
    def outcome(self) -> str:
        """``better``, ``worse`` or ``open``: not told apart."""
        return "open" if self.holm >= LEVEL else "better" if self.gain > 0 else "worse"


@dataclass
class Table:
    """Lines x columns. ``contrasts`` by the arms of ``CONTRASTS``: one a column and variant of the first arm."""

    lines: list[Line] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[Line, Column], Cell] = field(default_factory=dict)
    contrasts: dict[tuple[str, str], list[Contrast]] = field(default_factory=dict)


@dataclass
class Board:
    """Everything a page says.

    Attributes:
        main: one column a task. other: the same tasks in further settings.
        failing: (run_id or file, why): rows whose verification fails; they are nowhere else.
        left_out: (row, why): rows that are sound and stand in neither table.
        smoke: all rows are of the smoke budget: they test the machinery.
    """

    benchmark: str
    main: Table
    other: Table
    references: References
    failing: list[tuple[str, str]]
    left_out: list[tuple[Row, str]]
    smoke: bool

    def tables(self) -> list[Table]:
        return [table for table in (self.main, self.other) if table.columns]


def setting(row: Row) -> tuple[Any, ...]:
    """What rows must have in common to be compared."""
    task = row["task"]
    counts = (task[f"n_{part}"] for part in ("train", "dev", "test"))
    budget, metric = row["budget"]["name"], row["metrics"][0]["name"]
    return task["name"], *counts, budget, metric, task["version"], task["split_sha256"], task["data_sha256"]


def build(
    root: Path,
    benchmark: str,
    good: Sequence[Row],
    failing: Sequence[tuple[str, str]] = (),
    marks: Mapping[str, Sequence[str]] | None = None,
) -> Board:
    """Arrange the rows of a benchmark and compare them.

    Args:
        good: the rows whose verification passed, ``failing`` the others; ``marks`` by run_id.

    Raises:
        SuiteError: predictions cannot be read, or a metric is not defined on them.
    """
    refs, marks, left_out = references(root, benchmark), marks or {}, []
    smoke = all(row["budget"]["name"] == "smoke" for row in good)
    newest: dict[str, int] = {}
    for row in good:
        newest[row["task"]["name"]] = max(newest.get(row["task"]["name"], 0), row["task"]["version"])
    by_setting: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in sorted(good, key=lambda row: row["run_id"]):
        if row["task"]["version"] < newest[row["task"]["name"]]:
            left_out.append((row, f"version {row['task']['version']} of the task is not its newest"))
        elif row.get("split", "test") != "test":
            left_out.append((row, f"scored on {row['split']}, where it was also chosen"))
        elif row["budget"]["name"] == "smoke" and not smoke:
            left_out.append((row, "budget smoke: it tests the machinery"))
        else:
            by_setting[setting(row)].append(row)
    main, other = _settings(by_setting)
    tables = []
    for chosen in (main, other):
        chosen.sort(key=lambda key: _place(by_setting[key][0], refs))
        table, unused = _arrange({key: by_setting[key] for key in chosen}, marks)
        left_out += unused
        left_out += _compare(root, table)
        tables.append(table)
    return Board(benchmark, tables[0], tables[1], refs, list(failing), left_out, smoke and bool(good))


def _settings(by_setting: Mapping[tuple[Any, ...], list[Row]]) -> tuple[list[Any], list[Any]]:
    """One setting a task for the main table, the others.

    The main one has most of the arms of the lecture's finding; then the larger budget, training set, test set; then
    more arms.
    """

    def merit(key: tuple[Any, ...]) -> tuple[Any, ...]:
        arms = {row["arm"] for row in by_setting[key]}
        _, train, _, test, budget, *_ = key
        return (
            len(arms & {"BERT", "re-emb", "rand"}),
            BUDGETS.index(budget if budget in BUDGETS else "own"),
            train,
            test,
            len(arms),
            key,
        )

    by_task: dict[str, list[Any]] = defaultdict(list)
    for key in by_setting:
        by_task[key[0]].append(key)
    main = [max(keys, key=merit) for keys in by_task.values()]
    return main, [key for key in by_setting if key not in main]


def _place(row: Row, refs: References) -> tuple[Any, ...]:
    known = (
        refs.order.index(row["task"]["reference"]) if row["task"].get("reference") in refs.order else len(refs.order)
    )
    return (known, *setting(row))


# Lines


def family(row: Row) -> str:
    """The weights' name without what was done to them: ``hf:models/MiniLM+map=100`` is ``MiniLM``."""
    reference = (row["encoder"].get("ref") or "").split("+")[0]
    return reference.removeprefix("hf:").rstrip("/").rsplit("/", 1)[-1]


def _signature(row: Row) -> tuple[str, str, str]:
    """What tells rows of one arm apart: the weights, the protocol, and whether special tokens became words too."""
    keep = row["protocol"].get("keep_special")
    mapping = "" if keep is None else "special tokens kept" if keep else "special tokens mapped"
    return family(row), str(row["protocol"]["name"]), mapping


def arm_order(arm: str) -> tuple[int, str]:
    """Sorts arms as a table has them; unknown ones last, by name."""
    return (ARMS.index(arm) if arm in ARMS else len(ARMS)), arm


def _lines(by_setting: Mapping[Any, list[Row]]) -> dict[str, Line]:
    """Each row's line, by run_id. An arm with two kinds of row in one column has a line a kind."""
    kinds: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    doubled: set[str] = set()
    for rows in by_setting.values():
        here: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for row in rows:
            here[row["arm"]].add(_signature(row))
        doubled |= {arm for arm in here if len(here[arm]) > 1}
        for arm in here:
            kinds[arm] |= here[arm]

    def line(row: Row) -> Line:
        if row["arm"] not in doubled:
            return Line(row["arm"])
        differing = [len({kind[k] for kind in kinds[row["arm"]]}) > 1 for k in range(3)]
        parts = [part for part in itertools.compress(_signature(row), differing) if part]
        return Line(row["arm"], ", ".join(parts) or "as is")

    return {row["run_id"]: line(row) for rows in by_setting.values() for row in rows}


def _arrange(by_setting: Mapping[Any, list[Row]], marks: Mapping[str, Sequence[str]]) -> tuple[Table, LeftOut]:
    """The table without ranks, and rows that another of the same line and column stands for: a cleaner or newer one."""
    table, left_out, lines = Table(), [], _lines(by_setting)

    def worth(row: Row) -> tuple[Any, ...]:
        return not marks.get(row["run_id"]), row["created"], row["run_id"]

    for key, rows in by_setting.items():
        task, metric = rows[0]["task"], rows[0]["metrics"][0]
        column = Column(key, metric["name"], metric["higher_is_better"], task, rows[0]["budget"]["name"])
        table.columns.append(column)
        for row in sorted(rows, key=worth, reverse=True):
            place = lines[row["run_id"]], column
            if place in table.cells:
                left_out.append((row, f"{table.cells[place].row['run_id']} is shown for the same arm and setting"))
                continue
            value, (low, high) = row["metrics"][0]["value"], row["metrics"][0]["ci95"]
            table.cells[place] = Cell(row, value, low, high, marks=tuple(marks.get(row["run_id"], ())))
    counts: dict[Line, int] = defaultdict(int)
    for line, _ in table.cells:
        counts[line] += 1
    table.lines = sorted(counts, key=lambda line: (arm_order(line.arm), -counts[line], line.variant))
    return table, left_out


# Comparisons


def _compare(root: Path, table: Table) -> LeftOut:
    """Fill in ranks and contrasts; returns rows that were taken out because their test items are others."""
    left_out: LeftOut = []
    draws: dict[Column, DrawsByLine] = {}
    for column in table.columns:
        by_line = {line: table.cells[line, column].row for line in table.lines if (line, column) in table.cells}
        draws[column], strange = _draws(root, by_line, column.metric)
        for line in strange:
            left_out.append((table.cells.pop((line, column)).row, "its test items are not those of the rows beside it"))
        if not column.small:
            _rank(table, column, draws[column])
    table.lines = [line for line in table.lines if any(line == found for found, _ in table.cells)]
    for first, second in CONTRASTS:
        table.contrasts[first, second] = _contrasts(table, first, second, draws)
    return left_out


def _draws(root: Path, by_line: Mapping[Line, Row], metric: str) -> tuple[DrawsByLine, list[Line]]:
    """Each line's scores on the same resamples of the items; and the lines whose items are not those of the first."""
    from ssl_suite.evaluation import significance

    stacks: dict[Line, np.ndarray] = {}
    strange: list[Line] = []
    first: tuple[np.ndarray, np.ndarray] | None = None
    for line, row in by_line.items():
        found = row_files.read_predictions(root, row)
        order_I = np.argsort(found.items_I, kind="stable")
        items_and_labels = found.items_I[order_I], found.labels_I[order_I]
        first = first or items_and_labels
        if all(np.array_equal(a_I, b_I) for a_I, b_I in zip(first, items_and_labels, strict=True)):
            stacks[line] = found.stacked()[:, order_I]
        else:
            strange.append(line)
    if first is None:
        return {}, strange
    # p is at least 2 / (draws + 1). Holm multiplies the smallest by the number of pairs, and must be able to reach 5 %.
    count = max(DRAWS, 60 * len(stacks) * (len(stacks) - 1) // 2)
    # All lines together, so that the resamples and the labels' ranks are made once.
    made = significance.draw(metric, first[1], np.concatenate(list(stacks.values())), count)
    draws, start = {}, 0
    for line, stack_SI in stacks.items():
        part = slice(start, start := start + len(stack_SI))
        draws[line] = significance.Draws(metric, made.observed_S[part], made.values_DS[:, part])
    return draws, strange


def _rank(table: Table, column: Column, draws: DrawsByLine) -> None:
    """Ranks by tests over all pairs of the column, Holm-corrected."""
    from ssl_suite.evaluation import significance

    both = list(itertools.combinations(draws, 2))
    found = [significance.paired(draws[a], draws[b], len(draws[a].values_DS)) for a, b in both]
    ahead: dict[Line, int] = dict.fromkeys(draws, 0)
    for (a, b), pair, p in zip(both, found, significance.holm([pair.p for pair in found]), strict=True):
        if p < LEVEL:
            ahead[b if (pair.difference > 0) == column.higher_is_better else a] += 1
    for line in draws:
        shared = sum(count == ahead[line] for count in ahead.values()) > 1
        table.cells[line, column] = replace(table.cells[line, column], rank=1 + ahead[line], shared=shared)


def _partner(table: Table, first: Line, arm: str, column: Column) -> Line | None:
    """The line of ``arm`` that is made from the same weights, with the same mapping if possible; else its first."""
    there = [line for line in table.lines if line.arm == arm and (line, column) in table.cells]
    own = _signature(table.cells[first, column].row)

    def likeness(line: Line) -> tuple[bool, bool]:
        other = _signature(table.cells[line, column].row)
        return other[0] == own[0], other[2] == own[2]

    return max(there, key=likeness, default=None)  # the first of the best


def _contrasts(table: Table, first: str, second: str, draws: Mapping[Column, DrawsByLine]) -> list[Contrast]:
    """``first`` against ``second`` in every column that has both, with Holm's correction over these columns.

    The difference, interval and p before the correction are those of ``board diff``: same draws, same number.
    """
    from ssl_suite.evaluation import significance

    found: list[Contrast] = []
    for line in (line for line in table.lines if line.arm == first):
        places = []
        for column in table.columns:
            partner = _partner(table, line, second, column) if (line, column) in table.cells else None
            if partner is not None:
                pair = significance.paired(draws[column][line], draws[column][partner], DRAWS)
                places.append((column, partner, pair))
        adjusted = significance.holm([pair.p for _, _, pair in places])
        for (column, partner, pair), holm in zip(places, adjusted, strict=True):
            gain, low, high, p = pair
            if not column.higher_is_better:
                gain, low, high = -gain, -high, -low
            found.append(Contrast(column, line, partner, gain, low, high, p, holm))
    return found


def contrast(table: Table, first: str, second: str, column: Column, line: Line | None = None) -> Contrast | None:
    """The contrast of a column, of the first variant or of ``line``; None where an arm was not measured."""
    found: Iterable[Contrast] = table.contrasts.get((first, second), ())
    return next((each for each in found if each.column is column and line in (None, each.first)), None)
