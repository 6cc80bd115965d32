"""The lecture's analyses, one file each: ``KEYS``, and ``main``; the file's docstring is what ``--help`` shows.

The work is done in ``ssl_suite.analysis``. The settings of an analysis's budgets stand in
``conf/analysis/NAME.yaml``: what is not given comes from there.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_suite.commands.words import Key, parse_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ssl_suite.analysis.report import Report

HERE = "ssl_suite.commands.analyses"
ANALYSES = {
    "alignment": f"{HERE}.alignment:main",
    "context": f"{HERE}.context:main",
    "curves": f"{HERE}.curves:main",
    "icl": f"{HERE}.icl:main",
    "language_vector": f"{HERE}.language_vector:main",
    "layers": f"{HERE}.layers:main",
    "map": f"{HERE}.map:main",
    "vectors": f"{HERE}.vectors:main",
    "written": f"{HERE}.written:main",
}
COMMON = {
    "budget": Key("small", choices=("smoke", "small")),
    "out": Key(None, example="runs/analysis"),
    "publish": Key("false", choices=("true", "false")),
    "seed": Key(0, int, least=0),
    "data.root": Key(None, example="/data"),
    "data.cache": Key(None, example="/big/cache"),
    "threads": Key(None, int, least=1),
}
PUBLISHED = "leaderboards/analyses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, see below")


def read(name: str, words: Sequence[str], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Every setting of an analysis: from the words, else from the budget, else its default.

    ``command`` is what was written, and ``place`` where data sets lie, as ``data.sources`` takes it.
    """
    import torch

    from ssl_suite.settings import config

    given = parse_words(words, {**keys, **COMMON})
    budget = config.option("analysis", name)[given["budget"]]
    given |= {key: value for key, value in budget.items() if given.get(key) is None}
    if given["threads"]:
        torch.set_num_threads(given["threads"])
    own = ("out=", "publish=", "data.root=", "data.cache=", "threads=")  # of the machine, which changes no number
    given["command"] = shlex.join(["ssl_suite", "analyse", name, *(word for word in words if not word.startswith(own))])
    given["place"] = {"root": given["data.root"], "cache": given["data.cache"]}
    return given


def finish(report: Report, given: Mapping[str, Any]) -> int:
    """Write the report and say what came out."""
    from ssl_suite.analysis.report import write

    default = PUBLISHED if given["publish"] == "true" else "runs/analysis"
    page = write(report, Path(given["out"] or default))
    print("\n".join([*report.answer, str(page)]))
    return 0
