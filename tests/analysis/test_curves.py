"""Curves of rows: which are taken, where they end, when one has come as far as another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from ssl_suite.analysis import curves
from ssl_suite.core.errors import SuiteError


def row(arm: str, losses: list[list[float]], created: str = "2026-01-01T00:00:00Z", **other: Any) -> dict[str, Any]:
    parts = {str(i): {"step": list(range(10, 10 * len(one) + 1, 10)), "loss": one} for i, one in enumerate(losses)}
    return {
        "arm": arm,
        "run_id": f"{arm}-{created}",
        "created": created,
        "task": {"name": "a@b"},
        "budget": {"name": "small"},
        "curves": parts,
    } | other


FALLING = [[1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1], [1.0, 0.6, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3]]
FLAT = [[1.0, 0.9, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5]]


def test_the_newest_row_of_an_arm_is_taken_and_measured_by_hand() -> None:
    found = curves.of_rows([row("BERT", FALLING, "2026-02-01T00:00:00Z"), row("BERT", FLAT), row("rand", FLAT)], "a")
    assert [curve.arm for curve in found] == ["BERT", "rand"] or [curve.arm for curve in found] == ["rand", "BERT"]
    lines = {line["arm"]: line for line in curves.summary(found)}
    assert lines["BERT"]["end"] == pytest.approx((0.1 + 0.3) / 2)
    assert lines["rand"]["end"] == pytest.approx(0.5)
    assert lines["BERT"]["reaches"] == 30  # means 1.0 .7 .5: at 30 it is where rand ends
    assert lines["rand"]["reaches"] == 100
    assert (lines["BERT"]["seeds"], lines["BERT"]["steps"]) == (2, 100)


def test_budgets_are_not_mixed() -> None:
    small = [row("BERT", FALLING), row("rand", FLAT)]
    warm = [row(arm, FALLING, "2026-03-01T00:00:00Z", budget={"name": "warm"}) for arm in ("rand", "specific-SSL")]
    assert {each.run_id for each in curves.of_rows(small + warm[:1], "a")} == {each["run_id"] for each in small}
    assert {each.run_id for each in curves.of_rows(small + warm, "a")} == {each["run_id"] for each in warm}  # as many
    assert {each.run_id for each in curves.of_rows(small + warm, "a", None, "small")} == {
        each["run_id"] for each in small
    }
    first = curves.of_rows(small + warm, "a", None, None, "small")  # the plan's, where it has two arms
    assert {each.run_id for each in first} == {each["run_id"] for each in small}
    assert len(curves.of_rows(small[:1] + warm, "a", None, None, "small")) == 2  # and not of one
    with pytest.raises(SuiteError, match="task=a: no row of budget long with loss curves"):
        curves.of_rows(small, "a", None, "long")


def test_tokens_until_the_loss_of_the_other_arm_is_reached() -> None:
    spent = {"name": "small", "tokens": 4000, "steps": 200}  # of two seeds
    found = curves.of_rows([row("BERT", FALLING, budget=spent), row("rand", FLAT)], "a")
    lines = {line["arm"]: line for line in curves.summary(found)}
    assert (lines["BERT"]["reaches"], lines["BERT"]["reaches_tokens"]) == (30, 600)
    assert lines["rand"]["reaches_tokens"] is None  # its row does not say how many a step reads


def test_a_tenth_of_the_steps_must_be_as_low() -> None:
    losses = np.full(20, 0.9)
    losses[4], losses[10:12], losses[19] = 0.1, 0.3, 0.1  # a single low point does not count
    curve = curves.Curve("x", "x", np.arange(1, 21), losses[None])
    assert curve.reaches(0.3) == 11
    assert curve.reaches(0.2) is None


def test_figure_and_numbers(tmp_path: Path) -> None:
    found = curves.of_rows([row("BERT", FALLING), row("rand", FLAT)], "a@b", ["BERT"])
    assert [curve.arm for curve in found] == ["BERT"]
    curves.draw(found, tmp_path / "x" / "c.png", "title")
    curves.write_numbers(found, tmp_path / "x" / "c.json")
    assert Image.open(tmp_path / "x" / "c.png").size[0] > 500
    stored = json.loads((tmp_path / "x" / "c.json").read_text())
    assert stored["curves"][0]["loss"] == FALLING
    first = (tmp_path / "x" / "c.png").read_bytes()
    curves.draw(found, tmp_path / "x" / "c.png", "title")
    assert (tmp_path / "x" / "c.png").read_bytes() == first


def test_no_curves() -> None:
    with pytest.raises(SuiteError, match=r"task=c: no row with loss curves.*There are curves of a@b\."):
        curves.of_rows([row("BERT", FALLING)], "c")
    with pytest.raises(SuiteError, match="There are curves of no task"):
        curves.of_rows([row("majority", FALLING, curves={})], "a")


def test_a_long_curve_is_averaged_in_blocks() -> None:
    losses_SP = np.random.default_rng(0).normal(size=(2, 130))
    found = curves.blocks(curves.Curve("x", "x", np.arange(1, 131), losses_SP))
    assert found.steps_P.tolist() == [*range(3, 130, 3), 130]
    expected = [[one[i : i + 3].mean() for i in range(0, 130, 3)] for one in losses_SP]
    np.testing.assert_allclose(found.losses_SP, expected)
    short = curves.Curve("x", "x", np.arange(60), losses_SP[:, :60])
    assert curves.blocks(short) is short


def test_the_area_is_that_of_a_naive_sum_over_equal_tokens() -> None:
    """The second arm reads twice as many tokens a step, and ends later; one seed is its alone."""
    rng = np.random.default_rng(3)
    steps_P, more_P = np.arange(1, 41), np.arange(1, 31)
    low_SP, high_SP = rng.uniform(0, 1, (3, 40)), rng.uniform(1, 2, (4, 30))
    a = curves.Curve("tuned", "x", steps_P, low_SP, ("100", "101", "102"), 50.0)
    b = curves.Curve("scratch", "y", more_P, high_SP, ("99", "102", "101", "100"), 100.0)
    found = curves.area(a, b)
    assert found is not None and found.seeds == 3 and found.tokens == 2000.0
    fine = np.linspace(100, 2000, 190_001)
    pairs = [(low_SP[i], high_SP[j]) for i, j in ((0, 3), (1, 2), (2, 1))]
    gaps = np.array(
        [(np.interp(fine, more_P * 100.0, y) - np.interp(fine, steps_P * 50.0, x)).mean() for x, y in pairs]
    )
    assert found.value == pytest.approx(gaps.mean(), abs=1e-4)
    spread = gaps.std(ddof=1) / np.sqrt(3)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(gaps.mean() / spread), 2), rel=1e-2)
    assert found.high == pytest.approx(gaps.mean() + stats.t.ppf(0.975, 2) * spread, abs=1e-3)


def test_one_seed_has_an_area_and_no_test() -> None:
    found = curves.of_rows([row("BERT", FALLING[:1]), row("rand", FLAT)], "a")
    (area,) = curves.areas(found, [("BERT", "rand"), ("BERT", "other")])
    assert area.value > 0 and area.p is None
    assert curves.area(found[0], replace(found[1], seeds=("7",))) is None
