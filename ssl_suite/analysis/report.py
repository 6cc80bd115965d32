"""What an analysis hands over: an answer, figures, and every number that they show, as files and as a page.

A figure is drawn twice, in light and in dark colours; the page shows the one that the reader's system asks for.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_suite.core import atomic
from ssl_suite.core.errors import SuiteError

DPI = 160  # 7.5 inches are 1,200 pixels, and legible at 800
MOST = 60  # rows of a table on the page; the CSV has all
TEMPLATES = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Colours:
    """Of a figure: the ground, text and lines; series in the order in which they are taken; maps of matplotlib."""

    ground: str
    ink: str
    soft: str
    faint: str
    series: tuple[str, ...]
    diverging: str
    sequential: str


# Okabe & Ito (2008), darkened or lightened to 3:1 on the ground.
LIGHT = Colours(
    "#ffffff", "#1c2330", "#4d5666", "#d5d9e0",
    ("#0060a8", "#b85400", "#00765a", "#a0337e", "#5f6670", "#8a6d00"), "RdBu_r", "viridis",
)  # fmt: skip
DARK = Colours(
    "#14171d", "#e7eaf0", "#a9b2c0", "#363d49",
    ("#6cb4f0", "#f0a060", "#55c8a4", "#e58fc8", "#a4adba", "#e0c34a"), "RdBu_r", "viridis",
)  # fmt: skip

Draw = Callable[[Any, Colours], None]


@dataclass(frozen=True)
class Report:
    """One analysis, done.

    Attributes:
        name: of its files.
        title: of its page.
        answer: what came out, in sentences.
        rows: every number that a figure shows, flat; they may have different columns.
        figures: by the name of the file what draws on an empty matplotlib figure.
        notes: what it was made of and how to read it, in sentences.
        command: that makes it again.
        settings: that it was made with; for the JSON.
        tables: of the page, by caption; the rows where there is none.
        captions: of the figures, by name: also their text for those who do not see them.
        extra: further files beside the page, by name.
    """

    name: str
    title: str
    answer: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    figures: Mapping[str, Draw]
    notes: Sequence[str]
    command: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)


def write(report: Report, out: Path) -> Path:
    """Write ``NAME.csv``, ``NAME.json``, each figure as ``STEM.png`` and ``STEM.dark.png``, ``NAME.md`` and ``.html``.

    Returns:
        the HTML page.

    Raises:
        SuiteError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures = {}
        for stem, draw in report.figures.items():
            pictures[stem] = [picture(draw, colours) for colours in (LIGHT, DARK)]
            for end, content in zip((".png", ".dark.png"), pictures[stem], strict=True):
                with atomic.replacing(out / f"{stem}{end}") as unfinished:
                    unfinished.write_bytes(content)
        atomic.write(out / f"{report.name}.csv", table(report.rows))
        found = {"settings": report.settings, "command": report.command, "rows": list(report.rows)}
        atomic.write(out / f"{report.name}.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        atomic.write(out / f"{report.name}.md", _page(report, "page.md.j2", pictures))
        atomic.write(out / f"{report.name}.html", _page(report, "page.html.j2", pictures))
        for name, text in report.extra.items():
            atomic.write(out / name, text)
    except OSError as error:
        raise SuiteError(f"out={out} cannot be written ({error.strerror or error}); choose another folder.") from error
    return out / f"{report.name}.html"


def picture(draw: Draw, colours: Colours) -> bytes:
    """The PNG of a figure."""
    import matplotlib
    from cycler import cycler

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    style: Any = {
        "figure.facecolor": colours.ground, "axes.facecolor": colours.ground, "savefig.facecolor": colours.ground,
        "text.color": colours.ink, "axes.labelcolor": colours.ink, "axes.titlecolor": colours.ink,
        "xtick.color": colours.soft, "ytick.color": colours.soft, "axes.edgecolor": colours.soft,
        "grid.color": colours.faint, "legend.frameon": False, "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=colours.series),
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.5, 4.6), layout="constrained")
        draw(figure, colours)
        found = io.BytesIO()
        figure.savefig(found, format="png", dpi=DPI, metadata={"Software": None})
    return found.getvalue()


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names in all rows, in the order in which they appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV; what a row lacks is empty."""
    found = io.StringIO()
    writer = csv.DictWriter(found, columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return found.getvalue()


def shown(value: Any) -> str:
    """A value for a reader."""
    if value is None or value == "":
        return ""
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _page(report: Report, template: str, pictures: Mapping[str, list[bytes]]) -> str:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape="html" in template,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["shown"] = shown
    made.filters["cell"] = lambda value: shown(value).replace("|", "\\|").replace("\n", " ")
    tables = {
        caption: (columns(rows), rows[:MOST], len(rows))
        for caption, rows in (report.tables or {"All numbers": report.rows}).items()
    }
    coded = {stem: [base64.b64encode(one).decode() for one in both] for stem, both in pictures.items()}
    return made.get_template(template).render(report=report, tables=tables, pictures=coded)
