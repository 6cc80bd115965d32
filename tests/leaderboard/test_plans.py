"""Rows against the plan of their benchmark, in a repository of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ssl_suite.evaluation import budget
from ssl_suite.leaderboard import plans


def git(root: Path, *words: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *name, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A leaderboards folder with two commits; only the second holds the plan."""
    board = tmp_path / "leaderboards"
    (board / "plans").mkdir(parents=True)
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "a")
    (board / "plans" / "cross_domain.md").write_text("a plan\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "b")
    return board


def row(root: Path, commit: str = "HEAD", arm: str = "BERT", **changes: Any) -> dict[str, Any]:
    facts = budget.load("decided").of_cell("h4", arm).facts() | changes
    return {
        "benchmark": "cross_domain",
        "arm": arm,
        "task": {"name": "h4@gue20"},
        "budget": {"name": "decided"},
        "config": {"budget": facts},
        "git_commit": git(root, "rev-parse", commit),
    }


def test_a_row_as_planned_holds_in_either_stage(root: Path) -> None:
    assert plans.departures(row(root), root) == []
    assert plans.departures(row(root, seeds=[100, 101, 102, 103, 104, 105, 106, 107]), root) == []
    assert plans.departures(row(root, arm="re-emb", seeds=[100, 101, 102]), root) == []
    assert plans.departures({"benchmark": "cross_domain", "budget": {"name": "small"}}, root) == []
    assert plans.departures({"benchmark": "somebody's own", "budget": {"name": "decided"}}, root) == []


def test_a_departure_fails_and_one_that_is_told_is_marked(root: Path) -> None:
    (silent,) = plans.departures(row(root, tokens=10**6), root)
    assert silent == ("fail", "the plan cross_domain.md has tokens 300000, and the row 1000000.")
    told = row(root, seeds=[100])
    told["budget"]["overrides"] = {"seeds": [100]}
    ((level, text),) = plans.departures(told, root)
    assert level == "mark" and "has seeds [100, 101, 102, 103, 104], and the row [100]" in text
    assert {level for level, _ in plans.departures({**row(root), "config": None}, root)} == {"fail"}


def test_a_row_from_before_the_plan_fails(root: Path) -> None:
    ((level, text),) = plans.departures(row(root, commit="HEAD~1"), root)
    assert level == "fail" and "a commit that does not hold the plan" in text
    assert plans.departures({**row(root), "git_commit": "0" * 40}, root) == []  # unknown: marked elsewhere
