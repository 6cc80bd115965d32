"""Rows against the plan of their benchmark, in a repository of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from ssl_suite.evaluation import benchmark, budget
from ssl_suite.leaderboard import plans, words
from ssl_suite.leaderboard.table import Cell, Column, Contrast, Line, Section


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


PLAN = benchmark.Plan(page="x.md", budget="decided", alpha=[0.03, 0.02], more_seeds=[105, 106, 107], margin=2.0)


def decided(*asked: tuple[str, float, float, float], more: tuple[str, ...] = ()) -> list[Contrast]:
    """Contrasts by task of (task, gain, half an interval, two-sided p), of eight; ``more``: in the second stage."""
    section, found = Section("decided"), []
    lines = Line("BERT"), Line("rand")
    for task, gain, half, p in asked:
        column = Column("accuracy", True, {"name": f"{task}@x", "title": task}, "decided", 2)
        for line in lines:
            seeds = [*range(100, 108 if task in more else 105)]
            section.cells[line, column] = Cell({"seeds": seeds}, 0.5, 0.4, 0.6)
        found.append(Contrast(column, *lines, gain, gain - half, gain + half, p, p, published=8.0))
    return plans.judge(found, section, PLAN, 8)


def judged(*asked: tuple[str, float, float, float], more: tuple[str, ...] = ()) -> dict[str, str]:
    """Their verdicts."""
    return {each.column.task["title"]: each.verdict for each in decided(*asked, more=more)}


def test_verdicts_are_holms_of_one_sided_p_values() -> None:
    found = judged(("h4", 0.08, 0.03, 0.002), ("h3", 0.04, 0.03, 0.01), ("splice", -0.02, 0.03, 0.01))
    # 8 x .001 and 7 x .005 against .03; of a difference the other way p is .995.
    assert found["h4"] == "shown" and found["h3"].startswith("undecided")
    assert found["splice"] == "shown not to hold"  # at most +1 point, and a margin of 2
    h4, h3, _ = decided(("h4", 0.08, 0.03, 0.002), ("h3", 0.04, 0.03, 0.01), ("splice", -0.02, 0.03, 0.01))
    assert words.tested(h4) == "p = .001, corrected .008 (one-sided)"
    assert words.tested(h3) == "p = .005, corrected .035 (one-sided)"


def test_the_second_stage_is_a_family_of_its_own() -> None:
    found = judged(("h4", 0.08, 0.03, 0.002), ("h3", 0.04, 0.03, 0.018), more=("h3",))
    assert found == {"h4": "shown", "h3": "shown"}  # 1 x .009 against .02
    assert judged(("h3", 0.04, 0.03, 0.05), more=("h3",))["h3"].startswith("undecided")  # .025


def test_power_is_that_of_the_normal_test() -> None:
    text = judged(("h3", 0.04, 0.0588, 0.2))["h3"]
    error, draws = 0.0588 / 1.96, np.random.default_rng(0).normal(0.08, 0.0588 / 1.96, 200_000)
    power = float((draws / error > norm.ppf(1 - 0.03 / 8)).mean())
    assert float(text.split("power ")[1].split()[0]) == pytest.approx(power, abs=0.01)


def test_the_page_says_what_was_decided() -> None:
    found = decided(("h4", 0.08, 0.03, 0.002), ("h3", 0.04, 0.03, 0.01), ("splice", -0.02, 0.03, 0.01))
    assert words.answer(found, 8) == (
        "By the test that was fixed beforehand, that BERT is better than rand is shown on 1 (h4), shown not to hold on "
        "1 (splice) and undecided on 1 (h3). Its score is the higher one on 2 of 3; not measured yet: 5 tasks of the "
        "plan."
    )
    assert [each.outcome for each in found] == ["better", "open", "open"]
