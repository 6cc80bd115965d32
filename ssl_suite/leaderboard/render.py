"""Write the pages of a leaderboard: Markdown, one self-contained HTML file, and a PNG for the README.

A page says only what follows from rows whose verification passes; the others are listed as failing. It holds no time
and no path of the machine, so the same rows give the same bytes. The words that belong to one benchmark stand in its
YAML (``evaluation.benchmark``); nothing here knows one by name.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count, duration
from ssl_suite.evaluation import rows
from ssl_suite.leaderboard import comparisons, figures, learning, matrix, relative, table, verify, words
from ssl_suite.leaderboard.table import Board, Column, Line, Section

TEMPLATES = Path(__file__).resolve().parent / "templates"
SIGNATURE = "Written by `ssl_suite board render`"  # in the first line of every Markdown page
MODALITIES = {"dna": "DNA"}
CSV = ("benchmark", "task", "modality", "arm", "encoder", "protocol", "budget", "metric", "value", "low", "high")


def render(root: Path, benchmark: str | None = None, own: str | None = None) -> list[Path]:
    """Write ``BENCHMARK.md``, ``.html`` and ``.png`` into ``root``.

    Args:
        root: a leaderboards folder (``rows/`` and ``predictions/`` in it).
        benchmark: default: all that have rows.
        own: a folder of the user's own benchmarks.

    Returns the files written.

    Raises SuiteError: there are no rows, or a page cannot be written.
    """
    root = Path(root)
    known = rows.benchmarks(root)
    if not known:
        raise SuiteError(f"There are no rows below {root}: `ssl_suite bench` writes them.")
    if benchmark is not None:
        rows.row_files(root, benchmark)  # its error names the nearest benchmark
    written: list[Path] = []
    for name in known if benchmark is None else [benchmark]:
        board = load(root, name, own)
        paths = [root / f"{name}{ending}" for ending in (".md", ".html", ".png")]
        try:
            texts = [markdown(board), html(board)]
            check_own(paths)
            for path, text in zip(paths, texts, strict=False):
                atomic.write(path, text)
            section = board.sections[0] if board.sections else Section("none")
            found = table.main_contrast(board, section) if board.sections else []
            figures.picture(found, board.benchmark, section.budget, paths[2])
        except OSError as error:
            raise SuiteError(
                f"The page of {name} cannot be written into {root} ({error.strerror or error})."
            ) from error
        written += paths
    return written


def check_own(paths: list[Path]) -> None:
    """Refuse to replace files that are no page of this command's; the Markdown, first of ``paths``, tells."""
    taken = [path for path in paths if path.exists()]
    if taken and not (paths[0].is_file() and SIGNATURE in paths[0].read_text("utf-8", errors="replace")[:200]):
        raise SuiteError(f"{taken[0]} is no page of `ssl_suite board render` and would be lost: move it away.")


def load(root: Path, benchmark: str, own: str | None = None) -> Board:
    """The benchmark's rows, verified and compared. Raises SuiteError: no row is of this benchmark."""
    findings = verify.verify(root, benchmark)
    # A page is the same wherever the folder lies.
    failing = [(each.row, each.text.replace(f"{root}/", "")) for each in findings if each.level == "fail"]
    bad = {name for name, _ in failing}
    good = [rows.read(path) for path in rows.row_files(root, benchmark) if path.stem not in bad]
    marks: dict[str, list[str]] = {}
    for each in findings:
        if each.level == "mark" and each.text != verify.EARLIER:  # which a column says of all its rows
            marks.setdefault(each.row, []).append(each.text)
    return table.build(root, benchmark, good, failing, marks, own)


def html(board: Board) -> str:
    """The page as one HTML document that needs no other file."""
    return _environment(escape=True).get_template("page.html.j2").render(_context(board)).lstrip()


def markdown(board: Board) -> str:
    """The page for GitHub."""
    return _environment(escape=False).get_template("page.md.j2").render(_context(board)).lstrip()


def _environment(escape: bool) -> Any:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["md"] = plain
    made.filters["code"] = code
    made.filters["zip_"] = lambda a, b: list(zip(a, b, strict=True))
    return made


def code(text: Any) -> str:
    """Text as Markdown code, in which an @ makes no link, on one line and without an end of a table's cell."""
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def plain(text: Any) -> str:
    """Text for a cell of a Markdown table: one line in which nothing is markup."""
    escaped = " ".join(str(text).split()).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|*`[]~":
        escaped = escaped.replace(mark, f"\\{mark}")
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # inside a word it is no markup


def _context(board: Board) -> dict[str, Any]:
    found, first = board.benchmark, board.sections[0] if board.sections else Section("none")
    main = table.main_contrast(board, first) if board.sections else []
    shown = [cell for section in board.sections for cell in section.cells.values()]
    asked = next((pair for pair in found.contrasts if pair.main), None)
    return {
        "board": board,
        "bench": found,
        "name": found.name,
        "words": words,
        "asked": asked,
        "answer": words.answer(main, len(found.tasks if main and main[0].verdict else first.columns)) if asked else "",
        "first": first,
        "main": figures.forest(figures.of_contrast(main, found), 0.0, signed=True) if main else None,
        "pair": main[0] if main else None,
        "role": lambda arm: figures.role(found, arm),
        "shade": matrix.shade,
        "level": table.LEVEL,
        "draws": comparisons.DRAWS,
        "few": rows.FEWEST,
        "panel": lambda section, column: figures.forest(*figures.of_column(section, column, found, board.references)),
        "learned": lambda section: [
            (column, drawn) for column in section.columns if (drawn := learning.panel(section, column, found))
        ],
        "more": more_metrics,
        "metrics_of": table.metrics_of,
        "published": lambda line, column: board.references.points.get((line.arm, column.reference)),
        "likeness": board.references.likeness,
        "modality": lambda name: MODALITIES.get(name, str(name).capitalize()),
        "modalities": sorted({cell.row["task"]["modality"] for cell in shown}),
        "arms": sorted(
            {line.arm for each in board.sections for line in each.lines}, key=lambda arm: table.arm_order(found, arm)
        ),
        "made_by": lambda section: [made(section, line) for line in section.lines],
        "relative": relative.drawn,
        "totalled": lambda section: {line for total in section.aggregates for line in total.by_line},
        "marked": [(cell.row, cell.marks) for cell in _distinct(board) if cell.marks],
        "rows": _distinct(board),
        "csv": base64.b64encode(table_csv(board).encode()).decode(),
        "count": count,
        "title": titled,
    }


def more_metrics(section: Section) -> list[tuple[Column, list[str]]]:
    """The columns of which rows have more than the main metric, and the names of all of them."""
    found = []
    for column in section.columns:
        rows_L = [section.cells[line, column].row for line in section.lines if (line, column) in section.cells]
        names = list(dict.fromkeys(name for row in rows_L for name in table.metrics_of(row)))
        found += [(column, names)] * (len(names) > 1)
    return found


def titled(section: Section, column: Column) -> str:
    """The task's title; where the section has several settings of it, with what tells them apart."""
    same = [other for other in section.columns if other.task["name"] == column.task["name"]]
    if len(same) == 1:
        return str(column.task["title"])
    parts = [f"train {column.task['n_train']:,}, test {column.task['n_test']:,}"]
    if len({other.head for other in same}) > 1:
        parts.append(f"heads v{column.head}")
    return f"{column.task['title']} ({', '.join(parts)})"


def _distinct(board: Board) -> list[table.Cell]:
    """The cells in the page's order, each row once."""
    cells = [
        section.cells[line, column]
        for section in board.sections
        for column in section.columns
        for line in section.lines
        if (line, column) in section.cells
    ]
    return list({cell.row["run_id"]: cell for cell in cells}.values())


def table_csv(board: Board) -> str:
    """The rows of the page as CSV: scores in the metric's own unit, the interval over items and seeds."""
    out = io.StringIO()
    made = csv.writer(out, lineterminator="\n")
    made.writerow([*CSV, "seeds", "test_items", "evidence", "run_id", "command"])
    for cell in _distinct(board):
        row = cell.row
        facts = [row["benchmark"], row["task"]["name"], row["task"]["modality"], row["arm"], row["encoder"].get("ref")]
        facts += [row["protocol"]["name"], row["budget"]["name"], row["metrics"][0]["name"]]
        facts += [f"{value:.6g}" for value in (cell.value, cell.low, cell.high)]
        evidence = "" if cell.evidence is None else "yes" if cell.evidence else "no"
        facts += [
            len(row["seeds"]),
            row["task"]["n_test"],
            evidence,
            row["run_id"],
            words.command(row, board.benchmark),
        ]
        made.writerow(facts)
    return out.getvalue()


class Made(NamedTuple):
    """How the rows of a line were made; what differs between tasks is joined."""

    line: Line
    encoder: str
    note: str
    params: str
    protocol: str
    budget: str
    seeds: str
    time: str


def made(section: Section, line: Line) -> Made:
    """The settings of a line over all its columns."""
    found = [section.cells[line, column].row for column in section.columns if (line, column) in section.cells]

    def several(values: Any, mark: str = ", ") -> str:
        return mark.join(dict.fromkeys(str(value) for value in values if value not in (None, "")))

    def budget(row: Mapping[str, Any]) -> str:
        steps = f", {count(row['budget']['steps'], 'step')} in all" if row["budget"].get("steps") else ""
        return count(row["budget"]["trials"], "trial") + steps

    params = sorted({row["encoder"]["params"] for row in found if row["encoder"].get("params")})
    millions = [f"{number / 1e6:.3g} million" for number in params]
    seconds = sum(row["budget"]["seconds"] for row in found)
    return Made(
        line,
        several(row["encoder"].get("ref") for row in found) or "none",
        several((row["encoder"].get("note") for row in found), "; "),
        (millions[0] if len(set(millions)) == 1 else f"{millions[0]} to {millions[-1]}") if millions else "–",
        several(row["protocol"]["name"] for row in found),
        several(map(budget, found), "; "),
        several(len(row["seeds"]) for row in found),
        f"{duration(seconds)} on {several((row['budget']['device'] for row in found), ' and ')}",
    )
