"""The heat map of sources and targets: its families of tests, its means and what is said of it."""

from __future__ import annotations

from statistics import fmean

import pytest

from ssl_suite.evaluation.benchmark import Matrix
from ssl_suite.leaderboard import matrix, words
from ssl_suite.leaderboard.table import Column, Contrast, Line

TASKS = [("gc", "dna"), ("tf", "dna"), ("voice", "music")]
COLUMNS = {
    name: Column("accuracy", True, {"name": f"{name}@x", "title": name, "modality": modality, "n_test": 999}, "b", 2)
    for name, modality in TASKS
}
GAINS = {
    ("dna", "gc"): (0.10, 0.004),
    ("dna", "tf"): (0.02, 0.03),
    ("dna", "voice"): (0.04, 0.012),
    ("music", "gc"): (-0.03, 0.03),
    ("music", "tf"): (0.01, 0.9),
    ("music", "voice"): (0.06, 0.02),
}


def contrasts(a: str, b: str) -> list[Contrast]:
    found = []
    for name, column in COLUMNS.items():
        if (a, name) in GAINS:
            gain, p = GAINS[a, name]
            found.append(Contrast(column, Line(a), Line(b), gain, gain - 0.05, gain + 0.05, p, p))
    return found


@pytest.fixture
def heat() -> matrix.Heat:
    found = matrix.build(Matrix(arms=["dna", "music", "speech"], against="random"), contrasts)
    assert found is not None
    return found


def test_holm_is_over_the_cells_off_the_diagonal_and_over_those_on_it(heat: matrix.Heat) -> None:
    by = {(x.first.arm, x.column.task["title"]): x.holm for found in heat.cells.values() for x in found}
    off = {("dna", "voice"): 0.036, ("music", "gc"): 0.06, ("music", "tf"): 0.9}  # 3, 2 and 1 times p
    own = {("dna", "gc"): 0.012, ("music", "voice"): 0.04, ("dna", "tf"): 0.04}  # 3 and 2 times; never below the last
    assert by == pytest.approx(off | own)
    assert heat.arms == ["dna", "music"] and heat.modalities == ["dna", "music"]


def test_means_count_a_cell_once_and_leave_out_the_diagonal(heat: matrix.Heat) -> None:
    assert heat.mean("dna", "dna") == pytest.approx(0.06) and heat.mean("dna", own=False) == pytest.approx(0.04)
    assert heat.mean(modality="dna", own=False) == pytest.approx(fmean([-0.03, 0.01]))
    assert heat.mean(own=False) == pytest.approx(fmean([0.04, -0.01]))  # and not the mean of three tasks
    assert heat.mean("speech") is None


def test_what_is_said(heat: matrix.Heat) -> None:
    assert words.matrix_answer(heat) == (
        "Pre-training on another domain is better than random in 1 of 3 cells (dna on voice), worse in 0, and not told "
        "apart from it in 2. The mean gain off the diagonal is +1.5 points, of the best source, dna, +4.0; on the "
        "diagonal it is +6.0."
    )
    assert [matrix.shade(x) for x in (0.05, -0.2, 0.0)] == [50, -100, 0]
    assert matrix.build(Matrix(arms=["speech"], against="random"), contrasts) is None
