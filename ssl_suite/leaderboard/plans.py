"""Plans: rows of a planned budget are held to what their benchmark committed before anything was measured, and its main
contrast is decided by the test that stands there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import benchmark, budget
from ssl_suite.evaluation.benchmark import Plan
from ssl_suite.evaluation.significance import holm
from ssl_suite.leaderboard.table import Contrast, Section

NORMAL = NormalDist()


def departures(row: Mapping[str, Any], root: Path) -> list[tuple[Literal["fail", "mark"], str]]:
    """What in a row is not as planned; empty where there is no plan for it.

    A row that says itself what it changed (``budget.KEY=``, ``seeds=``) is marked; one that keeps silent fails.
    """
    try:
        plan = benchmark.load(row["benchmark"]).plan
    except SuiteError:  # a benchmark of the user's own folder
        return []
    if plan is None or row["budget"]["name"] != plan.budget:
        return []
    said = row["budget"].get("overrides") or {}
    planned = budget.load(plan.budget).of_cell(row["task"]["name"].partition("@")[0], row["arm"])
    used = (row.get("config") or {}).get("budget", {})
    found: list[tuple[Literal["fail", "mark"], str]] = []
    for key, wanted in planned.facts().items():
        good = used.get(key) in (wanted, wanted + plan.more_seeds) if key == "seeds" else used.get(key) == wanted
        if not good:
            text = f"the plan {plan.page} has {key} {wanted}, and the row {used.get(key)}."
            found.append(("mark" if key in said else "fail", text))
    if row.get("git_commit") and _page_at(row["git_commit"], plan.page, root) is False:
        found.append(("fail", f"it was measured at a commit that does not hold the plan {plan.page}."))
    return found


@cache
def _page_at(commit: str, page: str, root: Path) -> bool | None:
    """Whether a commit holds the plan; None where git does not know the commit."""

    def known(what: str) -> bool:
        command = ["git", "-C", str(root), "cat-file", "-e", what]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0

    try:
        return known(f"{commit}:./plans/{page}") if known(f"{commit}^{{commit}}") else None
    except (OSError, subprocess.SubprocessError):
        return None


def judge(found: Sequence[Contrast], section: Section, plan: Plan, columns: int) -> list[Contrast]:
    """The contrasts with the one-sided p-values that decide, and a verdict each: ``shown``, ``shown not to hold``, or
    ``undecided`` with its power.

    One-sided p-values, Holm's correction over the columns of each stage: in the first over all, those that are not yet
    measured or went on to the second counting as p = 1, which changes none before them; in the second over those.

    Args:
        found: of one variant, in the section of the planned budget.
        columns: of the benchmark.
    """
    stages: list[list[Contrast]] = [[], []]
    first = budget.load(plan.budget)
    for each in found:
        planned = [first.of_cell(each.column.task["name"].partition("@")[0], x.arm).seeds for x in _lines(each)]
        used = [section.cells[line, each.column].row["seeds"] for line in _lines(each)]
        both = [seeds + plan.more_seeds for seeds in planned]
        if used in (planned, both):
            stages[used == both].append(each)
    judged: dict[int, Contrast] = {}
    for stage, alpha, family in zip(stages, plan.alpha, (columns, len(stages[1])), strict=False):
        p_values = [each.p / 2 if each.gain > 0 else 1 - each.p / 2 for each in stage]
        corrected = holm([*p_values, *[1.0] * (family - len(stage))])
        for each, p, after in zip(stage, p_values, corrected, strict=False):
            verdict = _verdict(each, after, alpha, plan.margin / 100, family)
            judged[id(each)] = replace(each, verdict=verdict, p=p, holm=after)
    return [judged.get(id(each), replace(each, verdict="not as planned")) for each in found]


def _lines(each: Contrast) -> tuple[Any, Any]:
    return each.first, each.second


def _verdict(each: Contrast, p: float, alpha: float, margin: float, family: int) -> str:
    if p <= alpha:
        return "shown"
    if each.high < margin:
        return "shown not to hold"
    if each.published is None:
        return "undecided"
    error = (each.high - each.low) / (2 * NORMAL.inv_cdf(0.975))
    power = NORMAL.cdf(each.published / 100 / error - NORMAL.inv_cdf(1 - alpha / family))
    return f"undecided (power {power:.2f} against the published difference)"
