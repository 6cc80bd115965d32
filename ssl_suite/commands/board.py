"""The leaderboard: its table, whether its numbers hold, two rows against each other, and its pages.

``board show``, ``verify``, ``diff`` and ``render``; the work is done in ``ssl_suite.leaderboard``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_suite.commands.words import Key, parse_words, split_free
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count as counted

if TYPE_CHECKING:
    from rich.table import Table

    from ssl_suite.evaluation.rows import Row
    from ssl_suite.leaderboard.diff import Comparison
    from ssl_suite.leaderboard.table import Cell, Column

PLACE = {"root": Key(default=None, example="leaderboards")}
WIDTH = 100  # letters of a table where the output is not a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="what the examples show, and root=FOLDER")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def show(args: argparse.Namespace) -> int:
    """Show the measured rows: arms by tasks, each with its mean over seeds and its 95 % interval.

    examples:
      ssl_suite board show
      ssl_suite board show cross_domain              one benchmark
      ssl_suite board show root=mine/leaderboards    rows of another folder
      ssl_suite board show cross_domain --json       the rows themselves

    Lines, columns and which of several rows is shown are those of the page (`ssl_suite board render`): of one arm and
    setting the row with most seeds, of equals the newest. A task with fewer than 300 test items shows the interval
    alone. The numbers are shown as stored: `ssl_suite board verify` recomputes them.
    """
    from rich.console import Console

    from ssl_suite.evaluation import rows

    root, benchmark = _root_and_benchmark(args, "board show")
    found = rows.read_all(root, benchmark)
    if args.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    if not found:
        print(f"There are no rows below {root}.")
    console = Console(width=None if Console().is_terminal else WIDTH)
    for name in sorted({row["benchmark"] for row in found}):
        made, left_out = tables(name, [row for row in found if row["benchmark"] == name], console.width)
        for table in made:
            console.print(table)
        if left_out:
            print(f"{name}: {counted(left_out, 'row')} in no table; the page says why.")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Recompute every number of every row from its stored predictions.

    examples:
      ssl_suite board verify
      ssl_suite board verify cross_domain
      ssl_suite board verify root=mine/leaderboards --json

    Exits with code 2 and names the rows that fail: a changed file, count, metric or interval. A row from a commit
    that git does not know, or from a tree with uncommitted changes, is marked and does not fail.
    """
    from ssl_suite.evaluation import rows
    from ssl_suite.leaderboard.verify import failing
    from ssl_suite.leaderboard.verify import verify as check

    root, benchmark = _root_and_benchmark(args, "board verify")
    findings = check(root, benchmark)
    count, failed = len(rows.row_files(root, benchmark)), failing(findings)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        for finding in findings:
            print(f"{finding.level}: {finding.row + ': ' if finding.row else ''}{' '.join(finding.text.split())}")
        levels = Counter(finding.level for finding in findings)
        rest = f"{levels['mark']} marks, {levels['warning']} warnings"
        print(f"{root}: {counted(count, 'row')}, {count - len(failed)} hold, {len(failed)} fail; {rest}.")
    if failed:
        raise SuiteError(f"{len(failed)} of {count} rows do not hold: {', '.join(failed)}.")
    return 0


def diff(args: argparse.Namespace) -> int:
    """Compare two rows of one task, item by item: the difference, its 95 % interval, and how sure it is.

    examples:
      ssl_suite board diff h3@gue20--BERT h3@gue20--rand
      ssl_suite board diff h3@gue20--BERT h3@gue20--rand metric=mcc    another metric than the main one

    A row is named by its file, or by the beginning of its run_id, as long as it takes for no other to begin like it.
    A paired bootstrap that resamples items, and the seeds of each side; for accuracy also McNemar's exact test, seed
    by seed. The difference is the first row's value minus the second's.
    """
    from ssl_suite.leaderboard.diff import compare, find

    words, names = split_free(args.words)
    settings = parse_words(words, {**PLACE, "metric": Key(default=None, example="accuracy")})
    if len(names) != 2:
        raise SuiteError("board diff takes two rows: `ssl_suite board show --json` has their run_ids.")
    root = _root(settings["root"])
    (root_a, row_a), (root_b, row_b) = (find(root, name) for name in names)
    if (root_a.resolve(), row_a["run_id"]) == (root_b.resolve(), row_b["run_id"]):
        raise SuiteError(f"'{names[0]}' and '{names[1]}' are the same row: {row_a['run_id']}.")
    result = compare(row_a, row_b, root_a, root_b, settings["metric"])
    print(json.dumps(asdict(result), indent=1, ensure_ascii=False) if args.json else _comparison_text(result))
    return 0


def render(args: argparse.Namespace) -> int:
    """Draw the pages of the leaderboard: a table for the README, one self-contained HTML file, and a picture.

    examples:
      ssl_suite board render
      ssl_suite board render cross_domain root=mine/leaderboards

    The words of a page stand in the benchmark's YAML; bench.path=FOLDER says where your own are. Pages are made from
    rows that verification passes and are never edited by hand.
    """
    from ssl_suite.leaderboard.render import render as draw

    own = [word for word in args.words if word.startswith("bench.path=")]
    args.words = [word for word in args.words if word not in own]
    root, benchmark = _root_and_benchmark(args, "board render")
    paths = draw(root, benchmark, own[-1].partition("=")[2] if own else None)
    if args.json:
        print(json.dumps([str(path) for path in paths], indent=1))
    else:
        for path in paths:
            print(path)
    return 0


def _root_and_benchmark(args: argparse.Namespace, command: str) -> tuple[Path, str | None]:
    """The leaderboards folder, and the benchmark if one is named."""
    words, names = split_free(args.words)
    settings = parse_words(words, PLACE)
    if len(names) > 1:
        raise SuiteError(f"{command} takes one benchmark at most, not {' '.join(names)}.")
    return _root(settings["root"]), names[0] if names else None


def _root(given: str | None) -> Path:
    from ssl_suite.evaluation.rows import default_root

    if given is None:
        return default_root()
    root = Path(given).expanduser()
    if not root.is_dir():
        raise SuiteError(f"root={given}: there is no such folder.")
    return root


def tables(benchmark: str, rows: Sequence[Row], width: int) -> tuple[list[Table], int]:
    """Arms by tasks, a budget after the other, each in as many tables as ``width`` needs; and the rows in none."""
    from rich.table import Table
    from rich.text import Text

    from ssl_suite.evaluation.benchmark import of_rows
    from ssl_suite.leaderboard.table import arrange

    made: list[Table] = []
    sections, left_out = arrange(of_rows(benchmark, rows), rows, {})
    for section in sections:
        heads = {column: _head(column) for column in section.columns}
        cells = {place: _cell(cell) for place, cell in section.cells.items()}
        label = _width([line.arm for line in section.lines])
        some = max(1, (width - label) // _width([*heads.values(), *cells.values()]))
        for start in range(0, len(section.columns), some):
            shown = section.columns[start : start + some]
            table = Table("arm", title=f"{benchmark}, budget {section.budget}", title_justify="left", show_lines=True)
            for column in shown:
                table.add_column(Text(heads[column]))
            for line in section.lines:
                scores = [cells.get((line, column), "") for column in shown]
                if any(scores):
                    table.add_row(Text(f"{line.arm}\n{line.variant}".strip()), *map(Text, scores))
            made.append(table)
    return made, len(left_out)


def _width(texts: Iterable[str]) -> int:
    """Of a column of these cells, its frame included."""
    return 3 + max(len(line) for text in texts for line in text.split("\n"))


def _head(column: Column) -> str:
    name, _, split = column.task["name"].partition("@")
    lines = [column.task["title"], name, f"@{split} v{column.task['version']}", column.metric]
    lines += [] if column.higher_is_better else ["lower is better"]
    return "\n".join([*lines, f"{column.task['n_test']:,} test items", *["earlier heads"] * (column.head == 1)])


def _cell(cell: Cell) -> str:
    """Mean and interval, of few test items the interval alone; seeds."""
    from ssl_suite.evaluation.rows import FEWEST

    mean = [f"{cell.value:.3f}"] if cell.row["task"]["n_test"] >= FEWEST else []
    parts = [*mean, f"[{cell.low:.3f}, {cell.high:.3f}]", counted(len(cell.row["seeds"]), "seed")]
    return "\n".join([*parts, *["dirty"] * bool(cell.row.get("git_dirty"))])


def _comparison_text(result: Comparison) -> str:
    better = "higher" if result.higher_is_better else "lower"
    lines = [
        f"{result.task}: {result.metric} ({better} is better), {result.n:,} test items",
        f"  A {result.a}: {result.value_a:.4f} ({counted(len(result.seeds_a), 'seed')})",
        f"  B {result.b}: {result.value_b:.4f} ({counted(len(result.seeds_b), 'seed')})",
        f"A - B: {result.difference:+.4f}, 95 % interval [{result.low:+.4f}, {result.high:+.4f}], p = {result.p:.2g}"
        " (paired bootstrap over items and seeds)",
    ]
    for test in result.mcnemar:
        right = f"only A right on {test.only_a}, only B on {test.only_b}"
        lines.append(f"seed {test.seed}: {right}, p = {test.p:.2g} (exact McNemar)")
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])
