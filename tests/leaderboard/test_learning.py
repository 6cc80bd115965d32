"""Curves as inline SVG: every point where a naive map puts it, names apart, none where there is nothing to compare."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ssl_suite.evaluation import benchmark
from ssl_suite.leaderboard import learning
from ssl_suite.leaderboard.table import Section


def row(arm: str, losses: list[list[float]]) -> dict[str, Any]:
    curves = {str(seed): {"step": [10, 20, 30], "loss": one} for seed, one in enumerate(losses)}
    facts = {"run_id": arm, "created": "2026-01-01T00:00:00Z", "task": {"name": "a@b"}, "budget": {"name": "small"}}
    return {"arm": arm, "curves": curves} | facts


def made(*rows: dict[str, Any]) -> tuple[Section, Any, Any]:
    column: Any = type("Column", (), {"task": {"name": "a@b", "title": "A"}})()
    table = Section("small")
    for one in rows:
        line: Any = type("Line", (), {"arm": one["arm"]})()
        table.cells[line, column] = type("Cell", (), {"row": one})()  # type: ignore[assignment]
    return table, column, benchmark.load("cross_domain")


def points(text: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def test_points_lie_where_a_naive_map_puts_them() -> None:
    bert, rand = [[2.0, 1.0, 0.5], [1.0, 1.0, 0.1]], [[2.0, 2.0, 1.9]]
    drawn = learning.panel(*made(row("rand", rand), row("BERT", bert), row("k-mer linear", rand)))
    assert drawn is not None and [one.arm for one in sorted(drawn.arms, key=lambda one: one.arm)] == ["BERT", "rand"]
    assert "BERT ends at 0.3" in drawn.description and "30 steps" in drawn.description
    one = next(one for one in drawn.arms if one.arm == "BERT")
    top, bottom = learning.TOP, learning.HEIGHT - learning.BOTTOM
    for (x, y), step, loss in zip(points(one.line), (10, 20, 30), np.mean(bert, axis=0), strict=True):
        assert abs(x - (drawn.left + (drawn.right - drawn.left) * step / 30)) < 0.06
        assert abs(y - (top + (bottom - top) * (2.0 - loss) / 2.0)) < 0.06
    heights = [y for _, y in points(one.band)]
    assert all(high <= low for high, low in zip(heights[:3], heights[:2:-1], strict=True))


def test_names_stay_apart_and_inside() -> None:
    same = [[1.0, 0.5, 0.02]]
    drawn = learning.panel(*made(row("BERT", same), row("re-emb", same), row("rand", same)))
    assert drawn is not None
    ends = sorted(one.end for one in drawn.arms)
    assert all(b - a >= 14 - 1e-9 for a, b in itertools.pairwise(ends)) and ends[-1] <= drawn.bottom + 1e-9


def test_one_arm_is_no_comparison() -> None:
    assert learning.panel(*made(row("BERT", [[1.0, 0.5, 0.1]]))) is None
    assert learning.panel(*made(row("BERT", [[1.0, 0.5, 0.1]]), row("rand", []))) is None
