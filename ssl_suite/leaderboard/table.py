"""The numbers behind a page: which rows stand in which cell, who is ahead of whom, and what can be told apart.

A page has a section a budget, and a section's columns are settings: one task and version, the same split, the same
numbers of items, the same version of the head. Rows are compared only within a column. No choice below looks at a
score.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ssl_suite.evaluation import benchmark as benchmarks
from ssl_suite.evaluation.benchmark import Benchmark
from ssl_suite.evaluation.rows import FEWEST, Row
from ssl_suite.leaderboard.published import References, references

if TYPE_CHECKING:
    from ssl_suite.leaderboard.matrix import Heat

LEVEL = 0.05
BUDGETS = ("smoke", "own", "brief", "warm", "small", "long", "warm_long", "paper")  # by size; "own" is any other name
CORRELATIONS = ("spearman", "pearson", "pearson_spearman", "mcc")  # an uninformed answer has 0, or none
LeftOut = list[tuple[Row, str]]  # a row, and why it stands in no table


class Line(NamedTuple):
    """A line of a table: an arm, and what tells it from others of the same arm in the same column ("" when alone)."""

    arm: str
    variant: str = ""

    @property
    def label(self) -> str:
        """For a reader."""
        return f"{self.arm} ({self.variant})" if self.variant else self.arm


@dataclass(frozen=True, eq=False)
class Column:
    """One setting of one task. ``task`` is that block of its first row; ``head``: version of its heads, 0 of none."""

    metric: str
    higher_is_better: bool
    task: Mapping[str, Any]
    budget: str
    head: int = 0
    clustered: bool = False

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
    """A measured score: mean over seeds, in the metric's own unit.

    Attributes:
        low, high: 95 % interval over test items (or their clusters) and seeds.
        rank: 1 + the lines that are better by a test (paired bootstrap, Holm over all pairs of the column): the best
            lines share the first rank when they cannot be told apart. None where the test set is small.
        evidence: whether it is above the majority by a test; None where that has no meaning.
        marks: doubts about the row's origin that are no failure, such as a dirty tree.
    """

    row: Row
    value: float
    low: float
    high: float
    rank: int | None = None
    shared: bool = False
    evidence: bool | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """How much ``first`` is better than ``second`` in one column (positive: better), with interval and p-values.

    Attributes:
        p, holm: two-sided, and after Holm's correction over the columns; one-sided where a plan's test decides.
        published: the difference of the published arms, in points; None without one.
        verdict: what a plan's test says of it, see ``plans.judge``; "" without a plan.
    """

    column: Column
    first: Line
    second: Line
    gain: float
    low: float
    high: float
    p: float
    holm: float
    published: float | None = None
    verdict: str = ""

    @property
    def outcome(self) -> str:
        """``better``, ``worse`` or ``open``: not told apart; with a plan ``better`` is what it calls shown."""
        if self.verdict:
            return "better" if self.verdict == "shown" else "open"
        return "open" if self.holm >= LEVEL else "better" if self.gain > 0 else "worse"


class Total(NamedTuple):
    """An aggregate score by line; ``note`` is what a reader must know of it, such as the tasks that do not enter;
    ``shares`` what its kind says of each task (``aggregates.PER_TASK``), by their titles."""

    name: str
    kind: str
    by_line: dict[Line, float]
    note: str = ""
    shares: dict[Line, dict[str, float]] = {}


@dataclass
class Section:
    """The rows of one budget: lines x columns. ``contrasts`` in the benchmark's order, each a column and variant;
    ``aggregates``: in the benchmark's order; ``matrix``: the heat map of the benchmark's sources and targets."""

    budget: str
    lines: list[Line] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[Line, Column], Cell] = field(default_factory=dict)
    contrasts: list[list[Contrast]] = field(default_factory=list)
    aggregates: list[Total] = field(default_factory=list)
    matrix: Heat | None = None


@dataclass
class Board:
    """Everything a page says.

    Attributes:
        sections: the first is the one that answers the question.
        failing: (run_id or file, why): rows whose verification fails; they are nowhere else.
        left_out: (row, why): rows that are sound and stand in no table.
    """

    benchmark: Benchmark
    sections: list[Section]
    references: References
    failing: list[tuple[str, str]]
    left_out: LeftOut

    @property
    def smoke(self) -> bool:
        """All rows are of the smoke budget: they test the machinery."""
        return bool(self.sections) and all(each.budget == "smoke" for each in self.sections)


def head_version(row: Row) -> int | None:
    """The version of a row's head: 1 before it was noted, None where no head is trained."""
    head = row["protocol"].get("head")
    if isinstance(head, Mapping):
        return int(head.get("version", 1))
    return 1 if row["protocol"]["name"] in ("finetune", "scratch", "probe") else None


def metrics_of(row: Row) -> dict[str, Mapping[str, Any]]:
    """By name the metrics of a row; those of further parts have the part's name before theirs."""
    found = {metric["name"]: metric for metric in row["metrics"]}
    for part in row.get("further") or ():
        found |= {f"{part['part']}.{metric['name']}": metric for metric in part["metrics"]}
    return found


def setting(row: Row) -> tuple[Any, ...]:
    """What rows must have in common to be compared, but for the head."""
    task = row["task"]
    counts = (task[f"n_{part}"] for part in ("train", "dev", "test"))
    metric = row["metrics"][0]["name"]
    return task["name"], *counts, metric, task["version"], task["split_sha256"], task["data_sha256"]


def build(
    root: Path,
    name: str,
    good: Sequence[Row],
    failing: Sequence[tuple[str, str]] = (),
    marks: Mapping[str, Sequence[str]] | None = None,
    own: str | None = None,
) -> Board:
    """Arrange the rows of a benchmark and compare them.

    Args:
        good: the rows whose verification passed, ``failing`` the others; ``marks`` by run_id.
        own: a folder of the user's own benchmarks.

    Raises SuiteError: predictions cannot be read, or a metric is not defined on them.
    """
    from ssl_suite.leaderboard import comparisons  # which needs what is below

    found = benchmarks.of_rows(name, good, own)
    sections, left_out = arrange(found, good, marks or {})
    board = Board(found, sections, references(root, name), list(failing), left_out)
    for section in sections:
        board.left_out += comparisons.compare(root, section, board)
        section.aggregates = comparisons.aggregates_of(section, found)
    board.sections.sort(key=lambda section: _merit(section, found), reverse=True)
    return board


def arrange(found: Benchmark, rows: Sequence[Row], marks: Mapping[str, Sequence[str]]) -> tuple[list[Section], LeftOut]:
    """A section a budget, without comparisons, and the rows that stand in none."""
    left_out: LeftOut = []
    smoke = all(row["budget"]["name"] == "smoke" for row in rows)
    newest: dict[str, int] = {}
    for row in rows:
        newest[row["task"]["name"]] = max(newest.get(row["task"]["name"], 0), row["task"]["version"])
    by_budget: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["run_id"]):
        if row["task"]["version"] < newest[row["task"]["name"]]:
            left_out.append((row, f"version {row['task']['version']} of the task is not its newest"))
        elif row.get("split", "test") != "test":
            left_out.append((row, f"scored on {row['split']}, where it was also chosen"))
        elif row["budget"]["name"] == "smoke" and not smoke:
            left_out.append((row, "budget smoke: it tests the machinery"))
        else:
            by_budget[row["budget"]["name"]].append(row)
    sections = []
    for budget, of_budget in by_budget.items():
        section, unused = _arrange(budget, of_budget, marks, found)
        sections.append(section)
        left_out += unused
    return sections, left_out


def main_contrast(board: Board, section: Section) -> list[Contrast]:
    """The main contrast of a section, of its first variant; [] without one."""
    for asked, found in zip(board.benchmark.contrasts, section.contrasts, strict=True):
        if asked.main:
            return [each for each in found if each.first == found[0].first]
    return []


def _merit(section: Section, found: Benchmark) -> tuple[int, int, int]:
    """A section's place: by the columns of the main contrast, then the size of the budget, then cells."""
    main = [each for asked, each in zip(found.contrasts, section.contrasts, strict=True) if asked.main]
    if found.plan is not None and section.budget == found.plan.budget and any(main):
        return len(found.tasks) + 1, 0, 0
    size = BUDGETS.index(section.budget if section.budget in BUDGETS else "own")
    return len({each.column for group in main for each in group}), size, len(section.cells)


# Lines and columns


def family(row: Row) -> str:
    """The weights' name without what was done to them: ``hf:models/MiniLM+map=100`` is ``MiniLM``."""
    reference = (row["encoder"].get("ref") or "").split("+")[0]
    return reference.removeprefix("hf:").rstrip("/").rsplit("/", 1)[-1]


def signature(row: Row) -> tuple[str, str, str]:
    """What tells rows of one arm apart: the weights, the protocol, and whether special tokens became words too."""
    keep = row["protocol"].get("keep_special")
    mapping = "" if keep is None else "special tokens kept" if keep else "special tokens mapped"
    return family(row), str(row["protocol"]["name"]), mapping


def arm_order(found: Benchmark, arm: str) -> tuple[int, str]:
    """Sorts arms as the benchmark has them; others last, by name."""
    names = list(found.arms)
    return (names.index(arm) if arm in names else len(names)), arm


def _task_order(found: Benchmark, task: str) -> int:
    words = [word.rpartition("/")[2] for word in found.tasks]
    return next((i for i, word in enumerate(words) if word in (task, task.partition("@")[0])), len(words))


def _groups(rows: Sequence[Row]) -> list[tuple[int, list[Row]]]:
    """Rows by setting and version of the head; what has no head stands beside every version."""
    by_setting: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_setting[setting(row)].append(row)
    found = []
    for key in sorted(by_setting, key=str):
        here = by_setting[key]
        versions = sorted({version for row in here if (version := head_version(row)) is not None}) or [0]
        for version in reversed(versions):
            found.append((version, [row for row in here if head_version(row) in (None, version)]))
    return found


def _lines(groups: Sequence[tuple[int, list[Row]]]) -> dict[str, Line]:
    """Each row's line, by run_id. An arm with two kinds of row in one column has a line a kind."""
    kinds: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    doubled: set[str] = set()
    for _, rows in groups:
        here: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for row in rows:
            here[row["arm"]].add(signature(row))
        doubled |= {arm for arm in here if len(here[arm]) > 1}
        for arm in here:
            kinds[arm] |= here[arm]

    def line(row: Row) -> Line:
        if row["arm"] not in doubled:
            return Line(row["arm"])
        differing = [len({kind[k] for kind in kinds[row["arm"]]}) > 1 for k in range(3)]
        parts = [part for part in itertools.compress(signature(row), differing) if part]
        return Line(row["arm"], ", ".join(parts) or "as is")

    return {row["run_id"]: line(row) for _, rows in groups for row in rows}


def _arrange(
    budget: str, rows: Sequence[Row], marks: Mapping[str, Sequence[str]], found: Benchmark
) -> tuple[Section, LeftOut]:
    """The section without comparisons, and rows that another of the same line and column stands for: one of more
    seeds, then a cleaner, then a newer one."""
    section, left_out, groups = Section(budget), [], _groups(rows)
    lines = _lines(groups)

    def worth(row: Row) -> tuple[Any, ...]:
        when = datetime.fromisoformat(row["created"])
        return len(row["seeds"]), not marks.get(row["run_id"]), when, row["run_id"]

    for version, here in sorted(groups, key=lambda group: _task_order(found, group[1][0]["task"]["name"])):
        task, metric = here[0]["task"], here[0]["metrics"][0]
        column = Column(metric["name"], metric["higher_is_better"], task, budget, version)
        section.columns.append(column)
        for row in sorted(here, key=worth, reverse=True):
            place = lines[row["run_id"]], column
            if place in section.cells:
                left_out.append((row, f"{section.cells[place].row['run_id']} is shown for the same arm and setting"))
                continue
            value, (low, high) = row["metrics"][0]["value"], row["metrics"][0]["ci95"]
            section.cells[place] = Cell(row, value, low, high, marks=tuple(marks.get(row["run_id"], ())))
    counts: dict[Line, int] = defaultdict(int)
    for line, _ in section.cells:
        counts[line] += 1
    section.lines = sorted(counts, key=lambda line: (arm_order(found, line.arm), -counts[line], line.variant))
    return section, left_out
