"""Write the pages of a leaderboard: Markdown, one self-contained HTML file, and a PNG for the README.

A page says only what follows from rows whose verification passes; the others are listed as failing. It holds no time
and no path of the machine, so the same rows give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError
from ssl_suite.core.wording import count, duration
from ssl_suite.evaluation import rows
from ssl_suite.leaderboard import figures, learning, table, verify, words
from ssl_suite.leaderboard.table import Board, Cell, Column, Line, Table

TEMPLATES = Path(__file__).resolve().parent / "templates"
SIGNATURE = "Written by `ssl_suite board render`"  # in the first line of every Markdown page
MODALITIES = {"dna": "DNA"}


def render(root: Path, benchmark: str | None = None) -> list[Path]:
    """Write ``BENCHMARK.md``, ``.html`` and ``.png`` into ``root``.

    Args:
        root: a leaderboards folder (``rows/`` and ``predictions/`` in it). benchmark: default: all that have rows.

    Returns:
        the files written.

    Raises:
        SuiteError: there are no rows, or a page cannot be written.
    """
    root = Path(root)
    known = rows.benchmarks(root)
    if not known:
        raise SuiteError(f"There are no rows below {root}: `ssl_suite bench` writes them.")
    if benchmark is not None:
        rows.row_files(root, benchmark)  # its error names the nearest benchmark
    written: list[Path] = []
    for name in known if benchmark is None else [benchmark]:
        board = load(root, name)
        intro = words.introduction(name)
        paths = [root / f"{name}{ending}" for ending in (".md", ".html", ".png")]
        try:
            texts = [markdown(board), html(board)]
            check_own(paths)
            for path, text in zip(paths, texts, strict=False):
                atomic.write(path, text)
            figures.picture(board.main, board.references, paths[2], gaps(board), intro.title, intro.lecture)
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


def load(root: Path, benchmark: str) -> Board:
    """The benchmark's rows, verified and compared.

    Raises:
        SuiteError: no row is of this benchmark.
    """
    findings = verify.verify(root, benchmark)
    # A page is the same wherever the folder lies.
    failing = [(each.row, each.text.replace(f"{root}/", "")) for each in findings if each.level == "fail"]
    bad = {name for name, _ in failing}
    good = [rows.read(path) for path in rows.row_files(root, benchmark) if path.stem not in bad]
    marks: dict[str, list[str]] = {}
    for each in findings:
        if each.level == "mark":
            marks.setdefault(each.row, []).append(each.text)
    return table.build(root, benchmark, good, failing, marks)


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
    shown = [cell.row for each in board.tables() for cell in each.cells.values()]
    return {
        "board": board,
        "intro": words.introduction(board.benchmark),
        "words": words,
        "contrast": table.contrast,
        "role": figures.role,
        "level": table.LEVEL,
        "draws": table.DRAWS,
        "few": rows.FEWEST,
        "forest": lambda each, column: figures.forest(each, board.references, column, gaps(board)),
        "lecture": lambda each, line, column: figures.published(each, board.references, line, column),
        "has_lecture": lambda column: column.reference in board.references.order,
        "gap": gaps(board),
        "modality": lambda name: MODALITIES.get(name, str(name).capitalize()),
        "panels": [(column, drawn) for column in board.main.columns if (drawn := learning.panel(board.main, column))],
        "findings": lambda each: _findings(board, each),
        "titled": lambda each, column: words.titled(column, settings=_differ(board, each)),
        "differ": lambda each: _differ(board, each),
        "pretraining": lambda each: each.contrasts.get(("specific-SSL", "specific-scratch"), []),
        "arms": _arms(board),
        "groups": lambda each: _groups(board, each),
        "made_by": lambda each: [made(each, line) for line in each.lines],
        "facts": facts,
        "marked": [(cell.row, cell.marks) for each in board.tables() for cell in each.cells.values() if cell.marks],
        "count": len(shown),
        "anchor": lambda row: f"row-{row['run_id']}",
        "span": span,
    }


def span(cell: Cell) -> str:
    """The interval, as short as it can be read: ``81.9–84.3``, below zero ``−1.2 to 3.4``."""
    low, high = words.points(cell.low), words.points(cell.high)
    return f"{low} to {high}" if words.MINUS in low + high else f"{low}–{high}"


def gaps(board: Board) -> figures.Gap:
    """What an empty cell says: not measured, or in a setting of another column alone."""
    places = [(line.arm, where) for each in board.tables() for line, where in each.cells]
    tasks = {(arm, where.task["name"]) for arm, where in places}

    def gap(line: Line, column: Column) -> str:
        elsewhere = (line.arm, column.task["name"]) in tasks and (line.arm, column) not in places
        return words.missing(line, column, elsewhere)

    return gap


def _findings(board: Board, each: Table) -> list[tuple[Line, list[words.Finding]]]:
    """The lecture's finding for every BERT line, over the columns it was measured in (the main table's first: all)."""
    lines = [line for line in each.lines if line.arm == "BERT"]
    found = []
    for line in lines:
        whole = each is board.main and line == lines[0]
        columns = [column for column in each.columns if whole or (line, column) in each.cells]
        found.append((line, [words.finding(board, each, column, line) for column in columns]))
    return found


def _differ(board: Board, each: Table) -> bool:
    """Whether columns must say their budget: it is not one for all, or this is the table of further settings."""
    return each is board.other or len({column.budget for column in each.columns}) > 1


def _arms(board: Board) -> list[tuple[str, str]]:
    """The legend: the arms on the page, a sentence each."""
    here = {line.arm for each in board.tables() for line in each.lines}
    return [(arm, words.ARM_WORDS.get(arm, "")) for arm in sorted(here, key=table.arm_order)]


def _groups(board: Board, each: Table) -> list[tuple[str, int]]:
    """Modalities of neighbouring columns, with the number of cells a line: two where there is a published number."""
    found: list[tuple[str, int]] = []
    for column in each.columns:
        name, width = column.task["modality"], 2 if column.reference in board.references.order else 1
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + width)
        else:
            found.append((name, width))
    return found


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


def made(each: Table, line: Line) -> Made:
    """The settings of a line over all its columns."""
    found = [each.cells[line, column].row for column in each.columns if (line, column) in each.cells]

    def several(values: Any, mark: str = ", ") -> str:
        return mark.join(dict.fromkeys(str(value) for value in values if value not in (None, "")))

    params = sorted({row["encoder"]["params"] for row in found if row["encoder"].get("params")})
    millions = [f"{count / 1e6:.3g} million" for count in params]
    budgets = (
        f"{row['budget']['name']}: {count(row['budget']['trials'], 'trial')}"
        + (f", {count(row['budget']['steps'], 'step')} in all" if row["budget"].get("steps") else "")
        for row in found
    )
    seconds = sum(row["budget"]["seconds"] for row in found)
    return Made(
        line,
        several(row["encoder"].get("ref") for row in found) or "none",
        several((row["encoder"].get("note") for row in found), "; "),
        (millions[0] if len(set(millions)) == 1 else f"{millions[0]} to {millions[-1]}") if millions else "–",
        several(row["protocol"]["name"] for row in found),
        several(budgets, "; "),
        several(len(row["seeds"]) for row in found),
        f"{duration(seconds)} on {several((row['budget']['device'] for row in found), ' and ')}",
    )


def facts(row: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything a row says, by group: (heading, [(name, text)])."""
    small = row["task"]["n_test"] < rows.FEWEST
    scores = []
    for metric in row["metrics"]:
        low, high = (words.points(bound) for bound in metric["ci95"])
        mean = "" if small else f"{words.points(metric['value'])}, "
        each = ", ".join(words.points(value) for value in metric["per_seed"])
        scores.append((words.unit(metric["name"]), f"{mean}95 % interval {low} to {high}; by seed {each}"))
    origin = ("run_id", "created", "git_commit", "git_dirty", "config_sha256", "schema_version")
    groups = {
        "scores": scores,
        "encoder": list(row["encoder"].items()),
        "protocol": list(row["protocol"].items()),
        "budget": list(row["budget"].items()),
        "seeds": [("seeds", row["seeds"])],
        "choice on dev": list((row.get("selection") or {}).items()),
        "data": [(key, value) for key, value in row["task"].items() if key not in ("caveat", "title")],
        "origin": [(key, row.get(key)) for key in origin] + list(row["env"].items()),
        "predictions": list(row["predictions"].items()),
    }
    return [
        (name, [(key.replace("_", " "), _text(value)) for key, value in pairs])
        for name, pairs in groups.items()
        if pairs
    ]


def _text(value: Any) -> str:
    """A value of a row for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "–"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(_text(inner) for inner in value) or "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10000 else str(value)
