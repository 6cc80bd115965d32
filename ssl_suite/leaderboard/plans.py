"""Rows of a planned budget, held to the plan that their benchmark committed before anything was measured."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ssl_suite.core.errors import SuiteError
from ssl_suite.evaluation import benchmark, budget


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
